"""`--mask-hot-pixels`: hot pixels replaced on the way to the network, nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from blinkloop.cli._corrected import corrected
from blinkloop.cli._output import note

if TYPE_CHECKING:
    import numpy.typing as npt

    from blinkloop.cli._session import Session
    from blinkloop.integrations.movies import Movie
    from blinkloop.runtime import Frame, Roi

__all__ = ["HotPixelMask", "mask_again", "masked"]

_KEY = "hot_pixels_masked"


class HotPixelMask:
    """Takes hot pixels out of frames; without places it finds them in the first ones.

    Parameters
    ----------
    places
        Column and row on the chip of each; None: the first 16 frames, which pass as
        they are, tell (fewer of large ones).
    """

    def __init__(self, places: Sequence[Sequence[int]] | None = None) -> None:
        from blinkloop.hot_pixels import HotPixels

        self._places = None if places is None else [(int(x), int(y)) for x, y in places]
        self._first: list[npt.NDArray[Any]] = []
        self._roi: Roi | None = None
        self._hot = HotPixels.at([], [], (0, 0))

    @classmethod
    def of_movie(cls, movie: Movie, start: int = 0) -> HotPixelMask:
        """Of the hot pixels in the frames of a movie from `start` on; says how many."""
        from blinkloop.hot_pixels import find_hot_pixels, frames_wanted
        from blinkloop.integrations.movies import MovieDamagedError

        frame_bytes = movie.height * movie.width * movie.dtype.itemsize
        stop = min(start + frames_wanted(frame_bytes), movie.n_frames)
        try:
            frames = movie.read(start, stop)
        except MovieDamagedError as error:
            frames = movie.read(start, max(error.readable, start))
        hot = find_hot_pixels(list(frames))
        x, y = movie.origin
        found = zip((hot.x_px + x).tolist(), (hot.y_px + y).tolist(), strict=True)
        mask = cls(list(found))
        note(f"{len(hot)} hot pixels found and masked for the analysis")
        return mask

    @property
    def places(self) -> list[tuple[int, int]] | None:
        """Column and row on the chip of each; None until they are known."""
        return self._places

    def applied(self, frame: Frame) -> Frame:
        """The frame, with a copy of its pixels when there are hot ones in it."""
        roi = frame.roi
        if frame.pixels.shape != (roi.height, roi.width):
            return frame  # the localizer says so
        if self._places is None:
            self._learn(frame)
            return frame
        if roi != self._roi:
            self._enter(roi)
        if not len(self._hot):
            return frame
        return replace(frame, pixels=self._hot.repaired(frame.pixels))

    def _learn(self, frame: Frame) -> None:
        from blinkloop.hot_pixels import find_hot_pixels, frames_wanted

        if frame.roi != self._roi:
            self._first, self._roi = [], frame.roi
        self._first.append(frame.pixels.copy())
        if len(self._first) < frames_wanted(frame.pixels.nbytes):
            return
        hot, self._first = find_hot_pixels(self._first), []
        x, y = hot.x_px + frame.roi.x, hot.y_px + frame.roi.y
        self._places = list(zip(x.tolist(), y.tolist(), strict=True))
        self._enter(frame.roi)

    def _enter(self, roi: Roi) -> None:
        from blinkloop.hot_pixels import HotPixels

        x = [x - roi.x for x, _ in self._places or ()]
        y = [y - roi.y for _, y in self._places or ()]
        self._roi = roi
        self._hot = HotPixels.at(x, y, (roi.height, roi.width))


def masked(session: Session, mask: HotPixelMask | None) -> Session:
    """A session whose localizer is masked, and whose results say so."""
    return session if mask is None else corrected(session, mask, {_KEY: mask.places})


def mask_again(meta: Mapping[str, Any], raw: Movie) -> HotPixelMask | None:
    """The mask a run had, by its facts and its raw data; None when it had none."""
    if _KEY not in meta:
        return None
    places = meta[_KEY]
    return HotPixelMask.of_movie(raw) if places is None else HotPixelMask(places)
