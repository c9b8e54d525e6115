"""Frames that somebody else's thread hands over: a bounded relay to a frame source.

    acquisition thread --push--> [ring of N frames] --frames--> camera thread of the run

Law: `push` copies and returns. It never waits and never raises, because the thread
belongs to an acquisition that must not be slowed down or stopped by us; what goes wrong
is told to whoever iterates `frames`.

Design notes: knows no Micro-Manager. The frame's number is the caller's business; a
frame that finds no room is a jump in the numbers, counted in `dropped`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import DeviceError
from blinkloop.runtime.handover import Handover
from blinkloop.runtime.records import Frame, Roi

__all__ = ["PushRelay", "relay_frames"]

_TAKE = 16
_WAIT_S = 0.1


def relay_frames(roi: Roi, dtype: np.dtype[Any], megabytes: float = 256.0) -> int:
    """Frames of that size a relay of so many MiB holds: 16 to 1024."""
    frame_bytes = max(1, roi.width * roi.height * dtype.itemsize)
    return min(max(int(megabytes * 2**20) // frame_bytes, 16), 1024)


class PushRelay:
    """One thread pushes, one iterates; either may end it.

    Parameters
    ----------
    roi, dtype
        Of every frame.
    frames
        Frames it holds, those the consumer looks at included.
    """

    def __init__(self, roi: Roi, dtype: np.dtype[Any], frames: int) -> None:
        self._roi = roi
        # "newest": what waits is older than what comes, and order must hold.
        self._ring = Handover(frames, roi.height, roi.width, dtype, policy="newest")
        self._ended = threading.Event()
        self._at_end = 0

    @property
    def dropped(self) -> int:
        """Frames pushed that found no room."""
        return self._ring.dropped

    @property
    def ended(self) -> bool:
        """Whether more frames are refused."""
        return self._ended.is_set()

    @property
    def dropped_at_end(self) -> int:
        """Of the dropped frames those after the last one delivered; known at the end.

        They leave no jump in the numbers.
        """
        return self._at_end

    def push(self, index: int, timestamp_s: float, pixels: npt.NDArray[Any]) -> None:
        """Copy a frame in; never waits, never raises."""
        if self._ended.is_set():
            return
        try:
            self._ring.put(Frame(index, timestamp_s, pixels, self._roi))
        except BaseException as error:  # whatever it is, the acquisition goes on
            self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """No more frames; `error` is raised from `frames` after those that wait."""
        self._ended.set()
        self._ring.close(error)

    def frames(self) -> Iterator[Frame]:
        """Yield frames in order until the end; pixels hold until the next one.

        Raises
        ------
        DeviceError
            What ended it, when that was a fault.
        """
        while True:
            batch = self._ring.take(_TAKE, _WAIT_S)
            if batch is None:
                continue
            try:
                yield from batch.frames
            finally:
                batch.release()
            if batch.last:
                self._at_end = sum(gap.count for gap in batch.gaps)
                if batch.error is not None:
                    if isinstance(batch.error, DeviceError):
                        raise batch.error
                    text = " ".join(str(batch.error).split())
                    raise DeviceError(
                        f"the acquisition's frames could not be taken over "
                        f"({type(batch.error).__name__}: {text})"
                    ) from batch.error
                return
