"""A movie that is being written, as a source of frames.

The writer sets the pace. Nothing tells us of a new frame, so the file is looked at a
bounded number of times per second. The run ends when a marker file appears, when the
file says that it is complete, or when nothing has come for a while; only then is the
last frame taken, of which nothing else proves that it is whole.

Design notes: frames wait on the disk, so a slow analysis may hold this source up
(`PipelineSettings.wait`) and loses nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.growing.ndtiff import INDEX_NAME, GrowingNdTiff
from blinkloop.integrations.growing.reader import GrowingMovie, NotYetError
from blinkloop.integrations.growing.tiff import GrowingTiff
from blinkloop.integrations.growing.zarr import GrowingZarr
from blinkloop.runtime.records import Frame, Roi

__all__ = ["GrowingSource", "open_growing"]

_POLL_S = 0.05


def open_growing(
    path: Path,
    *,
    wait_s: float = 60.0,
    poll_s: float = _POLL_S,
    stop: threading.Event | None = None,
) -> GrowingMovie:
    """Open a movie as soon as its first frame is there.

    Parameters
    ----------
    path
        A TIFF file, an NDTiff folder or a Zarr folder; it need not exist yet.
    wait_s
        How long to wait for a first frame.
    poll_s
        Time between looks.
    stop
        Ends the waiting.

    Raises
    ------
    InputError
        Nothing that can be followed, or no frame within `wait_s`.
    """
    stop = stop or threading.Event()
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return _try_open(path)
        except (NotYetError, FileNotFoundError):
            pass
        if time.monotonic() > deadline or stop.wait(poll_s):
            raise InputError(
                f"{path}: no whole frame came within {wait_s:g} s; check that the "
                f"acquisition writes there (TIFF file, NDTiff folder or Zarr folder)"
            )


def _try_open(path: Path) -> GrowingMovie:
    if path.is_file():
        return GrowingTiff(path)
    if path.is_dir():
        if (path / INDEX_NAME).is_file():
            return GrowingNdTiff(path)
        if any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup")):
            return GrowingZarr(path)
    raise NotYetError


class GrowingSource:
    """`FrameSource` of a movie that grows.

    Parameters
    ----------
    movie
        See `open_growing`; closed when the frames are out.
    timeout_s
        The movie has ended when no frame came for so long.
    marker
        The movie has ended when this file exists.
    poll_s
        Time between looks while nothing new is there.
    clock
        Seconds, monotonic.

    Raises
    ------
    InputError
        A time is not above 0.
    """

    def __init__(
        self,
        movie: GrowingMovie,
        *,
        timeout_s: float = 10.0,
        marker: Path | None = None,
        poll_s: float = _POLL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not timeout_s > 0 or not poll_s > 0:
            raise InputError(
                f"following a movie needs times above 0 s, got a timeout of "
                f"{timeout_s} and looks every {poll_s}"
            )
        self._movie = movie
        self._timeout_s = timeout_s
        self._marker = marker
        self._poll_s = poll_s
        self._clock = clock
        self._stop = threading.Event()
        x, y = movie.origin
        self._roi = Roi(x, y, movie.width, movie.height)
        self._started_s: float | None = None
        self._ended_by = ""

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
        """Always 0: what the writer lost shows as jumps in the numbers."""
        return 0

    @property
    def ended_by(self) -> str:
        """Why the frames ended: "marker", "complete", "timeout" or "stop"."""
        return self._ended_by

    def camera_facts(self) -> Mapping[str, Any]:
        """What the file says of the camera."""
        return dict(self._movie.facts())

    def start(self) -> None:
        """Time stamps count from here."""
        self._started_s = self._clock()

    def frames(self) -> Iterator[Frame]:
        """Yield frames as they become whole; each one once, in order.

        Raises
        ------
        DeviceError
            The file cannot be read any more.
        """
        if self._started_s is None:
            self.start()
        done = 0
        news_s = self._clock()
        try:
            while not self._ended_by:
                # Asked before the look: what is written before the marker counts.
                ended = self._why_ended(news_s)
                ready = self._settle_or_poll(ended)
                while done < ready and not self._stop.is_set():
                    yield self._frame(done)
                    done += 1
                    news_s = self._clock()
                if self._stop.is_set():
                    self._ended_by = "stop"
                elif ended:
                    self._ended_by = ended
                else:
                    self._stop.wait(self._poll_s)
        finally:
            self._movie.close()

    def stop(self) -> None:
        """Follow no longer; callable from any thread."""
        self._stop.set()

    def _why_ended(self, news_s: float) -> str:
        if self._marker is not None and self._marker.exists():
            return "marker"
        if self._movie.complete:
            return "complete"
        return "timeout" if self._clock() - news_s > self._timeout_s else ""

    def _settle_or_poll(self, ended: str) -> int:
        try:
            return self._movie.settle() if ended else self._movie.poll()
        except OSError as error:
            raise self._unreadable(error) from error

    def _frame(self, k: int) -> Frame:
        try:
            pixels = self._movie.read(k)
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        timestamp_s = self._clock() - (self._started_s or 0.0)
        return Frame(self._movie.number(k), timestamp_s, pixels, self._roi)

    def _unreadable(self, error: Exception) -> DeviceError:
        return DeviceError(
            f"the movie that is being written cannot be read any more ({error}); check "
            f"the disk, and that nobody moved or deleted it"
        )
