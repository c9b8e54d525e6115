"""What the pipeline asks of the objects it joins. Each has many implementations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.records import Frame, FrameResult, Gap, Roi

__all__ = [
    "Backend",
    "BackendOutput",
    "FrameSource",
    "Laser",
    "Localizer",
    "Observer",
    "Recorder",
    "Sink",
]


@runtime_checkable
class FrameSource(Protocol):
    """A camera, or something that acts as one.

    `frames()` runs on the camera thread and ends when the acquisition ends or after
    `stop()` (callable from any thread). Losses known to the source (an overflowed
    camera ring, say) appear as jumps in `Frame.index`. `lost` counts frames the
    source knows it lost after the last one it delivered.
    """

    @property
    def roi(self) -> Roi: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def lost(self) -> int: ...
    def camera_facts(self) -> Mapping[str, Any]:
        """Facts as keyword arguments of `CameraSettings`; only those known."""
        ...

    def start(self) -> None: ...
    def frames(self) -> Iterator[Frame]:
        """Yield frames; the pixels may be reused after the next one is taken."""
        ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class BackendOutput:
    """Outputs of the streaming graph for one call; see docs/architecture.md."""

    detections: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    count_mean: npt.NDArray[np.float32]
    count_variance: npt.NDArray[np.float32]
    block_mean: npt.NDArray[np.float32]


class Backend(Protocol):
    """Runs the streaming graph. Keeps the features; `segment_start` resets them."""

    @property
    def name(self) -> str: ...
    def set_camera(self, maps: CameraMaps) -> None:
        """Use these maps from the next step on: 1 x 1, or of the frames' size."""
        ...

    def step(
        self, frames: npt.NDArray[np.float32], *, segment_start: bool
    ) -> BackendOutput:
        """(T, H, W) ADU in, T rows out, one frame late (row 0 describes frame -1)."""
        ...

    def close(self) -> None: ...


class Localizer(Protocol):
    """Frames in, results out, in order, one frame late."""

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]: ...
    def flush(self) -> list[FrameResult]: ...
    def close(self) -> None: ...


class Sink(Protocol):
    """Keeps results. A sink that raises is closed and named; the run goes on."""

    def open(self, meta: Mapping[str, Any]) -> None: ...
    def write(self, results: Sequence[FrameResult]) -> None: ...
    def gap(self, gap: Gap) -> None: ...
    def close(self, meta: Mapping[str, Any]) -> Mapping[str, str]:
        """Finish; returns {kind: path} of what was written."""
        ...


class Recorder(Protocol):
    """Keeps every frame a source delivers. Never waits, as the camera thread calls."""

    def open(self, meta: Mapping[str, Any]) -> None: ...
    def put(self, frame: Frame) -> None:
        """Keep a copy; raises `DeviceError` once that is not possible any more."""
        ...

    def mark(self, gap: Gap) -> None: ...
    def close(self, meta: Mapping[str, Any]) -> Sequence[str]:
        """Finish; what went wrong, one line each."""
        ...

    def discard(self) -> None: ...
    def summary(self) -> Mapping[str, Any]: ...


class Observer(Protocol):
    """Follows a run as it goes (feedback loop, status line, dashboard)."""

    def observe(self, results: Sequence[FrameResult]) -> None: ...
    def gap(self, gap: Gap) -> None: ...
    def close(self) -> None:
        """Always called at the end of a run, however it ends."""
        ...


class Laser(Protocol):
    """One writable number of one device. Only `LaserGuard` may call `write`."""

    @property
    def label(self) -> str: ...
    @property
    def limits(self) -> tuple[float, float]: ...
    def write(self, value: float) -> None:
        """Set the value; raises `DeviceError` when the device refuses."""
        ...

    def read(self) -> float: ...
