"""Movies of Zeiss ZEN (.czi): uncompressed time series of one channel and position.

Also stacks along z, of beads for `calibrate`, at one time.

A file is a chain of segments: an id of 16 bytes, two lengths (int64), then data, little
endian. The first, ZISRAWFILE, says where the list of pictures (ZISRAWDIRECTORY) and the
XML text (ZISRAWMETADATA) are. An entry of the list: "DV", pixel type (int32), place of
the picture (int64), part of the file, compression (int32), kind of pyramid (byte, 5
more), number of dimensions, and for each its letter (4 bytes), start, size, coordinate
and stored size. At its place a picture repeats its entry; pixels follow after at least
256 bytes and its own XML text.

Tried with real files of ZEN: pictures of 3 times, 5 planes and 2 channels (refused) are
those that the package czifile reads, also after the list was rewritten to 30 times.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["CziMovie", "is_czi"]

_MARK = b"ZISRAWFILE"
_ENTRY = struct.Struct("<2siqiiB5xi")
_DIMENSION = struct.Struct("<4siifi")
_TYPES = {0: "u1", 1: "<u2", 2: "<f4"}
_WORDS = {
    "C": "channels",
    "Z": "planes along z",
    "S": "scenes",
    "M": "tiles of a mosaic",
    "H": "phases",
    "R": "rotations",
    "I": "illuminations",
    "B": "blocks",
    "V": "views",
}
_ADVICE = "export it from ZEN as OME-TIFF (16 bit, not scaled, not compressed)"


def is_czi(path: Path, head: bytes) -> bool:
    """Whether a file starts as ZEN writes it."""
    return head.startswith(_MARK)


@dataclass(frozen=True, slots=True)
class _Picture:
    """An entry of the list: `place` of the segment, `starts` and `sizes` by letter."""

    place: int
    entry_bytes: int
    pixel_type: int
    compression: int
    part: int
    starts: Mapping[str, int]
    sizes: Mapping[str, int]
    whole: bool


class CziMovie(MovieBase):
    """Frames in the order of their times.

    Parameters
    ----------
    path
        The `.czi` file.

    Raises
    ------
    InputError
        The list of pictures cannot be read, or they are not one uncompressed movie.
    """

    def __init__(self, path: Path) -> None:
        name = path.name
        self._file: BinaryIO = path.open("rb")
        try:
            listed, text = _read(self._file)
            pictures = [picture for picture in listed if picture.whole]
            _refuse_others(pictures, name)
            pictures.sort(key=_when)
            self._along_z = (
                len({picture.starts.get("Z", 0) for picture in pictures}) > 1
            )
            first = pictures[0]
            stored = np.dtype(_TYPES[first.pixel_type])
            size = (first.sizes["Y"], first.sizes["X"])
            super().__init__(name, (len(pictures), *size), stored)
        except (struct.error, KeyError, IndexError, ValueError) as error:
            self._file.close()
            raise InputError(
                f"{name}: its list of pictures cannot be read ({type(error).__name__}: "
                f"{error}); was the recording stopped, or the copy? Open it in ZEN, or "
                f"{_ADVICE}"
            ) from error
        except InputError:
            self._file.close()
            raise
        self._pictures, self._stored = pictures, stored
        self._found = _facts(text)
        self.z_step_nm = self._found.pop("z_step_nm", None) if self._along_z else None
        self._found.pop("z_step_nm", None)

    def facts(self) -> Mapping[str, Any]:
        """Pixel size and exposure time; gains are settings, no numbers."""
        return dict(self._found)

    def notes(self) -> tuple[str, ...]:
        """Says when times are missing, and that planes are no times."""
        if self._along_z:
            return (f"{self._name}: its planes along z are read as frames",)
        times = [picture.starts.get("T", 0) for picture in self._pictures]
        wanted = times[-1] - times[0] + 1
        if wanted == len(times):
            return ()
        return (
            f"{self._name}: {wanted - len(times)} of {wanted} times are missing; the "
            f"frames are numbered without gaps",
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        block = np.empty((stop - start, self.height, self.width), self._stored)
        for i in range(start, stop):
            picture = self._pictures[i]
            self._file.seek(picture.place)
            segment = self._file.read(32 + 16)
            if not segment.startswith(b"ZISRAWSUBBLOCK") or len(segment) < 48:
                raise self._broken(i, "it is not where the list says")
            (text_bytes,) = struct.unpack_from("<i", segment, 32)
            head = max(256, 16 + picture.entry_bytes)
            self._file.seek(picture.place + 32 + head + text_bytes)
            pixels = np.fromfile(self._file, self._stored, block[0].size)
            if pixels.size < block[0].size:
                raise self._broken(i, "the file ends within it")
            block[i - start] = pixels.reshape(block[0].shape)
        return block


def _when(picture: _Picture) -> tuple[int, int]:
    return picture.starts.get("T", 0), picture.starts.get("Z", 0)


def _read(file: BinaryIO) -> tuple[list[_Picture], bytes]:
    """The list of pictures, and the XML text of the file."""
    listed_at, text_at = struct.unpack_from("<qq", file.read(32 + 80), 32 + 52)
    listed = _segment(file, listed_at, b"ZISRAWDIRECTORY")
    (count,) = struct.unpack_from("<i", listed, 0)
    place = 128
    pictures = []
    for _ in range(count):
        picture = _picture(listed, place)
        pictures.append(picture)
        place += picture.entry_bytes
    text = b""
    if text_at > 0:
        about = _segment(file, text_at, b"ZISRAWMETADATA")
        (length,) = struct.unpack_from("<i", about, 0)
        text = about[256 : 256 + length]
    return pictures, text


def _segment(file: BinaryIO, place: int, name: bytes) -> bytes:
    file.seek(max(place, 0))
    head = file.read(32)
    if place < 1 or not head.startswith(name):
        raise ValueError(f"no {name.decode()} where the file says")
    (used,) = struct.unpack_from("<q", head, 24)
    return file.read(used)


def _picture(listed: bytes, at: int) -> _Picture:
    mark, pixel_type, place, part, compression, pyramid, count = _ENTRY.unpack_from(
        listed, at
    )
    if mark != b"DV" or not 0 < count < 32:
        raise ValueError("an entry is damaged")
    starts, sizes, whole = {}, {}, pyramid == 0
    for k in range(count):
        letter, start, size, _, stored = _DIMENSION.unpack_from(
            listed, at + _ENTRY.size + k * _DIMENSION.size
        )
        key = letter.rstrip(b"\0").decode("ascii", "replace")
        starts[key], sizes[key] = start, size
        # Smaller pictures of the same, for looking at.
        whole = whole and stored in (0, size)
    length = _ENTRY.size + count * _DIMENSION.size
    return _Picture(place, length, pixel_type, compression, part, starts, sizes, whole)


def _refuse_others(pictures: list[_Picture], name: str) -> None:
    """Refuse what is not one uncompressed movie, or one stack along z."""
    several = len({picture.starts.get("T", 0) for picture in pictures}) > 1
    for axis in sorted({key for picture in pictures for key in picture.starts}):
        if axis in "XYT" or (axis == "Z" and not several):
            continue
        many = len({picture.starts.get(axis, 0) for picture in pictures})
        many = max(many, *(picture.sizes.get(axis, 1) for picture in pictures))
        if many > 1:
            raise InputError(
                f"{name} has {many} {_WORDS.get(axis, f'steps of axis {axis}')}, and a "
                f"movie has one; save the one to be analysed alone (ZEN: Create Image "
                f"Subset)"
            )
    times = Counter(_when(picture) for picture in pictures)
    sizes = {
        (p.sizes["Y"], p.sizes["X"], p.sizes.get("T", 1), p.sizes.get("Z", 1))
        for p in pictures
    }
    if max(times.values(), default=0) > 1 or len(sizes) > 1:
        raise InputError(
            f"{name} holds several pictures of one time, or of several sizes, and a "
            f"movie has one; {_ADVICE}"
        )
    for picture in pictures:
        if picture.compression != 0 or picture.pixel_type not in _TYPES:
            raise InputError(
                f"{name}: its pictures are compressed, coloured or of an unknown kind "
                f"(compression {picture.compression}, pixels {picture.pixel_type}); "
                f"{_ADVICE}"
            )
        if picture.part != 0:
            raise InputError(
                f"{name} is one of several files of a recording; {_ADVICE}"
            )


def _facts(text: bytes) -> dict[str, Any]:
    """Pixel size and z step (m in the file), exposure time (ns), where it is clear."""
    try:
        root = ET.fromstring(text.rstrip(b"\0"))
    except ET.ParseError:
        return {}
    found: dict[str, Any] = {}
    size, step = (
        root.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value") for axis in "XZ"
    )
    times = {e.text for e in root.iterfind(".//Image/Dimensions//ExposureTime")}
    for key, value, factor in (
        ("pixel_size_nm", size, 1e9),
        ("z_step_nm", step, 1e9),
        ("exposure_ms", times.pop() if len(times) == 1 else None, 1e-6),
    ):
        try:
            number = factor * float(value or 0)
        except ValueError:
            continue
        if 0 < number < float("inf"):
            found[key] = number
    return found
