"""`--remove-static-light`: what always shines taken out on the way to the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from blinkloop.cli._corrected import corrected
from blinkloop.cli._output import note
from blinkloop.static_light import (
    LEAST_FRAMES,
    Floats,
    frames_wanted,
    static_light,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from blinkloop.cli._session import Session
    from blinkloop.integrations.movies import Movie
    from blinkloop.optics import Camera
    from blinkloop.runtime import Frame, Roi

__all__ = [
    "KEY",
    "LiveStaticLight",
    "MovieStaticLight",
    "live_without_static_light",
    "movie_without_static_light",
    "was_removed",
]

KEY = "static_light_removed"

_STRETCH = 300
"""Frames over which static light is taken as constant, or changing evenly: long against
the on-time of emitters, short against bleaching."""
_SPREAD = 16
"""A live run looks at every 16th frame: a new picture every 1024."""


class MovieStaticLight:
    """Takes static light out of the frames of a movie, which can be looked at ahead.

    Each stretch of about 300 frames has its own picture of the static light; between
    the middles of two it changes evenly. What a frame loses depends on the movie alone,
    so a fit that is interrupted goes on with the same.

    Parameters
    ----------
    movie
        Its frames are those that will be corrected; for no one else's use meanwhile.
    camera
        Makes photons of ADU, and tells the noise.
    """

    def __init__(self, movie: Movie, camera: Camera) -> None:
        from blinkloop.integrations.movies import frame_holes, frame_runs

        self._movie, self._camera = movie, camera
        runs = frame_runs(frame_holes(movie), range(movie.n_frames))
        numbers = np.concatenate([np.arange(run.start, run.stop) for run in runs])
        parts = max(round(len(numbers) / _STRETCH), 1)
        self._stretches = np.array_split(numbers, parts)
        self._middles = np.array([part.mean() for part in self._stretches])
        self._pictures: dict[int, Floats] = {}

    @property
    def enough(self) -> bool:
        """The movie is long enough to tell."""
        return len(self._stretches[0]) >= LEAST_FRAMES

    def applied(self, frame: Frame) -> Frame:
        """The frame without static light, float32; as it is when frames are few."""
        if not self.enough:
            return frame
        light = self._light(frame.index)
        if light.shape != frame.pixels.shape or not light.any():
            return frame  # of another size: the localizer says so
        return replace(frame, pixels=_less(frame.pixels, light))

    def _light(self, index: int) -> Floats:
        """(H, W) in ADU, of one frame."""
        after = int(np.searchsorted(self._middles, index))
        before = max(after - 1, 0)
        after = min(after, len(self._middles) - 1)
        for old in [key for key in self._pictures if key < before]:
            del self._pictures[old]
        first, second = self._picture(before), self._picture(after)
        if after == before:
            return first
        begin, end = self._middles[before], self._middles[after]
        part = np.float32((index - begin) / (end - begin))
        return (1 - part) * first + part * second

    def _picture(self, stretch: int) -> Floats:
        """(H, W) in ADU, of one stretch; none where it cannot be read."""
        if stretch not in self._pictures:
            numbers = self._stretches[stretch]
            pixels = self._movie.height * self._movie.width
            wanted = frames_wanted(pixels * self._movie.dtype.itemsize)
            places = np.linspace(0, len(numbers) - 1, min(wanted, len(numbers)))
            frames = self._readable(numbers[np.rint(places).astype(np.intp)].tolist())
            self._pictures[stretch] = (
                static_light(frames, self._camera)
                if len(frames) >= LEAST_FRAMES
                else np.zeros((self._movie.height, self._movie.width), np.float32)
            )
        return self._pictures[stretch]

    def _readable(self, numbers: list[int]) -> npt.NDArray[Any]:
        """(T, H, W), those of the frames that the file gives."""
        from blinkloop.integrations.movies import MovieDamagedError

        frames = []
        for number in numbers:
            try:
                frames.append(self._movie.read(number, number + 1)[0])
            except MovieDamagedError:
                break  # whoever reads the movie for the fit says so
        shape = (0, self._movie.height, self._movie.width)
        return np.stack(frames) if frames else np.empty(shape, self._movie.dtype)


class LiveStaticLight:
    """Takes static light out of the frames of a camera, once the first have told it.

    The first 64 frames of a region (fewer of large ones) pass as they are. From then on
    the picture follows bleaching, every 1024 frames, but is never brighter than it was
    at first: emitters that are on too often under a strong laser must not be taken for
    static light, or a feedback that misses them would turn the laser up.

    Parameters
    ----------
    camera
        Makes photons of ADU, and tells the noise.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._roi: Roi | None = None
        self._seen = 0
        self._begin()

    def applied(self, frame: Frame) -> Frame:
        """The frame without static light, float32; as it is while that is not known."""
        roi = frame.roi
        if frame.pixels.shape != (roi.height, roi.width):
            return frame  # the localizer says so
        if roi != self._roi:
            self._roi, self._seen = roi, 0
            self._begin()
        self._learn(frame.pixels)
        if self._light is None:
            return frame
        return replace(frame, pixels=_less(frame.pixels, self._light))

    def _begin(self) -> None:
        """Nothing is known of this region yet."""
        self._first: Floats | None = None
        self._light: Floats | None = None
        self._frames: npt.NDArray[Any] | None = None
        self._kept = 0
        self._now: list[Floats] = []

    def _learn(self, pixels: npt.NDArray[Any]) -> None:
        """Look at a frame, if it is one that is looked at."""
        number, self._seen = self._seen, self._seen + 1
        if self._first is not None:
            self._follow()
            if number % _SPREAD or not self._first.any():
                return
        if self._frames is None:
            count = frames_wanted(pixels.nbytes)
            self._frames, self._kept = np.empty((count, *pixels.shape), pixels.dtype), 0
        self._frames[self._kept] = pixels
        self._kept += 1
        if self._kept < len(self._frames):
            return
        frames, self._frames = self._frames, None
        if self._first is None:
            self._first = static_light(frames, self._camera)
            self._light = self._first.copy()
        else:
            self._look_aside(frames)

    def _look_aside(self, frames: npt.NDArray[Any]) -> None:
        """Make a new picture while frames go on: it takes longer than one of them."""
        from blinkloop.runtime.worker import Worker

        now = self._now  # of this region: another one has a list of its own

        def look() -> None:
            now.append(static_light(frames, self._camera, everywhere=True))

        Worker("static-light", look).start()

    def _follow(self) -> None:
        """Go half of the way to a new picture, if there is one."""
        if self._now and self._first is not None and self._light is not None:
            most = np.maximum(self._first, 0)
            least = np.minimum(self._first, 0)
            self._light += np.clip(self._now.pop(), least, most)
            self._light /= 2


def movie_without_static_light(session: Session, movie: Movie) -> Session:
    """A session for the frames of a movie; says when these are too few.

    Parameters
    ----------
    session
        What it was for the frames as they are.
    movie
        As `MovieStaticLight` takes it.
    """
    light = MovieStaticLight(movie, _camera(session))
    if not light.enough:
        note(
            f"static light is not removed: it takes {LEAST_FRAMES} frames to tell, the "
            f"movie has {movie.n_frames}"
        )
    return corrected(session, light, {KEY: True})


def live_without_static_light(session: Session) -> Session:
    """A session for the frames of a camera, of any region."""
    return corrected(session, LiveStaticLight(_camera(session)), {KEY: True})


def was_removed(meta: Mapping[str, Any]) -> bool:
    """Whether a run or fit with these facts removed it."""
    return bool(meta.get(KEY))


def _less(pixels: npt.NDArray[Any], light: Floats) -> Floats:
    """Counts without static light; a saturated pixel is no longer one."""
    less: Floats = np.subtract(pixels, light, dtype=np.float32)
    return less


def _camera(session: Session) -> Camera:
    from blinkloop.optics import Camera

    return Camera(session.camera.settings)
