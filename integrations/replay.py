"""A movie that acts as a camera: paced in real time, and it does not wait.

Design notes
------------
A camera exposes frame k at k / fps whatever the computer does, and keeps the newest
frames in a ring until they are fetched. `ReplaySource` computes what such a ring holds
from the clock alone, so that no second thread is needed and a run is exact: when the
consumer, or the disk, falls behind by more than the ring, the oldest frames are lost
and the frame number jumps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.integrations.movies.movie import Movie
from blinkloop.integrations.movies.source import frame_blocks, raise_if_damaged
from blinkloop.runtime.records import Frame, Roi

__all__ = ["ReplaySource"]

_READ_AHEAD = 8


class ReplaySource:
    """`FrameSource` that plays a movie at a fixed rate.

    Parameters
    ----------
    movie
        Opened movie; it is not closed here.
    fps
        Frames per second, above 0.
    ring_frames
        Frames kept until they are fetched; older ones are lost, as in a camera.
    repeat
        How often the movie is played; frame numbers go on.
    clock
        Seconds, monotonic.
    wait
        Waits some seconds; returns True when it was stopped meanwhile. Default: an
        event that `stop` sets.

    Raises
    ------
    InputError
        When `fps`, `ring_frames` or `repeat` is not above 0.
    """

    def __init__(
        self,
        movie: Movie,
        fps: float,
        *,
        ring_frames: int = 256,
        repeat: int = 1,
        clock: Callable[[], float] = time.perf_counter,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        if not 0 < fps < float("inf"):
            raise InputError(f"a replay needs a frame rate above 0, got {fps}")
        if ring_frames < 1 or repeat < 1:
            raise InputError(
                f"a replay needs ring_frames and repeat of at least 1, got "
                f"{ring_frames} and {repeat}"
            )
        self._movie = movie
        self._fps = float(fps)
        self._ring = ring_frames
        self._total = movie.n_frames * repeat
        self._clock = clock
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._started: float | None = None
        self._lost = 0
        x, y = movie.origin
        self._roi = Roi(x, y, movie.width, movie.height)

    @property
    def roi(self) -> Roi:
        """Region of the chip, (0, 0) at its corner when the file does not say."""
        return self._roi

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type of the frames."""
        return self._movie.dtype

    @property
    def lost(self) -> int:
        """Frames exposed but never delivered after the last one, known at the end."""
        return self._lost

    def camera_facts(self) -> Mapping[str, Any]:
        """What the file says of the camera; the exposure is that of the replay."""
        return {**self._movie.facts(), "exposure_ms": 1e3 / self._fps}

    def start(self) -> None:
        """Start the clock: frame 0 is exposed one frame time from now."""
        self._stop.clear()
        self._lost = 0
        self._started = self._clock()

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they are exposed; a jump of the index marks lost ones.

        Raises
        ------
        MovieDamagedError
            After the last good frame, when the movie should have more.
        """
        if self._started is None:
            self.start()
        started = self._started or 0.0
        index = 0
        block_start, block = 0, np.empty((0, 1, 1), self.dtype)
        while index < self._total:
            # A frame is there once its exposure has ended.
            due = started + (index + 1) / self._fps
            if self._stop.is_set() or (
                (early := due - self._clock()) > 0 and self._wait(early)
            ):
                self._lost = max(0, self._exposed(started) - index)
                return
            index = max(index, self._exposed(started) - self._ring)
            at = index % self._movie.n_frames
            if not block_start <= at < block_start + len(block):
                last = min(self._movie.n_frames, at + _READ_AHEAD)
                block_start, block = next(
                    frame_blocks(self._movie, at, last, most=_READ_AHEAD)
                )
            yield Frame(index, index / self._fps, block[at - block_start], self._roi)
            index += 1
        raise_if_damaged(self._movie, self._movie.n_frames)

    def stop(self) -> None:
        """Stop the camera; callable from any thread."""
        self._stop.set()

    def _exposed(self, started: float) -> int:
        """Frames exposed so far, at most all."""
        # The small term keeps k / fps * fps from falling just below k.
        done = int((self._clock() - started) * self._fps + 1e-6)
        return min(self._total, done)
