"""The streaming graph in ONNX Runtime, whatever the execution provider.

Design notes: knows the graph and its features, nothing of segments, regions or
detection rows. The kept features never become numpy arrays: the output value of one
step is bound as the input of the next, on the device where it was made. A subclass is a
provider: its options, the device its values lie on, and what to say when it fails.

Shape legend: T frames, H rows, W columns, C feature channels.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from blinkloop.errors import DeviceError, InputError
from blinkloop.extras import require
from blinkloop.runtime.backends.contract import (
    DETECTIONS,
    MAPS,
    STEP_OUTPUTS,
    Port,
    check_contract,
    new_outputs,
    one_line,
    table_rows,
)
from blinkloop.runtime.backends.lean_graph import lean_graph
from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import BackendOutput

__all__ = ["OnnxRuntimeBackend", "usable_cpus"]


def usable_cpus() -> int:
    """CPUs this process may run on."""
    # A container or `taskset` often allows fewer than the machine has; only Linux says.
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


class OnnxRuntimeBackend:
    """Runs a model file; implements `blinkloop.runtime.protocols.Backend`.

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

    Raises
    ------
    InputError
        The file is damaged, its graph breaks the contract, or the provider does not
        load here.
    MissingExtraError
        onnxruntime is not installed.
    """

    name: ClassVar[str]
    extra: ClassVar[str]
    provider: ClassVar[str]
    device: ClassVar[str]
    """Device of the kept features, as ONNX Runtime calls it."""
    for_cpu: ClassVar[bool] = False
    """Whether the graph is rewritten for a CPU; see `lean_graph`."""

    def __init__(
        self,
        model: ModelFile,
        maps: CameraMaps,
        *,
        threshold: float | None = None,
        threads: int | None = None,
    ) -> None:
        try:
            onnxruntime = require("onnxruntime", f"The backend {self.name}", self.extra)
        except ImportError as error:  # on Windows: the Visual C++ runtime is missing
            raise InputError(
                f"onnxruntime is installed but does not load ({one_line(error)}); "
                f"reinstall it: pip install --force-reinstall onnxruntime"
            ) from error
        self._ort = onnxruntime
        self._card = model.card
        self.threads = threads or usable_cpus()
        self._model = model
        content, taken_out = lean_graph(model.path.read_bytes(), for_cpu=self.for_cpu)
        session = self._open(content)
        outputs = [Port(p.name, p.type, tuple(p.shape)) for p in session.get_outputs()]
        check_contract(
            model.path,
            model.card,
            [Port(p.name, p.type, tuple(p.shape)) for p in session.get_inputs()],
            outputs,
            taken_out=taken_out,
        )
        self._session = session
        self._rows = table_rows(outputs)
        self._with_maps: Any = None if taken_out else session
        self._binding = session.io_binding()
        value = model.card.detection.threshold if threshold is None else threshold
        self._threshold = self._value(np.array([value], np.float32))
        self._starts = {
            flag: self._value(np.array([flag], np.float32)) for flag in (False, True)
        }
        self._features: Any = None
        self._zeros: Any = None
        self.set_camera(maps)

    def set_camera(self, maps: CameraMaps) -> None:
        """Use these maps from the next step on: 1 x 1, or of the frames' size."""
        self._maps = maps
        self._offset = self._value(maps.offset_adu)
        self._gain = self._value(maps.photons_per_adu)

    def step(
        self, frames: npt.NDArray[np.float32], *, segment_start: bool
    ) -> BackendOutput:
        """Run the graph on T frames; see `Backend.step`.

        Raises
        ------
        DeviceError
            ONNX Runtime failed (out of memory, for one).
        ValueError
            Frames that are not (T, H, W), or that do not continue the segment.
        """
        features = self._features_for(frames, segment_start)
        # Until the step has succeeded there is no segment to continue.
        self._features = None
        # No copy: the caller's (preallocated) array is the graph's input.
        frames = np.ascontiguousarray(frames, np.float32)
        try:
            *arrays, self._features = self._run(frames, features, segment_start)
        except Exception as error:
            raise self._failure(error, frames) from error
        return BackendOutput(*arrays)

    def maps(
        self, frames: npt.NDArray[np.float32], *, segment_start: bool = True
    ) -> npt.NDArray[np.float32]:
        """Channel maps (T, 10, H, W), one frame late; for `verify`.

        Starts from the kept features like `step`, but leaves them as they are. The
        graph with its maps is loaded at the first call.
        """
        features = self._features_for(frames, segment_start)
        if self._with_maps is None:
            self._with_maps = self._open(self._model.path.read_bytes())
        feed = {
            "frames": np.ascontiguousarray(frames, np.float32),
            "features_in": features.numpy(),
            "segment_start": np.array([segment_start], np.float32),
            "offset_adu": self._maps.offset_adu,
            "photons_per_adu": self._maps.photons_per_adu,
            "threshold": self._threshold.numpy(),
        }
        try:
            (maps,) = self._with_maps.run([MAPS], feed, self._maps_options())
        except Exception as error:
            raise self._failure(error, frames) from error
        return np.asarray(maps, np.float32)

    def close(self) -> None:
        """Let go of the features and the session's memory; `step` is over."""
        self._features = self._zeros = None
        self._binding = self._session = self._with_maps = None

    def _run(
        self, frames: npt.NDArray[np.float32], features: Any, segment_start: bool
    ) -> list[Any]:
        """One call: five arrays and the features, which stay on the device."""
        binding = self._binding
        binding.clear_binding_inputs()
        binding.clear_binding_outputs()
        # A value on the CPU shares the array's memory; the provider fetches it.
        binding.bind_ortvalue_input(
            "frames", self._ort.OrtValue.ortvalue_from_numpy(frames)
        )
        binding.bind_ortvalue_input("features_in", features)
        binding.bind_ortvalue_input("segment_start", self._starts[segment_start])
        binding.bind_ortvalue_input("offset_adu", self._offset)
        binding.bind_ortvalue_input("photons_per_adu", self._gain)
        binding.bind_ortvalue_input("threshold", self._threshold)
        arrays = new_outputs(self._rows, *frames.shape)
        *small, kept = STEP_OUTPUTS
        for output in small:
            if output in arrays:
                value = self._ort.OrtValue.ortvalue_from_numpy(arrays[output])
                binding.bind_ortvalue_output(output, value)
            else:
                binding.bind_output(output)
        binding.bind_output(kept, self.device)
        self._session.run_with_iobinding(binding)
        made = binding.get_outputs()
        if DETECTIONS not in arrays:  # the graph said how many rows
            arrays[DETECTIONS] = made[STEP_OUTPUTS.index(DETECTIONS)].numpy()
        return [*(arrays[output] for output in small), made[-1]]

    def _open(self, content: bytes) -> Any:
        """A session of a model file's content, on this provider or not at all."""
        try:
            return self._load(content)
        except InputError:
            raise
        except Exception as error:  # ORT's exception classes share no public base.
            raise InputError(
                f"{self._model.path}: onnxruntime {self._ort.__version__} cannot "
                f"load this graph ({one_line(error)}); the file is damaged or needs a "
                f"newer onnxruntime; copy or export it again"
            ) from error

    def _load(self, content: bytes) -> Any:
        """The session; whatever goes wrong with the graph may be raised."""
        onnxruntime = self._ort
        if self.provider not in onnxruntime.get_available_providers():
            raise InputError(
                f"this onnxruntime {onnxruntime.__version__} was built without "
                f"{self.provider}; {self._remedy()}"
            )
        session = onnxruntime.InferenceSession(
            content,
            self._session_options(),
            providers=[(self.provider, self._provider_options())],
        )
        # A provider whose libraries are missing is replaced by the CPU, in silence.
        if session.get_providers()[0] != self.provider:
            raise InputError(
                f"onnxruntime {onnxruntime.__version__} cannot start {self.provider} "
                f"here; {self._remedy()}"
            )
        return session

    def _session_options(self) -> Any:
        onnxruntime = self._ort
        options = onnxruntime.SessionOptions()
        # Always a number: 0 lets ORT pin one thread per core of the machine, which
        # fails loudly where only some cores are allowed and fights the camera thread.
        options.intra_op_num_threads = self.threads
        # The graph is a chain with four small heads: running nodes side by side gains
        # nothing and takes threads from the convolutions, which scale well.
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.inter_op_num_threads = 1
        # All rewrites, layout included: NCHWc convolutions are the fast ones on a CPU.
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.graph_optimization_level = level
        # Reuses memory between calls, so that a step in a long run allocates nothing.
        options.enable_cpu_mem_arena = True
        # One planned block per input shape: a run has one or two shapes (its chunk size
        # and the flush), so the plans are few and hit nearly always.
        options.enable_mem_pattern = True
        options.enable_mem_reuse = True
        # Idle workers sleep instead of burning the core the camera thread needs; waking
        # them costs microseconds against milliseconds per frame.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # Not set: `session.set_denormal_as_zero`. It would flush subnormal numbers in
        # the calling thread for good, in every other library of the program too.
        # Errors only: warnings go to stderr from C++ and would break up a status line.
        options.log_severity_level = 3
        return options

    def _provider_options(self) -> dict[str, str]:
        return {}

    def _maps_options(self) -> Any:
        """Run options of `maps`."""
        return None

    def _remedy(self) -> str:
        """What to do when the provider is not there."""
        return f'install it: pip install "blinkloop[{self.extra}]"'

    def _features_for(self, frames: npt.NDArray[np.float32], start: bool) -> Any:
        if self._session is None:
            raise ValueError("the backend is closed")
        if frames.ndim != 3 or 0 in frames.shape:
            raise ValueError(f"frames must be (T, H, W) without 0, got {frames.shape}")
        architecture = self._card.architecture
        size = architecture.feature_size(*frames.shape[1:])
        shape = [2, architecture.kept_channels, *size]
        if start:
            if self._zeros is None or self._zeros.shape() != shape:
                self._zeros = self._value(np.zeros(shape, np.float32))
            return self._zeros
        if self._features is None or self._features.shape() != shape:
            raise ValueError(
                "no segment of this frame size is open; begin with segment_start=True"
            )
        return self._features

    def _value(self, array: npt.NDArray[np.float32]) -> Any:
        # On the CPU an OrtValue shares the array's memory and keeps it alive.
        return self._ort.OrtValue.ortvalue_from_numpy(array, self.device, 0)

    def _failure(
        self, error: Exception, frames: npt.NDArray[np.float32]
    ) -> DeviceError:
        count, height, width = frames.shape
        return DeviceError(
            f"{self.name} failed on {count} frames of {width} x {height} px "
            f"({one_line(error)}); if memory ran out, use fewer frames per call or a "
            f"smaller region"
        )
