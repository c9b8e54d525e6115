"""A Zarr array or OME-Zarr image that is being written, frame by frame.

Design notes
------------
* The array's shape proves nothing: some writers make it at full length first, others
  let it grow. What counts are the files of its chunks (or shards).
* A file is taken when it has not changed for a while and can be decoded; one that holds
  several frames is also taken only once a later one exists, or when the writer has
  ended, because writers add to it.
* A file that is missing although a much later one is old already is a hole: the writer
  skipped its frames. Zarr leaves out chunks of nothing but the fill value, and no
  camera gives frames of exact zeros.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.growing.reader import NotYetError
from blinkloop.integrations.movies.arrays import open_zarr
from blinkloop.integrations.movies.movie import delivery

__all__ = ["GrowingZarr"]

QUIET_S = 0.2
"""A file unchanged for so long is no longer being written."""
HOLE_S = 2.0
"""A missing file whose successor is so old will not come any more."""
_LOOK_AHEAD = 64


class GrowingZarr:
    """Frames along the first long axis of an array.

    Parameters
    ----------
    path
        Folder of the array, or of an OME-Zarr image of one channel.
    clock
        Seconds since the epoch, to compare with the times of files.

    Raises
    ------
    NotYetError
        The folder is not there yet, or has no frame.
    InputError
        Several channels or planes, or pixels that are no camera's.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._zarr = require("zarr", "Following Zarr movies", "io")
        self._path = path
        self._clock = clock
        try:
            node = self._zarr.open(str(path), mode="r")
        except Exception as error:  # a half-written folder raises many kinds
            raise NotYetError from error
        self._folder = path
        if isinstance(node, self._zarr.Group):
            self._folder = path / self._level(node)
        self._array: Any
        self._outer: tuple[int, ...]
        self._metadata_stamp: tuple[int, int] | None = None
        if not self._refresh():
            raise NotYetError
        shape = self._array.shape
        if len(shape) < 3 or any(n != 1 for n in shape[1:-2]):
            raise InputError(
                f"{path.name}: an array of shape {shape} is not one movie that grows; "
                f"give (frames, rows, columns), one channel and one plane"
            )
        self._height, self._width = int(shape[-2]), int(shape[-1])
        self._dtype, self._convert = delivery(np.dtype(self._array.dtype), path.name)
        self._numbers: list[int] = []
        self._group = 0
        if self.poll() == 0:
            raise NotYetError

    @property
    def height(self) -> int:
        """Rows."""
        return self._height

    @property
    def width(self) -> int:
        """Columns."""
        return self._width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frames handed out."""
        return self._dtype

    @property
    def origin(self) -> tuple[int, int]:
        """An array does not say."""
        return (0, 0)

    @property
    def complete(self) -> bool:
        """Never known: an array may always go on."""
        return False

    def facts(self) -> Mapping[str, Any]:
        """Pixel size of an OME-Zarr image."""
        if self._folder == self._path:
            return {}
        try:
            return open_zarr(self._path).facts()
        except InputError:  # no shape to speak of yet
            return {}

    def poll(self) -> int:
        """Look for new chunks; frames ready."""
        return self._look(ended=False)

    def settle(self) -> int:
        """Take the last chunk too, but for frames at its end never written."""
        return self._look(ended=True)

    def number(self, k: int) -> int:
        """Position along the first axis."""
        return self._numbers[k]

    def read(self, k: int) -> npt.NDArray[Any]:
        """The k-th frame."""
        number = self._numbers[k]
        frames = self._convert(self._frames(number, number + 1))
        return np.asarray(frames[0])

    def close(self) -> None:
        """Nothing is kept open."""

    def _look(self, *, ended: bool) -> int:
        self._refresh()
        per_file = int(self._outer[0])
        total = int(self._array.shape[0])
        while self._group * per_file < total:
            first = self._group * per_file
            last = min(first + per_file, total)
            age_s = self._age_s(self._group)
            if age_s is None:
                later_s = self._later_age_s(self._group)
                if later_s is None or (later_s < HOLE_S and not ended):
                    break
                self._group += 1  # a hole: its numbers are left out
                continue
            if age_s < QUIET_S and not ended:
                break
            if per_file > 1 and not ended and self._later_age_s(self._group) is None:
                break
            try:
                block = self._frames(first, last)
            except Exception:  # cut short: any codec may raise anything
                if not ended and age_s < HOLE_S:
                    break
                self._group += 1  # it will not get better: lost
                continue
            if ended and self._later_age_s(self._group) is None:
                last = first + _written(block, self._array.fill_value)
            self._numbers.extend(range(first, last))
            self._group += 1
        return len(self._numbers)

    def _refresh(self) -> bool:
        """Read the metadata again when its file changed; whether it is known."""
        for name in ("zarr.json", ".zarray"):
            try:
                stat = (self._folder / name).stat()
            except OSError:
                continue
            stamp = (stat.st_mtime_ns, stat.st_size)
            if stamp == self._metadata_stamp:
                return True
            try:
                array = self._zarr.open_array(str(self._folder), mode="r")
            except Exception:  # caught in the middle of being written
                return self._metadata_stamp is not None
            self._array, self._metadata_stamp = array, stamp
            self._outer = array.shards or array.chunks
            return True
        return self._metadata_stamp is not None

    def _age_s(self, group: int) -> float | None:
        """Seconds since the files of a group last changed; None = not all there."""
        newest = 0.0
        array = self._array
        rows = -(-array.shape[-2] // self._outer[-2])
        columns = -(-array.shape[-1] // self._outer[-1])
        between = (0,) * (array.ndim - 3)
        for row in range(rows):
            for column in range(columns):
                key = array.metadata.encode_chunk_key((group, *between, row, column))
                try:
                    newest = max(newest, (self._folder / key).stat().st_mtime)
                except OSError:
                    return None
        return max(self._clock() - newest, 0.0)

    def _later_age_s(self, group: int) -> float | None:
        """Age of the next group that is there; None = none within reach."""
        for later in range(group + 1, group + 1 + _LOOK_AHEAD):
            age_s = self._age_s(later)
            if age_s is not None:
                return age_s
        return None

    def _frames(self, first: int, last: int) -> npt.NDArray[Any]:
        block = np.asarray(self._array[first:last])
        return block.reshape(-1, self._height, self._width)

    def _level(self, group: Any) -> str:
        attributes = dict(group.attrs)
        described = attributes.get("ome", attributes).get("multiscales")
        try:
            return str(described[0]["datasets"][0]["path"])
        except (TypeError, KeyError, IndexError) as error:
            raise NotYetError from error


def _written(block: npt.NDArray[Any], fill: Any) -> int:
    """Frames of a block up to the last one that is not all fill value."""
    there = np.flatnonzero(np.any(block != fill, axis=(1, 2)))
    return int(there[-1]) + 1 if there.size else 0
