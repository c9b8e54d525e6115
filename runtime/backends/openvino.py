"""The streaming graph in OpenVINO, on the CPU.

Design notes: as the other backends, knows nothing of segments, regions or detection
rows. Only detections are copied, as nobody knows their number before the call: frames
are read where the caller has them, kept features stay where they were written (older,
newer), what else is small is written to arrays that are handed on.

OpenVINO holds plain pointers to arrays, so whatever a request is given must stay
referenced here until the call is over. And its CPU plugin does not look whether shapes
broadcast: sizes are compared before each call.

Precision: OpenVINO's own choice is bf16 where the CPU has it, 8 bits of mantissa. Ours
is fp32 unless asked, because no card's tolerances allow bf16 (`verify` says so).

Shape legend: T frames, H rows, W columns, C feature channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from blinkloop.errors import DeviceError, InputError
from blinkloop.extras import require
from blinkloop.runtime.backends.contract import (
    DETECTIONS,
    MAPS,
    Port,
    check_contract,
    new_outputs,
    one_line,
    table_rows,
)
from blinkloop.runtime.backends.lean_graph import lean_graph
from blinkloop.runtime.backends.onnxruntime_session import usable_cpus
from blinkloop.runtime.backends.openvino_graph import (
    AFTER,
    BEFORE,
    fixed,
    read_channels_last,
    single,
    split_kept,
)
from blinkloop.runtime.backends.slices import PIXELS_PER_SLICE, step_in_slices
from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import BackendOutput

__all__ = ["OpenVinoBackend"]

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_CLEARLY_MORE = 4
_TYPES = {"f32": "tensor(float)", "i64": "tensor(int64)"}

_Floats = npt.NDArray[np.float32]


class OpenVinoBackend:
    """Runs a model file on the CPU; implements `blinkloop.runtime.protocols.Backend`.

    Parameters
    ----------
    model
        The model file.
    maps
        Camera maps of the frames to come; see `set_camera`.
    threshold
        Detection threshold; default: the card's.
    threads
        Threads of one call; default: all CPUs this process may use.
    precision
        Of the arithmetic inside the network: "fp32", or "bf16" on a CPU that has it.

    Raises
    ------
    InputError
        The file is damaged, its graph breaks the contract, or this CPU has no bf16.
    MissingExtraError
        openvino is not installed.
    """

    def __init__(
        self,
        model: ModelFile,
        maps: CameraMaps,
        *,
        threshold: float | None = None,
        threads: int | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self.name = "openvino" if precision == "fp32" else f"openvino:{precision}"
        try:
            self._openvino = require("openvino", f"The backend {self.name}", "openvino")
        except ImportError as error:  # a library that it needs is missing
            raise InputError(
                f"openvino is installed but does not load ({one_line(error)}); "
                f"reinstall it: pip install --force-reinstall openvino"
            ) from error
        self.threads = threads or usable_cpus()
        self._model, self._precision = model, precision
        self._card = model.card
        self._options = self._compile_options()
        self._graph, self._single, self._channels_last = self._read(with_maps=False)
        self._rows = table_rows([_port(port) for port in self._graph.outputs])
        self._request: Any = self._compile(self._graph)
        self._fixed: tuple[tuple[int, ...], Any] = ((), None)
        self._segments_of_size = Counter[tuple[int, ...]]()
        self._with_maps: Any = None
        value = model.card.detection.threshold if threshold is None else threshold
        self._constants = {"threshold": np.array([value], np.float32)}
        self._starts = {flag: np.array([flag], np.float32) for flag in (False, True)}
        # Of the two frames before; those of one frame may be both.
        self._features: tuple[_Floats, _Floats] | None = None
        self._spare: list[_Floats] = []
        self._segment_open = False
        self.set_camera(maps)

    def set_camera(self, maps: CameraMaps) -> None:
        """Use these maps from the next step on: 1 x 1, or of the frames' size."""
        for name, array in (
            ("offset_adu", maps.offset_adu),
            ("photons_per_adu", maps.photons_per_adu),
        ):
            self._constants[name] = np.ascontiguousarray(array, np.float32)

    def step(self, frames: _Floats, *, segment_start: bool) -> BackendOutput:
        """Run the graph on T frames; see `Backend.step`.

        Raises
        ------
        DeviceError
            OpenVINO failed (out of memory, for one).
        ValueError
            Frames that are not (T, H, W), or that do not continue the segment.
        """
        return step_in_slices(self._step, frames, segment_start)

    def _step(self, frames: _Floats, segment_start: bool) -> BackendOutput:
        before = self._features_before(frames, segment_start)
        # Until the step has succeeded there is no segment to continue.
        self._segment_open = False
        frames = np.ascontiguousarray(frames, np.float32)
        outputs = new_outputs(self._rows, *frames.shape)
        request, written = self._request_for(frames, before[0].shape, segment_start)
        after = dict(zip(written, self._spares(before, len(written)), strict=True))
        inputs = self._inputs(frames, before, segment_start)
        self._infer(request, {**inputs, **outputs, **after}, frames)
        # OpenVINO writes into what it was given; should it ever not, take its own.
        for name, array in (*outputs.items(), *after.items()):
            got = request.get_tensor(name).data
            if got.ctypes.data != array.ctypes.data:
                array[...] = got
        if DETECTIONS not in outputs:  # the graph said how many rows
            table = request.get_tensor(DETECTIONS).data
            outputs[DETECTIONS] = np.array(table, np.float32)
        newer = after[AFTER[1]]
        # A frame alone does not repeat what is there; the first is its own previous.
        older = after.get(AFTER[0], newer if segment_start else before[1])
        self._spare += [
            array
            for array in {id(array): array for array in before}.values()
            if array is not older
        ]
        self._features = (older, newer)
        self._segment_open = True
        return BackendOutput(**outputs)

    def maps(self, frames: _Floats, *, segment_start: bool = True) -> _Floats:
        """Channel maps (T, 10, H, W), one frame late; for `verify`.

        Starts from the kept features like `step`, but leaves them as they are. The
        graph with its maps is compiled at the first call.
        """
        before = self._features_before(frames, segment_start)
        if self._with_maps is None:
            graph, *_ = self._read(with_maps=True)
            self._with_maps = self._compile(graph)
        frames = np.ascontiguousarray(frames, np.float32)
        request = self._with_maps
        self._infer(request, self._inputs(frames, before, segment_start), frames)
        return np.array(request.get_tensor(MAPS).data, np.float32)

    def close(self) -> None:
        """Let go of the features and OpenVINO's memory; `step` is over."""
        self._graph = self._single = self._request = self._with_maps = None
        self._fixed = ((), None)
        self._features = None
        self._spare = []
        self._segment_open = False

    def _compile_options(self) -> dict[str, Any]:
        if self._precision == "bf16":
            core = self._openvino.Core()
            able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if "BF16" not in able:
                raise InputError(
                    "this CPU has no bf16 arithmetic; use the backend 'openvino', "
                    "which computes in fp32"
                )
        return {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "PERFORMANCE_HINT": "LATENCY",
            # One call at a time, with all threads: frames follow upon each other.
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": self.threads,
            # Pinned threads would fight the camera thread for its core.
            "ENABLE_CPU_PINNING": False,
            # Would flush subnormal numbers of the calling thread, for good.
            "CPU_DENORMALS_OPTIMIZATION": False,
        }

    def _read(self, *, with_maps: bool) -> tuple[Any, Any, bool]:
        """The file's graph for calls of any length and for those of one frame.

        None in place of the latter where there is none; and whether the channels of
        kept features come last.
        """
        model, taken_out = self._model, tuple[str, ...]()
        with self._blaming_the_file():
            content = model.path.read_bytes()
            if not with_maps:
                # Nothing but `verify` asks for them, and all outputs are computed.
                content, taken_out = lean_graph(content, for_cpu=True)
            graph = self._openvino.Core().read_model(BytesIO(content))
        check_contract(
            model.path,
            model.card,
            [_port(port) for port in graph.inputs],
            [_port(port) for port in graph.outputs],
            taken_out=taken_out,
        )
        with self._blaming_the_file():
            alone = None if with_maps else single(graph)
            channels_last = read_channels_last(graph)
            if not channels_last:
                split_kept(graph)
            return graph, alone if channels_last else None, channels_last

    def _compile(self, graph: Any) -> Any:
        with self._blaming_the_file():
            compiled = self._openvino.Core().compile_model(graph, "CPU", self._options)
            return compiled.create_infer_request()

    @contextmanager
    def _blaming_the_file(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # one class of OpenVINO's derives from RuntimeError
            raise InputError(
                f"{self._model.path}: openvino {self._openvino.__version__} cannot "
                f"load this graph ({one_line(error)}); the file is damaged or needs a "
                f"newer openvino; copy or export it again"
            ) from error

    def _request_for(
        self, frames: _Floats, features: tuple[int, ...], start: bool
    ) -> tuple[Any, tuple[str, ...]]:
        """What computes such a call, and the features that it writes.

        A graph of this size, or the one of any: compiling takes 0.2 s, which nobody has
        once a camera runs. So it is done for the first call of all; and again when
        segments of another size have become clearly more (tiles differ in size and take
        turns). Calls of another length are left to the graph of any size.
        """
        size, request = self._fixed
        if start:
            self._segments_of_size[frames.shape[1:]] += 1
            lead = (
                self._segments_of_size[frames.shape[1:]]
                - self._segments_of_size[size[1:]]
            )
            if request is None or lead >= _CLEARLY_MORE:
                size, request = self._fixed = self._fix(frames.shape, features)
        if size != frames.shape:
            if self._request is None:
                self._request = self._compile(self._graph)
            return self._request, AFTER
        return request, AFTER[1:] if self._is_single(size) else AFTER

    def _fix(
        self, frames: tuple[int, ...], features: tuple[int, ...]
    ) -> tuple[tuple[int, ...], Any]:
        """A graph compiled for calls of that size, with the size."""
        if 2 * frames[1] * frames[2] > PIXELS_PER_SLICE:
            # All calls are of one frame: let go of what would be used for others.
            self._fixed, self._request = ((), None), None
        graph = self._single if self._is_single(frames) else self._graph
        return frames, self._compile(fixed(graph, frames, features))

    def _is_single(self, frames: tuple[int, ...]) -> bool:
        return frames[0] == 1 and self._single is not None

    def _inputs(
        self, frames: _Floats, before: tuple[_Floats, _Floats], segment_start: bool
    ) -> dict[str, _Floats]:
        return {
            "frames": frames,
            **dict(zip(BEFORE, before, strict=True)),
            "segment_start": self._starts[segment_start],
            **self._constants,
        }

    def _infer(
        self, request: Any, given: dict[str, npt.NDArray[Any]], frames: _Floats
    ) -> None:
        size = frames.shape[1:]
        try:
            for name in ("offset_adu", "photons_per_adu"):
                shape = given[name].shape
                if any(n not in (1, s) for n, s in zip(shape, size, strict=True)):
                    raise ValueError(f"{name} is {shape[1]} x {shape[0]} px")
            for name, array in given.items():
                tensor = self._openvino.Tensor(array, shared_memory=True)
                request.set_tensor(name, tensor)
            request.infer()
        except Exception as error:
            count, height, width = frames.shape
            raise DeviceError(
                f"{self.name} failed on {count} frames of {width} x {height} px "
                f"({one_line(error)}); if memory ran out, use fewer frames per call or "
                f"a smaller region"
            ) from error

    def _features_before(self, frames: _Floats, start: bool) -> tuple[_Floats, _Floats]:
        """Kept features of the two frames before: older, newer."""
        if self._graph is None:
            raise ValueError("the backend is closed")
        if frames.ndim != 3 or 0 in frames.shape:
            raise ValueError(f"frames must be (T, H, W) without 0, got {frames.shape}")
        architecture = self._card.architecture
        size = architecture.feature_size(*frames.shape[1:])
        channels = (architecture.kept_channels,)
        shape = (1, *size, *channels) if self._channels_last else (1, *channels, *size)
        kept = self._features
        if kept is None or kept[0].shape != shape:
            if not start:
                kept = None
            else:
                self._spare = []
                kept = self._features = (np.zeros(shape, np.float32),) * 2
        if kept is None or not (start or self._segment_open):
            raise ValueError(
                "no segment of this frame size is open; begin with segment_start=True"
            )
        return kept

    def _spares(self, before: tuple[_Floats, _Floats], count: int) -> list[_Floats]:
        """Arrays to write features to; not those that are read."""
        while len(self._spare) < count:
            self._spare.append(np.zeros_like(before[0]))
        taken, self._spare = self._spare[:count], self._spare[count:]
        return taken


def _port(port: Any) -> Port:
    kind = port.element_type.get_type_name()
    shape = (d.get_length() if d.is_static else None for d in port.partial_shape)
    return Port(port.any_name, _TYPES.get(kind, f"tensor({kind})"), tuple(shape))
