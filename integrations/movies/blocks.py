"""Frames that lie at equal distances in a file, uncompressed.

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


def whole_frames(size: int, offset: int, frame_bytes: int, stride: int = 0) -> int:
    """Frames that lie completely in a file of `size` bytes from `offset` on.

    `stride` is the distance of their first bytes when something lies between them.
    """
    gap = max(0, stride - frame_bytes)
    return max(0, size - offset + gap) // max(1, frame_bytes + gap)


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
    stride
        Bytes from the start of a frame to that of the next; None: they touch.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, int, int],
        stored: np.dtype[Any],
        *,
        offset: int = 0,
        stride: int | None = None,
    ) -> None:
        n_frames, height, width = shape
        frame_bytes = math.prod((height, width, stored.itemsize))
        self._stride = frame_bytes if stride is None else stride
        there = whole_frames(path.stat().st_size, offset, frame_bytes, self._stride)
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
        if self._stride != pixels * self._stored.itemsize:
            return self._load_rows(start, stop, 0, self.height)
        self._file.seek(self._offset + start * self._stride)
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
            self._file.seek(self._offset + i * self._stride + top * row_bytes)
            rows = np.fromfile(self._file, self._stored, block[0].size)
            if rows.size < block[0].size:
                raise self._broken(i, "the file became shorter")
            block[i - start] = rows.reshape(block[0].shape)
        return block
