"""A multi-page TIFF that is being written.

A page is ready when the directory of the next one lies whole in the file: a writer
finishes one page before it begins another. The last page is taken when the writer has
ended. Files that are made at full length first and filled later (Micro-Manager does
that) hold zeros where pages will be, and a directory of no entries is none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.growing.reader import NotYetError
from blinkloop.integrations.movies.tiff_directory import (
    DirectoryWalker,
    Page,
    is_tiff,
    walk,
)
from blinkloop.integrations.movies.tiff_facts import camera_facts, chip_origin

__all__ = ["GrowingTiff"]

_HEAD = 16
_TYPES = {(8, 1): "u1", (16, 1): "u2", (32, 3): "f4"}


class GrowingTiff:
    """Uncompressed pages of one TIFF or BigTIFF file.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    NotYetError
        It has no whole page yet.
    InputError
        It is no TIFF, or its pages are compressed, coloured or of another pixel type.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb", buffering=0)
        try:
            self._starts: list[int] = []
            self._ahead: Page | None = None
            head = self._file.read(_HEAD)
            if len(head) < _HEAD or not head.strip(b"\0"):
                raise NotYetError
            if not is_tiff(path, head):
                raise InputError(
                    f"{path.name} is being written but is no TIFF file; give a TIFF, "
                    f"an NDTiff folder or a Zarr folder"
                )
            self._head = head
            walker, self._tail = self._walker()
            first = self._directory(walker, self._tail)
            if first is None or first[0].end > walker.size:
                raise NotYetError
            self._first = first[0]
            self._tags = walker.first_tags(first[2])
            self._stored = self._pixel_type(walker, self._first)
        except BaseException:
            self._file.close()
            raise

    @property
    def height(self) -> int:
        """Rows."""
        return self._first.height

    @property
    def width(self) -> int:
        """Columns."""
        return self._first.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frames handed out, in native byte order."""
        return self._stored.newbyteorder("=")

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip, when Micro-Manager recorded them."""
        return chip_origin(self._tags)

    @property
    def complete(self) -> bool:
        """Never known: a TIFF may always go on."""
        return False

    def facts(self) -> Mapping[str, Any]:
        """Pixel size, exposure, bit depth, as far as the file knows them."""
        return camera_facts(self._tags)

    def poll(self) -> int:
        """Follow the chain of directories as far as it goes; pages ready."""
        walker, _ = self._walker()
        self._ahead = None
        while (here := self._directory(walker, self._tail)) is not None:
            page, following, _ = here
            if self._directory(walker, following) is None:
                self._ahead = page
                break
            self._accept(page)
            self._tail = following
        return len(self._starts)

    def settle(self) -> int:
        """Take the last page too, when its pixels lie whole in the file."""
        self.poll()
        page = self._ahead
        if page is not None and page.end <= os.fstat(self._file.fileno()).st_size:
            self._accept(page)
            self._ahead = None
            self._tail = 0
        return len(self._starts)

    def number(self, k: int) -> int:
        """Pages are numbered in order."""
        return k

    def read(self, k: int) -> npt.NDArray[Any]:
        """Page k."""
        self._file.seek(self._starts[k])
        data = self._file.read(self.height * self.width * self._stored.itemsize)
        pixels = np.frombuffer(data, self._stored).reshape(self.height, self.width)
        return pixels.astype(self.dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _walker(self) -> tuple[DirectoryWalker, int]:
        size = os.fstat(self._file.fileno()).st_size
        return walk(self._file, size, self._head)

    def _directory(
        self, walker: DirectoryWalker, offset: int
    ) -> tuple[Page, int, Any] | None:
        """Page at an offset, the next offset and its tags; None = not whole yet."""
        found = walker.directory(offset) if offset else None
        if found is None:
            return None
        tags, following = found
        page = walker.page(tags)
        # Some writers fill in the place of the pixels last.
        if page.height < 1 or page.width < 1 or page.end <= 0 or page.start == 0:
            return None
        return page, following, tags

    def _accept(self, page: Page) -> None:
        if page.reduced:
            return
        first = self._first
        if (page.height, page.width, page.bits, page.sample_format) != (
            first.height,
            first.width,
            first.bits,
            first.sample_format,
        ):
            raise InputError(
                f"{self._path.name}: page {len(self._starts)} is {page.width} x "
                f"{page.height} px of {page.bits} bit, the first {first.width} x "
                f"{first.height} px of {first.bits} bit; a movie has one size and type"
            )
        self._starts.append(page.start)

    def _pixel_type(self, walker: DirectoryWalker, page: Page) -> np.dtype[Any]:
        name = _TYPES.get((page.bits, page.sample_format))
        if name is None or page.samples > 1 or page.start < 0:
            raise InputError(
                f"{self._path.name}: only uncompressed grey pages of 8 or 16 bit (or "
                f"float32) can be followed while they are written; this one has "
                f"{page.samples} x {page.bits} bit, compression {page.compression}"
            )
        return np.dtype(f"{walker.order}{name}")
