"""The rolling three-frame window, as bookkeeping without any pixels.

Frames are cut into segments: unbroken runs of consecutive frame numbers of one region.
Each frame is analysed exactly once; the backend keeps the features. The graph answers
one frame late, so a segment is closed by feeding its last frame once more (that is the
only repeated analysis). The window turns pushed frames into steps and says which frame
every output row describes.

    no segment --frame--> open segment --next frame in order--> open segment
    open segment --gap, new region, break--> flush --> no segment

Design notes: this object knows nothing of arrays, backends or detections. Edge frames
as context of a segment's first and last frame are the graph's start rule and the flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from blinkloop.runtime.records import Frame, Roi

__all__ = ["FrameHeader", "RollingWindow", "WindowStep"]

_ONE = range(1)


@dataclass(slots=True)
class FrameHeader:
    """A frame without its pixels, and the number of its segment. Not to be changed."""

    index: int
    timestamp_s: float
    roi: Roi
    segment: int


class WindowStep(NamedTuple):
    """One call of the graph.

    Parameters
    ----------
    frames
        Positions, in the pushed sequence, of the frames to hand in; consecutive.
        Empty for a flush: hand in the last frame of the step before once more.
    segment_start
        True when the first of them begins a segment.
    rows
        What each output row describes; None for a row to be dropped.
    """

    frames: range
    segment_start: bool
    rows: tuple[FrameHeader | None, ...]

    @property
    def is_flush(self) -> bool:
        """Whether the segment's last frame is to be fed once more."""
        return len(self.frames) == 0


class RollingWindow:
    """Cuts frames into segments and steps.

    Parameters
    ----------
    max_frames
        Most frames in one step; bounds the memory of a call.
    """

    def __init__(self, max_frames: int = 64) -> None:
        if max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {max_frames}")
        self._max_frames = max_frames
        self._last: FrameHeader | None = None
        self._next_segment = 0

    @property
    def pending(self) -> FrameHeader | None:
        """The frame whose result is still to come; None outside a segment."""
        return self._last

    def push(self, frames: Sequence[Frame]) -> list[WindowStep]:
        """Steps for some more frames, in order."""
        if len(frames) == 1 and self._last is not None and self._continues(frames[0]):
            return [self._step(frames, _ONE)]  # live, one by one: nothing to cut
        steps: list[WindowStep] = []
        start = 0
        while start < len(frames):
            if not self._continues(frames[start]):
                steps += self.flush()
            stop = start + 1
            while (
                stop < len(frames)
                and stop - start < self._max_frames
                and _follows(frames[stop], frames[stop - 1])
            ):
                stop += 1
            steps.append(self._step(frames, range(start, stop)))
            start = stop
        return steps

    def flush(self) -> list[WindowStep]:
        """End the segment: one step that returns its last frame, or none."""
        if self._last is None:
            return []
        step = WindowStep(range(0), False, (self._last,))
        self.reset()
        return [step]

    def reset(self) -> None:
        """Forget the open segment without flushing it (the backend failed)."""
        self._last = None

    def _continues(self, frame: Frame) -> bool:
        return self._last is None or _follows(frame, self._last)

    def _step(self, frames: Sequence[Frame], positions: range) -> WindowStep:
        before = self._last
        if before is None:
            segment = self._next_segment
            self._next_segment += 1
        else:
            segment = before.segment
        headers = [
            FrameHeader(frame.index, frame.timestamp_s, frame.roi, segment)
            for frame in frames[positions.start : positions.stop]
        ]
        self._last = headers[-1]
        return WindowStep(positions, before is None, (before, *headers[:-1]))


def _follows(frame: Frame, before: Frame | FrameHeader) -> bool:
    """Whether a frame continues the segment of the one before it."""
    if frame.index != before.index + 1:
        return False
    return frame.roi is before.roi or frame.roi == before.roi
