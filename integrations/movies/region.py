"""A part of a movie as a movie: a region of its frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.movie import Movie, frame_holes
from blinkloop.runtime.records import Roi

__all__ = ["RegionMovie", "frame_roi"]


def frame_roi(movie: Movie) -> Roi:
    """Region of the chip that a movie's frames show."""
    x, y = movie.origin
    return Roi(x, y, movie.width, movie.height)


class RegionMovie:
    """A region of every frame of a movie; implements `Movie`.

    Readers that can, read no more of the file than the rows of the region.

    Parameters
    ----------
    movie
        Opened movie; closed with this object.
    region
        Part of its frames, chip coordinates.

    Raises
    ------
    InputError
        The region is not inside the frames.
    """

    def __init__(self, movie: Movie, region: Roi) -> None:
        whole = frame_roi(movie)
        self._x, self._y = region.x - whole.x, region.y - whole.y
        if (
            min(region.width, region.height) < 1
            or min(self._x, self._y) < 0
            or self._x + region.width > whole.width
            or self._y + region.height > whole.height
        ):
            raise InputError(
                f"the region {region} is not inside the frames, {whole}; give px of "
                f"the camera chip"
            )
        self._movie = movie
        self._region = region

    @property
    def n_frames(self) -> int:
        """Of the movie."""
        return self._movie.n_frames

    @property
    def height(self) -> int:
        """Rows of the region."""
        return self._region.height

    @property
    def width(self) -> int:
        """Columns of the region."""
        return self._region.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the movie."""
        return self._movie.dtype

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip of the region's first pixel."""
        return self._region.x, self._region.y

    @property
    def damage(self) -> str | None:
        """Of the movie."""
        return self._movie.damage

    @property
    def holes(self) -> Sequence[tuple[int, int]]:
        """Of the movie."""
        return frame_holes(self._movie)

    @property
    def time_s(self) -> Callable[[int], float] | None:
        """When frames came, if the movie knows."""
        time_s: Callable[[int], float] | None = getattr(self._movie, "time_s", None)
        return time_s

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The region of frames start .. stop - 1; see `Movie.read`."""
        rows = slice(self._y, self._y + self._region.height)
        columns = slice(self._x, self._x + self._region.width)
        read_rows = getattr(self._movie, "read_rows", None)
        if read_rows is not None:
            block = read_rows(start, stop, rows.start, rows.stop)
        else:
            block = self._movie.read(start, stop)[:, rows]
        # A copy, so that the rest of the frames is not kept alive.
        return np.ascontiguousarray(block[:, :, columns])

    def facts(self) -> Mapping[str, Any]:
        """Of the movie."""
        return self._movie.facts()

    def notes(self) -> tuple[str, ...]:
        """Of the movie."""
        return self._movie.notes()

    def close(self) -> None:
        """Close the movie."""
        self._movie.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
