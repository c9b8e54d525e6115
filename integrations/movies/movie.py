"""What a movie is, and what may be wrong with one.

Design notes
------------
A movie knows its frames and what its file says of the camera. It does not know of
models, photons or time: `MovieSource` and `ReplaySource` give it a pace.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError

__all__ = ["Movie", "MovieBase", "MovieDamagedError", "delivery", "frame_holes"]

_EXACT_IN_FLOAT32 = 2**24


class MovieDamagedError(InputError):
    """A movie ends, or cannot be read, before its last frame.

    Raised only when the damage is reached, so that everything before it can be used.

    Parameters
    ----------
    message
        What, got, why, what to do.
    readable
        Number of good frames at the start of the movie.
    """

    def __init__(self, message: str, readable: int) -> None:
        super().__init__(message)
        self.readable = readable


@runtime_checkable
class Movie(Protocol):
    """Frames of one size in a file or folder, read on demand.

    `n_frames` is what can be read as far as it was known at opening; `damage` says in
    a sentence why there should have been more, or is None. `origin` is the column and
    row of the first pixel on the camera chip, (0, 0) when the file does not say.
    """

    @property
    def n_frames(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frames handed out: uint8, uint16 or float32, native byte order."""
        ...

    @property
    def origin(self) -> tuple[int, int]: ...
    @property
    def damage(self) -> str | None: ...
    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Frames start .. stop - 1 as a new array (stop - start, height, width), ADU.

        Raises
        ------
        MovieDamagedError
            When one of them cannot be read; `readable` counts the good ones before.
        IndexError
            When they are not within 0 .. n_frames.
        """
        ...

    def facts(self) -> Mapping[str, Any]:
        """What the file says of the camera, as arguments of `CameraSettings`."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Remarks for the person, e.g. on metadata that was seen but not used."""
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class MovieBase(ABC):
    """The part that is the same in every reader; `_load` fetches raw frames.

    Parameters
    ----------
    name
        File or folder, for messages.
    shape
        Frames, rows, columns.
    stored
        Pixel type in the file.
    damage
        Why there should have been more frames; None when all is well.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, int, int],
        stored: np.dtype[Any],
        *,
        damage: str | None = None,
    ) -> None:
        self._name = name
        self._shape = shape
        self._dtype, self._convert = delivery(stored, name)
        self._damage = damage
        if min(shape) < 1:
            raise InputError(
                f"{name}: no frame can be read "
                f"({damage or 'the movie is empty'}); give another file"
            )

    @property
    def n_frames(self) -> int:
        """Frames that can be read, as far as known."""
        return self._shape[0]

    @property
    def height(self) -> int:
        """Rows."""
        return self._shape[1]

    @property
    def width(self) -> int:
        """Columns."""
        return self._shape[2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type of the frames handed out."""
        return self._dtype

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip of the first pixel."""
        return (0, 0)

    @property
    def damage(self) -> str | None:
        """Why there should have been more frames, or None."""
        return self._damage

    def facts(self) -> Mapping[str, Any]:
        """Arguments of `CameraSettings` the file knows."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """Remarks for the person."""
        return ()

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Frames start .. stop - 1; see `Movie.read`."""
        if not 0 <= start <= stop <= self.n_frames:
            raise IndexError(f"frames {start}:{stop} of {self.n_frames}")
        if start == stop:
            return np.empty((0, self.height, self.width), self._dtype)
        return self._convert(self._load(start, stop))

    def read_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        """Rows top .. bottom - 1 of frames start .. stop - 1; errors as `read`.

        Readers that can, read no other rows.
        """
        if not 0 <= start < stop <= self.n_frames:
            raise IndexError(f"frames {start}:{stop} of {self.n_frames}")
        if not 0 <= top < bottom <= self.height:
            raise IndexError(f"rows {top}:{bottom} of {self.height}")
        return self._convert(self._load_rows(start, stop, top, bottom))

    def close(self) -> None:  # noqa: B027  a reader without open files has no need
        """Release files; the movie cannot be read any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Raw frames start .. stop - 1, (stop - start, height, width)."""

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        """Some rows of raw frames; a frame at a time, as only rows are to be kept."""
        rows = [self._load(i, i + 1)[0, top:bottom].copy() for i in range(start, stop)]
        return np.stack(rows)

    def _broken(
        self, frame: int, why: str, todo: str = "copy the file again"
    ) -> MovieDamagedError:
        return MovieDamagedError(
            f"{self._name}: frame {frame} of {self.n_frames} cannot be read ({why}); "
            f"the {frame} frames before it can be used; {todo}",
            frame,
        )


def frame_holes(movie: Movie) -> Sequence[tuple[int, int]]:
    """Frames of a movie that were never recorded: (first, count), in order.

    A movie that can have such frames has an attribute `holes`.
    """
    holes: Sequence[tuple[int, int]] = getattr(movie, "holes", ())
    return holes


def delivery(
    stored: np.dtype[Any], name: str
) -> tuple[np.dtype[Any], Callable[[npt.NDArray[Any]], npt.NDArray[Any]]]:
    """How pixels of one type are handed on.

    uint8, uint16 and float32 stay what they are (in native byte order). Signed 8 and 16
    bit, float16 become float32, which holds them exactly; so do 32- and 64-bit integers
    up to 2^24, beyond which `InputError` is raised at reading. float64 is rounded to
    float32: 24 bits are more than any camera gives.

    Raises
    ------
    InputError
        For types that are no camera frames: complex, boolean, records, text.
    """
    native = stored.newbyteorder("=")
    if native in (np.uint8, np.uint16, np.float32):
        return native, lambda block: np.ascontiguousarray(block, native)
    float32 = np.dtype(np.float32)
    if native.kind == "f" or native in (np.int8, np.int16):
        return float32, lambda block: block.astype(float32)
    if native.kind in "iu":

        def exact(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
            low, high = int(block.min()), int(block.max())
            if low < -_EXACT_IN_FLOAT32 or high > _EXACT_IN_FLOAT32:
                raise InputError(
                    f"{name}: pixel values from {low} to {high} ({native}) are beyond "
                    f"what a camera gives and would be rounded; save as uint16"
                )
            return block.astype(float32)

        return float32, exact
    raise InputError(
        f"{name}: pixels of type {stored} are not camera frames; "
        f"save the movie as uint16 (or uint8, float32)"
    )
