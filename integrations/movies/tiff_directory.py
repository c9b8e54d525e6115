"""Where the pages of a TIFF file lie, read without decoding a pixel.

TIFF 6.0 (Adobe, 1992) and BigTIFF: a chain of directories, each a list of tags. Only
the tags that place a page are read, so that a file of 100,000 pages opens quickly and
an incomplete one is recognised before the first frame is analysed.

Design notes
------------
Knows nothing of movies, cameras or compression; `tiff.py` decides what can be used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

__all__ = [
    "DirectoryWalker",
    "Page",
    "TiffDirectory",
    "first_directory_tags",
    "is_tiff",
    "read_directory",
    "walk",
]

_MAGIC = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_WANTED = frozenset(
    (254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 324, 325, 339)
)


@dataclass(frozen=True, slots=True)
class Page:
    """What one directory says.

    Parameters
    ----------
    height, width
        Rows and columns.
    samples
        Values per pixel.
    bits, sample_format
        Bits per value; 1 unsigned, 2 signed, 3 float.
    compression, photometric
        As in TIFF 6.0: 1 = none; 2 = RGB, 3 = palette.
    reduced
        True for a thumbnail.
    start
        Byte at which the pixels start when they lie uncompressed in one run, else -1.
    end
        First byte after the last of its data.
    """

    height: int
    width: int
    samples: int
    bits: int
    sample_format: int
    compression: int
    photometric: int
    reduced: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TiffDirectory:
    """All pages of one file.

    Parameters
    ----------
    path, size
        File and its length in bytes.
    byte_order
        "<" or ">".
    pages
        Pages whose directory could be read.
    next_offset
        Where the chain goes on; 0 when it ended as it should.
    first_tags
        Text and number tags of the first page: 270 description, 282 resolution, 296
        its unit, 33629 planes of a MetaMorph stack, 51123 Micro-Manager's record.
    """

    path: Path
    size: int
    byte_order: str
    pages: tuple[Page, ...]
    next_offset: int
    first_tags: Mapping[int, Any]

    @property
    def broken(self) -> bool:
        """True when the chain of directories leads nowhere."""
        return self.next_offset != 0


def is_tiff(path: Path, head: bytes) -> bool:
    """Whether a file starts like a TIFF or a BigTIFF."""
    return head[:4] in _MAGIC


def read_directory(path: Path) -> TiffDirectory:
    """Walk the directories of a TIFF file; stops where the chain is broken.

    Parameters
    ----------
    path
        A file for which `is_tiff` holds.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        head = file.read(16)
        order = _MAGIC[head[:4]]
        walker, offset = walk(file, size, head)
        pages: list[Page] = []
        first: dict[int, Any] = {}
        seen: set[int] = set()
        while offset and offset not in seen:
            directory = walker.directory(offset)
            if directory is None:
                break
            seen.add(offset)
            tags, offset = directory
            if not pages:
                first = walker.first_tags(tags)
            pages.append(walker.page(tags))
    if all(page.reduced for page in pages):
        # A thumbnail is one of something; alone it is what there is.
        pages = [replace(page, reduced=False) for page in pages]
    return TiffDirectory(path, size, order, tuple(pages), offset, first)


def first_directory_tags(path: Path) -> Mapping[int, Any]:
    """`TiffDirectory.first_tags` of a file, without walking its other pages."""
    with path.open("rb", buffering=0) as file:
        head = file.read(16)
        if head[:4] not in _MAGIC:
            return {}
        walker, offset = walk(file, path.stat().st_size, head)
        directory = walker.directory(offset)
        return {} if directory is None else walker.first_tags(directory[0])


def walk(file: BinaryIO | Any, size: int, head: bytes) -> tuple[DirectoryWalker, int]:
    """A walker for a file that starts with `head` (16 bytes), and where to begin."""
    big = head[2:4] in (b"+\0", b"\0+")
    walker = DirectoryWalker(file, size, _MAGIC[head[:4]], big)
    return walker, walker.number(head[8:16] if big else head[4:8])


_Tags = dict[int, tuple[int, int, bytes]]
"""Tag -> type, count, value or offset as it lies in the file."""


