"""Frames that lie one after the other in a file, uncompressed.

Design notes
------------
Reads with plain file reads, not with a memory map: mapped pages count as this process's
memory until the system takes them back, and a movie may be larger than the memory.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["BlockMovie", "whole_frames"]


def whole_frames(size: int, offset: int, frame_bytes: int) -> int:
    """Frames that lie completely in a file of `size` bytes from `offset` on."""
    return max(0, size - offset) // max(1, frame_bytes)


class BlockMovie(MovieBase):
    """A movie of raw pixels at a fixed offset of one file.

    Parameters
    ----------
    path
        File the pixels are in.
    shape
        Frames the header promises, rows, columns. Frames beyond the end of the file
        are left out and `damage` says so.
    stored
        Pixel type, with byte order.
    offset
        Byte at which the first frame starts.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        stored: np.dtype[Any],
        *,
        offset: int = 0,
    ) -> None:
        n_frames, height, width = shape
        there = whole_frames(
            path.stat().st_size, offset, math.prod((height, width, stored.itemsize))
        )
        damage = None
        if there < n_frames:
            damage = (
                f"the file ends after {there} of {n_frames} frames of "
                f"{width} x {height} px, {stored}"
            )
        super().__init__(
            path.name, (min(n_frames, there), height, width), stored, damage=damage
        )
        self._stored = stored
        self._offset = offset
        self._file: BinaryIO = path.open("rb")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        pixels = self.height * self.width
        self._file.seek(self._offset + start * pixels * self._stored.itemsize)
        block = np.fromfile(self._file, self._stored, count=(stop - start) * pixels)
        if block.size < (stop - start) * pixels:
            raise self._broken(start + block.size // pixels, "the file became shorter")
        return block.reshape(stop - start, self.height, self.width)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        block = np.empty((stop - start, bottom - top, self.width), self._stored)
        row_bytes = self.width * self._stored.itemsize
        for i in range(start, stop):
            self._file.seek(self._offset + (i * self.height + top) * row_bytes)
            rows = np.fromfile(self._file, self._stored, block[0].size)
            if rows.size < block[0].size:
                raise self._broken(i, "the file became shorter")
            block[i - start] = rows.reshape(block[0].shape)
        return block
