"""Settings, states and status snapshot of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from blinkloop.errors import InputError

__all__ = ["PipelineSettings", "PipelineState", "PipelineStatus"]


class PipelineState(StrEnum):
    """Where a run stands; the diagram is in `blinkloop.runtime.pipeline`."""

    IDLE = "idle"
    RUNNING = "running"
    DRAINING = "draining"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """How frames are handed over and how long the pipeline waits for others.

    Parameters
    ----------
    ring_frames
        Frames the hand-over holds; None: as many as `ring_mb` allow, 8 to 1024.
    ring_mb
        Memory of the hand-over in MiB when `ring_frames` is None.
    ring_policy
        What goes when it is full: "latest" drops the oldest frames, "newest" the
        incoming one.
    wait
        True: the source waits instead (a movie from disk, never a camera).
    max_batch
        Frames analysed in one call when the analysis is behind.
    call_s
        A call takes no more frames than are analysed in about so long, so that a slow
        computer still reacts to a stop.
    writer_queue
        Results or gaps that may wait for the sinks.
    stall_s
        Observers are told when the source is silent for longer.
    stall_abort_s
        The run ends when it is silent for longer; None = never.
    drain_s
        After a stop, frames still waiting are analysed for at most this long.
    hung_s
        How long to wait for an analysis that was told to give up.
    close_s
        How long the sinks may take to write what waits and to close.
    """

    ring_frames: int | None = None
    ring_mb: float = 64.0
    ring_policy: Literal["latest", "newest"] = "latest"
    wait: bool = False
    max_batch: int = 16
    call_s: float = 1.0
    writer_queue: int = 256
    stall_s: float = 2.0
    stall_abort_s: float | None = 30.0
    drain_s: float = 10.0
    hung_s: float = 5.0
    close_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("ring_frames", "max_batch", "writer_queue"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        times = ("call_s", "stall_s", "stall_abort_s", "drain_s", "hung_s", "close_s")
        for name in ("ring_mb", *times):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name} must be above 0, got {value}")

    def ring_capacity(self, frame_bytes: int) -> int:
        """Frames the ring holds for frames of that size."""
        if self.ring_frames is not None:
            return self.ring_frames
        return min(max(int(self.ring_mb * 2**20 / max(frame_bytes, 1)), 8), 1024)


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """Snapshot for status lines and dashboards.

    `frames_seen` includes frames on their way. `latency_ms` is NaN before the first
    result.
    """

    state: PipelineState
    frames_seen: int = 0
    frames_localized: int = 0
    frames_skipped: int = 0
    frames_lost: int = 0
    localizations: int = 0
    tables_full: int = 0
    ring_fill: int = 0
    ring_frames: int = 0
    ring_high_water: int = 0
    overflowed: bool = False
    writer_fill: int = 0
    latency_ms_p50: float = float("nan")
    latency_ms_p99: float = float("nan")
    elapsed_s: float = 0.0
    silent_s: float = 0.0
    failure: str | None = None