class DirectoryWalker:
    """Reads directories of one opened file.

    Parameters
    ----------
    file
        Opened unbuffered.
    size
        Its length in bytes, now.
    order
        "<" or ">".
    big
        True for a BigTIFF.
    """

    def __init__(self, file: BinaryIO | Any, size: int, order: str, big: bool) -> None:
        self._file = file
        self.size = size
        self.order = order
        self._big = big
        self._entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))

    def number(self, data: bytes) -> int:
        """An offset as it lies in the file; 0 when cut short."""
        form = "Q" if self._big else "I"
        if len(data) < struct.calcsize(form):
            return 0
        return int(struct.unpack(self.order + form, data)[0])

    def directory(self, offset: int) -> tuple[_Tags, int] | None:
        """Tags at an offset and the offset of the next directory; None = cut short."""
        head, tail = (8, 8) if self._big else (2, 4)
        data = self._at(offset, 1024)
        if len(data) < head:
            return None
        count = int.from_bytes(data[:head], "little" if self.order == "<" else "big")
        length = head + count * self._entry.size + tail
        if offset + length > self.size:
            return None
        if length > len(data):
            data = self._at(offset, length)
        tags: _Tags = {}
        for i in range(count):
            tag, kind, n, value = self._entry.unpack_from(
                data, head + i * self._entry.size
            )
            # tifffile may write two descriptions; the first is the one people mean.
            tags.setdefault(tag, (kind, n, value))
        return tags, self.number(data[length - tail : length])

    def page(self, tags: _Tags) -> Page:
        """What the tags say of one page."""
        get = {tag: self._integers(tags, tag) for tag in _WANTED if tag in tags}
        height, width = _first(get, 257, 0), _first(get, 256, 0)
        samples, bits = _first(get, 277, 1), _first(get, 258, 1)
        compression = _first(get, 259, 1)
        # Old writers give the offsets of tiles under the tags of strips.
        tiled = 324 in get or 322 in tags
        starts = get.get(324, get.get(273, _NONE))
        counts = get.get(325, get.get(279, _NONE))
        row_bytes = width * samples * bits // 8
        frame_bytes = height * row_bytes
        start, end = -1, 0
        if starts.size:
            # A single strip may come without a byte count, or with a wrong one in
            # files beyond 4 GB; the size of the frame is what counts then.
            plain = compression == 1 and not tiled and bits in (8, 16, 32, 64)
            # Fill order 2: the bits of each byte run the other way.
            plain = plain and _first(get, 266, 1) == 1
            rows = _first(get, 278, 0)
            follows = rows > 0 and bool(np.all(np.diff(starts) == rows * row_bytes))
            if not rows and counts.size == starts.size:
                follows = int(counts.sum()) == frame_bytes and bool(
                    np.all(starts[1:] == starts[:-1] + counts[:-1])
                )
            if plain and (starts.size == 1 or follows):
                start = int(starts[0])
                end = start + frame_bytes
            elif counts.size == starts.size:
                end = int((starts + counts).max())
        return Page(
            height=height,
            width=width,
            samples=samples,
            bits=bits,
            sample_format=_first(get, 339, 1),
            compression=compression,
            photometric=_first(get, 262, 1),
            reduced=bool(_first(get, 254, 0) & 1),
            start=start,
            end=end,
        )

    def first_tags(self, tags: _Tags) -> dict[int, Any]:
        """Description, resolution and the records of programs, where they are."""
        found: dict[int, Any] = {}
        for tag in (270, 51123):
            if tag in tags:
                text = self._bytes(tags, tag).split(b"\0")[0]
                found[tag] = text.decode("utf-8", errors="replace")
        if 282 in tags:
            data = self._bytes(tags, 282)
            if len(data) >= 8:
                above, below = struct.unpack(self.order + "II", data[:8])
                found[282] = above / below if below else 0.0
        if 33629 in tags:
            found[33629] = tags[33629][1]
        unit = self._integers(tags, 296) if 296 in tags else _NONE
        if unit.size:
            found[296] = int(unit[0])
        return found

    def _bytes(self, tags: _Tags, tag: int) -> bytes:
        kind, count, value = tags[tag]
        length = _SIZES.get(kind, 1) * count
        if length <= len(value):
            return value[:length]
        return self._at(self.number(value), length)

    def _integers(self, tags: _Tags, tag: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        kind = tags[tag][0]
        if kind not in _INTEGERS:
            return _NONE
        data = self._bytes(tags, tag)
        size = _SIZES[kind]
        whole = len(data) // size * size
        form = np.dtype(self.order + _INTEGERS[kind])
        return np.frombuffer(data[:whole], form).astype(np.int64)

    def _at(self, offset: int, length: int) -> bytes:
        if offset >= self.size:
            return b""
        self._file.seek(offset)
        return bytes(self._file.read(min(length, self.size - offset)))


_NONE = np.empty(0, np.int64)


def _first(
    values: Mapping[int, np.ndarray[Any, np.dtype[np.int64]]], tag: int, default: int
) -> int:
    found = values.get(tag, _NONE)
    return int(found[0]) if found.size else default
