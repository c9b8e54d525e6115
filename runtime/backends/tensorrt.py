"""The streaming graph as an engine of TensorRT, or of TensorRT for RTX.

Frames go to the GPU in one copy, detections and sums come back in one; the kept
features are written to one of two buffers and read from the other, so they never move.

Design notes: knows the graph and its features, nothing of segments, regions or
detection rows. Files are checked in `tensorrt_engine`, memory is planned in
`tensorrt_plan`, calls run in `tensorrt_session`.

Shape legend: T frames, H rows, W columns.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from blinkloop.engine_file import read_engine
from blinkloop.engine_kinds import engine_kind
from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.backends.contract import STEP_OUTPUTS
from blinkloop.runtime.backends.tensorrt_cuda import CudaDevice, Device
from blinkloop.runtime.backends.tensorrt_engine import check_here, find_engine
from blinkloop.runtime.backends.tensorrt_plan import call_plan, split_calls
from blinkloop.runtime.backends.tensorrt_session import Call, CallMemory, LoadedEngine
from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import BackendOutput
from blinkloop.schema import PrecisionName
from blinkloop.tensorrt_module import load_tensorrt

__all__ = ["TensorRtBackend"]

_FLOAT_BYTES = 4
_OUTPUTS = tuple(name for name in STEP_OUTPUTS if name != "features_out")
_MAP_NAMES = ("offset_adu", "photons_per_adu")


class TensorRtBackend:
    """Runs an engine file; implements `blinkloop.runtime.protocols.Backend`.

    Parameters
    ----------
    model
        An engine file, or an ONNX model with an engine beside it.
    maps
        Camera maps of the frames to come; see `set_camera`.
    threshold
        Detection threshold; default: the card's.
    kind
        Name in `blinkloop.engine_file.ENGINE_KINDS`; also the backend's name.
    module, device
        The TensorRT module and the GPU; by default those of this machine.

    Raises
    ------
    DeviceError
        No GPU, or it refuses.
    InputError
        No engine, or one that is stale, damaged, or of another version or GPU.
    MissingExtraError
        The module is not installed.
    """

    def __init__(
        self,
        model: ModelFile,
        maps: CameraMaps,
        *,
        threshold: float | None = None,
        kind: str = "tensorrt-rtx",
        module: Any = None,
        device: Device | None = None,
    ) -> None:
        self.name = kind
        wanted = engine_kind(kind)
        self.path = find_engine(model, wanted)
        trt = module or load_tensorrt(wanted, f"The backend {kind}")
        header, engine = read_engine(self.path)
        self._header, self._card = header, header.card
        self._device = CudaDevice() if device is None else device
        try:
            gpu = self._device.gpu
            check_here(self.path, header, wanted, gpu)
            loaded = LoadedEngine(trt, self.path, header, engine, gpu)
            self._engine: LoadedEngine | None = loaded
            value = self._card.detection.threshold if threshold is None else threshold
            self._threshold = self._constant(np.array([value], np.float32))
        except BaseException:
            self._device.close()
            raise
        self._size: tuple[int, int] | None = None
        self._features = [0, 0]
        self._maps_at = dict.fromkeys(_MAP_NAMES, 0)
        self._map_shapes: tuple[tuple[int, ...], ...] = ()
        self._memory: dict[int, CallMemory] = {}
        self._calls: dict[tuple[int, int], Call] = {}
        self._scratch, self._scratch_bytes = 0, 0
        # Which of the two buffers holds the kept features; None: no open segment.
        self._kept: int | None = None
        self._maps, self._maps_sent = maps, False

    @property
    def precision_name(self) -> PrecisionName:
        """Number type the engine computes in; float where its model is int8."""
        return self._card.precision_name

    def set_camera(self, maps: CameraMaps) -> None:
        """Use these maps from the next step on: 1 x 1, or of the frames' size."""
        if maps is not self._maps:
            self._maps, self._maps_sent = maps, False

    def step(
        self, frames: npt.NDArray[np.float32], *, segment_start: bool
    ) -> BackendOutput:
        """Run the engine on T frames; see `Backend.step`.

        Any T is taken: more than the engine's range becomes several calls.

        Raises
        ------
        DeviceError
            CUDA or TensorRT failed.
        InputError
            The frames' size is outside of the engine's range.
        ValueError
            Frames that are not (T, H, W), or that do not continue the segment.
        """
        self._check(frames, segment_start)
        source = 0 if segment_start else cast(int, self._kept)
        # Until the step has succeeded there is no segment to continue.
        self._kept = None
        parts: list[dict[str, npt.NDArray[Any]]] = []
        first = 0
        try:
            self._prepare(frames)
            for count in split_calls(len(frames), self._header.sizes.frames[2]):
                chunk = frames[first : first + count]
                call = self._run(chunk, source, segment_start and not first)
                # Copies: the next call writes into the same memory.
                parts.append({n: call.memory.outputs[n].copy() for n in _OUTPUTS})
                first, source = first + count, 1 - source
        except DeviceError as error:
            raise self._failure(error, frames) from error
        self._kept = source
        if len(parts) == 1:
            return BackendOutput(**parts[0])
        joined = {n: np.concatenate([part[n] for part in parts]) for n in _OUTPUTS}
        return BackendOutput(**joined)

    def maps(
        self, frames: npt.NDArray[np.float32], *, segment_start: bool = True
    ) -> npt.NDArray[np.float32]:
        """Channel maps (T, 10, H, W), one frame late; for `verify`.

        Starts from the kept features like `step`, but leaves them as they are. T must
        lie in the engine's range.
        """
        self._check(frames, segment_start)
        if len(frames) > self._header.sizes.frames[2]:
            raise ValueError(
                f"maps of {len(frames)} frames; the engine takes "
                f"{self._header.sizes.frames[2]} in a call"
            )
        try:
            self._prepare(frames)
            # Reads the buffer of the kept features, if any, and writes the other one.
            source = 0 if self._kept is None else self._kept
            call = self._run(frames, source, segment_start)
            result = np.empty(call.memory.plan.maps, np.float32)
            self._device.download(_bytes(result), call.memory.maps)
            self._device.wait()
        except DeviceError as error:
            self._kept = None
            raise self._failure(error, frames) from error
        return result

    def close(self) -> None:
        """Let go of the engine and all memory; `step` is over."""
        if self._engine is None:
            return
        engine, self._engine = self._engine, None
        # A GPU that has failed answers every call with an error, and its memory goes
        # with the process; closing must not hide what happened before.
        with suppress(DeviceError):
            self._device.activate()
            self._device.wait()
            self._forget_size()
            self._device.release(self._threshold)
        engine.close()
        with suppress(DeviceError):
            self._device.close()

    def _check(self, frames: npt.NDArray[np.float32], start: bool) -> None:
        if self._engine is None:
            raise ValueError("the backend is closed")
        if frames.ndim != 3 or 0 in frames.shape:
            raise ValueError(f"frames must be (T, H, W) without 0, got {frames.shape}")
        height, width = frames.shape[1:]
        sizes = self._header.sizes
        if not sizes.holds(height, width):
            raise InputError(
                f"frames of {height} x {width} px (height x width) do not fit the "
                f"engine {self.path}, built for {sizes.size_text()}; build one for "
                f"them: blinkloop export MODEL.onnx --engine {self.name} --engine-size "
                f"{height}x{width}"
            )
        if not start and (self._kept is None or self._size != (height, width)):
            raise ValueError(
                "no segment of this frame size is open; begin with segment_start=True"
            )

    def _prepare(self, frames: npt.NDArray[np.float32]) -> None:
        """Memory for frames of this size, with the camera maps in it."""
        device, (height, width) = self._device, frames.shape[1:]
        device.activate()
        if self._size != (height, width):
            self._forget_size()
            plan = call_plan(self._card, 1, height, width)
            nbytes = int(np.prod(plan.features)) * _FLOAT_BYTES
            for side in range(2):
                self._features[side] = device.allocate(nbytes)
                device.clear(self._features[side], nbytes)
            for name in _MAP_NAMES:
                self._maps_at[name] = device.allocate(height * width * _FLOAT_BYTES)
            self._size, self._maps_sent = (height, width), False
        if self._maps_sent:
            return
        for name, address in self._maps_at.items():
            values = np.ascontiguousarray(getattr(self._maps, name), np.float32)
            if values.shape not in ((1, 1), (height, width)):
                raise DeviceError(f"the camera map {name} is {values.shape}")
            device.upload(address, _bytes(values))
            device.wait()
        shapes = tuple(getattr(self._maps, name).shape for name in _MAP_NAMES)
        if shapes != self._map_shapes:
            self._drop_calls()  # their contexts know the shapes of the maps
        self._map_shapes, self._maps_sent = shapes, True

    def _run(
        self, frames: npt.NDArray[np.float32], source: int, segment_start: bool
    ) -> Call:
        """One call from the features in buffer `source` to those in the other."""
        call = self._call(len(frames), source)
        np.copyto(call.memory.inputs["frames"], frames)
        call.memory.inputs["segment_start"][0] = segment_start
        call.run()
        return call

    def _call(self, count: int, source: int) -> Call:
        key = (count, source)
        if key in self._calls:
            return self._calls[key]
        assert self._engine is not None  # `_check` and `_prepare` were here
        assert self._size is not None
        if count not in self._memory:
            plan = call_plan(self._card, count, *self._size)
            self._memory[count] = CallMemory(self._device, plan)
        memory = self._memory[count]
        addresses = memory.addresses() | self._maps_at
        addresses["threshold"] = self._threshold
        addresses["features_in"] = self._features[source]
        addresses["features_out"] = self._features[1 - source]
        shapes = {name: slot.shape for name, slot in memory.plan.upload.slots.items()}
        shapes["features_in"] = memory.plan.features
        shapes["threshold"] = (1,)
        shapes |= dict(zip(_MAP_NAMES, self._map_shapes, strict=True))
        call = Call(self._engine, self._device, memory, addresses, shapes)
        self._calls[key] = call
        if call.scratch_bytes > self._scratch_bytes:
            self._grow_scratch(call.scratch_bytes)
        elif self._scratch_bytes:
            call.use_scratch(self._scratch, self._scratch_bytes)
        return call

    def _grow_scratch(self, nbytes: int) -> None:
        address = self._device.allocate(nbytes)
        for call in self._calls.values():
            call.use_scratch(address, nbytes)
        if self._scratch_bytes:
            self._device.release(self._scratch)
        self._scratch, self._scratch_bytes = address, nbytes

    def _drop_calls(self) -> None:
        for call in self._calls.values():
            call.close()
        self._calls = {}

    def _forget_size(self) -> None:
        """Release all memory that depends on the frame size."""
        self._drop_calls()
        for memory in self._memory.values():
            memory.close()
        self._memory = {}
        if self._size is not None:
            for address in (*self._features, *self._maps_at.values()):
                self._device.release(address)
        if self._scratch_bytes:
            self._device.release(self._scratch)
        self._size, self._kept = None, None
        self._scratch, self._scratch_bytes = 0, 0

    def _constant(self, values: npt.NDArray[np.float32]) -> int:
        self._device.activate()
        address = self._device.allocate(values.nbytes)
        self._device.upload(address, _bytes(values))
        self._device.wait()
        return address

    def _failure(
        self, error: DeviceError, frames: npt.NDArray[np.float32]
    ) -> DeviceError:
        count, height, width = frames.shape
        return DeviceError(
            f"{self.name} failed on {count} frames of {width} x {height} px ({error})"
        )


def _bytes(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The array's memory as bytes; not copied."""
    return values.reshape(-1).view(np.uint8)
