"""A movie as a source of frames, as fast as it can be read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.movies.movie import (
    Movie,
    MovieDamagedError,
    frame_holes,
)
from blinkloop.runtime.records import Frame, Roi

__all__ = ["MovieSource", "frame_blocks", "frame_runs"]

_BLOCK_BYTES = 16 * 2**20


def frame_blocks(
    movie: Movie, start: int, stop: int, *, most: int = 64
) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Read a stretch of a movie in blocks of bounded size.

    Yields
    ------
    tuple
        Number of the first frame of the block, and its frames (n, height, width).

    Raises
    ------
    MovieDamagedError
        After the last good frame was yielded.
    """
    frame_bytes = max(1, movie.height * movie.width * movie.dtype.itemsize)
    step = max(1, min(most, _BLOCK_BYTES // frame_bytes))
    for first in range(start, stop, step):
        last = min(stop, first + step)
        try:
            yield first, movie.read(first, last)
        except MovieDamagedError as error:
            if error.readable > first:
                yield first, movie.read(first, error.readable)
            raise


def frame_runs(holes: Sequence[tuple[int, int]], wanted: range) -> list[range]:
    """The unbroken runs of frames of a stretch, in order."""
    runs = []
    first = wanted.start
    for hole, count in holes:
        runs.append(range(first, min(hole, wanted.stop)))
        first = max(first, hole + count)
    runs.append(range(first, wanted.stop))
    return [run for run in runs if len(run)]


class MovieSource:
    """Offline `FrameSource`: every frame is delivered, the consumer sets the pace.

    Frames that were never recorded (`frame_holes`) are jumps in `Frame.index`.

    Parameters
    ----------
    movie
        Opened movie; it is not closed here.
    fps
        Frames per second of the recording. Without it the exposure time of the file's
        metadata gives the time stamps; without either they are all 0.
    start, stop
        First frame and the one after the last; the whole movie by default.
    runs
        These stretches instead, in order.
    """

    def __init__(
        self,
        movie: Movie,
        fps: float | None = None,
        *,
        start: int = 0,
        stop: int | None = None,
        runs: Sequence[range] | None = None,
    ) -> None:
        self._movie = movie
        exposure_ms = movie.facts().get("exposure_ms")
        self._interval_s = 1 / fps if fps else (exposure_ms or 0.0) / 1e3
        whole = range(movie.n_frames)[start:stop]
        self._runs = frame_runs(frame_holes(movie), whole) if runs is None else runs
        self._stop = threading.Event()
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
        """Always 0: nothing is lost offline."""
        return 0

    def camera_facts(self) -> Mapping[str, Any]:
        """What the file says of the camera."""
        return self._movie.facts()

    def start(self) -> None:
        """Allow reading (again)."""
        self._stop.clear()

    def frames(self) -> Iterator[Frame]:
        """Yield frames in order.

        Raises
        ------
        MovieDamagedError
            After the last good frame, when the movie should have more.
        """
        reached = 0
        for run in self._runs:
            for first, block in frame_blocks(self._movie, run.start, run.stop):
                for i, pixels in enumerate(block, first):
                    if self._stop.is_set():
                        return
                    yield Frame(i, self._time_s(i), pixels, self._roi)
            reached = run.stop
        raise_if_damaged(self._movie, reached)

    def _time_s(self, index: int) -> float:
        time_s: Callable[[int], float] | None = getattr(self._movie, "time_s", None)
        return index * self._interval_s if time_s is None else time_s(index)

    def stop(self) -> None:
        """End `frames()` at the next frame; callable from any thread."""
        self._stop.set()


def raise_if_damaged(movie: Movie, reached: int) -> None:
    """Tell, once all readable frames are out, that there should have been more."""
    if movie.damage is not None and reached >= movie.n_frames:
        raise MovieDamagedError(
            f"the movie is damaged: {movie.damage}; the {movie.n_frames} frames before "
            f"it were used; copy the file again to get the rest",
            movie.n_frames,
        )
