"""Movies of Hamamatsu (.dcimg), as HCImage and DCAM write them.

Little endian. At the start of the file: "DCIMG", version (byte 8, uint32: 7, or 2^24
and more), frames (36), start of the session (40). From the start of the session on:

| what | version 7 | later |
|---|---|---|
| frames, bytes of a pixel, columns | 32, 36, 44 | 60, 64, 72 |
| rows, bytes of a row, of a frame | 52, 48, 56 | 76, 80, 84 |
| start of the pixels, bytes behind every frame | 68, - | 96 (uint64), 124 |
| bytes from one frame to the next | - | 116 |
| end of the pixels (uint64) | 72 | - |
| columns on the chip from, many, rows likewise (uint16) | - | 712 |

A Camera Link camera marks its frames by overwriting 8 bytes of one row; the pixels
that were there lie elsewhere. Version 7 has a table behind the pixels (its start 8
bytes in, uint64) which says at 88 where these pixels are, at 100 where they belong, at
104 how many bytes they are; numbers of the frames (uint32) lie 272 bytes in, their
times (s and us, uint32) behind these. Later versions have behind every frame its
number, time, and, when there are 32 bytes or at least 512, the 8 bytes from the 12th
on; they belong to row 1023 of the chip, to the first one in version 2^25.

These facts are those of the readers PYME, dcimg (lens-biophotonics) and Bio-Formats.
Tried only with files laid out so for the tests; dcimg (of June 2023, with NumPy 1)
reads the same pixels, numbers and times from them. With NumPy 2 it fails.

Design notes
------------
Rows are in the order of the file, the top first, as Hamamatsu's own library hands them
out; Bio-Formats mirrors them. Lost frames are said; the numbers in the result have no
gaps, as in a TIFF file exported of the same movie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.blocks import BlockMovie
from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["DcimgMovie", "is_dcimg"]

_OLD, _FIRST_ROW = 0x7, 0x2000000
_LATER = (0x1000000, 0x1050000, _FIRST_ROW)
_HEADER_BYTES = 72
_SESSION_BYTES = 720
_MARKED_BYTES = 8
_MIDDLE_ROW = 1023
_MARK = (0, 65535, 0, 65535)
_STAMP = struct.Struct("<III")
_ADVICE = "export it from HCImage as TIFF (16 bit, not scaled)"


def is_dcimg(path: Path, head: bytes) -> bool:
    """Whether a file starts as Hamamatsu's programs write it."""
    return head.startswith(b"DCIMG")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where things are; `place` x, y and `binned` of the chip, bytes otherwise."""

    version: int
    frames: int
    height: int
    width: int
    row_bytes: int
    frame_bytes: int
    pixel_bytes: int
    pixels_at: int
    behind_frame: int
    footer_at: int
    place: tuple[int, int]
    binned: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Marked:
    """The row whose first bytes are overwritten; where those of frame k are."""

    row: int
    at: int
    step: int


class DcimgMovie(MovieBase):
    """Frames of a recording with one session.

    Parameters
    ----------
    path
        The `.dcimg` file.

    Raises
    ------
    InputError
        The header cannot be read, or is of a version that is not known.
    """

    def __init__(self, path: Path) -> None:
        self._size = path.stat().st_size
        with path.open("rb") as file:
            self._recorded, layout = _layout(file, path.name)
        stored = np.dtype("u1" if layout.pixel_bytes == 1 else "<u2")
        # Rows may be longer than the region of the chip that was asked for.
        self._rows = BlockMovie(
            path,
            (layout.frames, layout.height, layout.row_bytes // layout.pixel_bytes),
            stored,
            offset=layout.pixels_at,
            stride=layout.frame_bytes + layout.behind_frame,
        )
        self._file: BinaryIO = path.open("rb")
        shape = (self._rows.n_frames, layout.height, layout.width)
        super().__init__(path.name, shape, stored, damage=self._rows.damage)
        self._layout, self._stored = layout, stored
        self._marked = self._find_marked()
        self._clock = self._find_clock()

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row of the first pixel on the chip, unless pixels are binned."""
        return self._layout.place if self._layout.binned == (1, 1) else (0, 0)

    def facts(self) -> Mapping[str, Any]:
        """Nothing: the file does not say the camera's settings in known places."""
        return {}

    def notes(self) -> tuple[str, ...]:
        """What was lost, mended, binned or left out."""
        remarks = []
        if (lost := self._lost()) is not None:
            count, first = lost
            remarks.append(
                f"the camera's numbers of the frames tell that {count} frames were "
                f"lost, the first of them after frame {first}; the frames are numbered "
                f"without gaps"
            )
        if self._layout.version == _OLD and self.damage is not None:
            remarks.append(
                "the table behind the last frame is missing, so the first pixels of a "
                "row may hold marks of the camera, not light"
            )
        if self._recorded > self._layout.frames:
            remarks.append(
                f"holds several sessions; the {self._layout.frames} frames of the "
                f"first are read, of {self._recorded} in all"
            )
        if self._layout.binned != (1, 1):
            x, y = self._layout.binned
            remarks.append(f"binned {x} x {y} (width x height)")
        remarks.append(
            "e-/ADU and baseline are in the camera's data sheet (--e-per-adu, "
            "--baseline)"
        )
        return tuple(f"{self._name}: {remark}" for remark in remarks)

    @property
    def time_s(self) -> Callable[[int], float] | None:
        """When a frame came, s since the first one; None when the file has no times."""
        return self._clock

    def close(self) -> None:
        """Close the file."""
        self._rows.close()
        self._file.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._load_rows(start, stop, 0, self.height)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        block = self._rows.read_rows(start, stop, top, bottom)[:, :, : self.width]
        marked = self._marked
        if marked is not None and top <= marked.row < bottom:
            for i in range(start, stop):
                self._file.seek(marked.at + i * marked.step)
                pixels = np.frombuffer(self._file.read(_MARKED_BYTES), self._stored)
                # The camera's baseline makes real pixels more than 0.
                if pixels.nbytes == _MARKED_BYTES and pixels.any():
                    place = block[i - start, marked.row - top, : pixels.size]
                    place[:] = pixels[: place.size]
        return block

    def _find_clock(self) -> Callable[[int], float] | None:
        first, last = (self._stamp(k)[1] for k in (0, self.n_frames - 1))
        # Zeros, or a clock that was set back.
        if last <= first:
            return None
        return lambda index: self._stamp(index)[1] - first

    def _find_marked(self) -> _Marked | None:
        """Where the camera wrote marks over pixels, and where these pixels are."""
        layout = self._layout
        if layout.version == _OLD:
            table = self._at(layout.footer_at, 16)
            (table_at,) = struct.unpack_from("<Q", table, 8)
            found = self._at(layout.footer_at + table_at, 112)
            version = struct.unpack_from("<I", table)[0]
            at, place, size = struct.unpack_from("<Q4xIQ", found, 88)
            if version != _OLD or size < _MARKED_BYTES:
                return None
            row = place // layout.row_bytes
            marked = _Marked(row, layout.footer_at + at, _MARKED_BYTES)
        elif layout.behind_frame == 32 or layout.behind_frame >= 512:
            step = layout.frame_bytes + layout.behind_frame
            row = 0
            if layout.version != _FIRST_ROW:
                row = (_MIDDLE_ROW - layout.place[1]) // layout.binned[1]
            at = layout.pixels_at + layout.frame_bytes + _STAMP.size
            marked = _Marked(self._row_with_mark(row), at, step)
        else:
            return None
        return marked if 0 <= marked.row < self.height else None

    def _row_with_mark(self, expected: int) -> int:
        """The one row that starts with the mark in the first frame, or as expected."""
        if self._stored.itemsize != 2 or self.width < len(_MARK):
            return expected
        first = self._rows.read(0, 1)[0, :, : len(_MARK)]
        rows = np.flatnonzero((first == _MARK).all(axis=1))
        return int(rows[0]) if rows.size == 1 else expected

    def _stamp(self, index: int) -> tuple[int, float]:
        """Number and time (s) of a frame as the camera counts; 0 when not known."""
        layout = self._layout
        if layout.version == _OLD:
            at = layout.footer_at + 272
            number = self._at(at + 4 * index, 4)
            seconds = self._at(at + 4 * layout.frames + 8 * index, 8)
            stamp = number + seconds
        elif layout.behind_frame >= _STAMP.size:
            step = layout.frame_bytes + layout.behind_frame
            stamp = self._at(
                layout.pixels_at + index * step + layout.frame_bytes, _STAMP.size
            )
        else:
            return 0, 0.0
        count, whole_s, micro_s = _STAMP.unpack(stamp)
        return count, whole_s + 1e-6 * micro_s

    def _lost(self) -> tuple[int, int] | None:
        """How many frames are missing, and the frame before the first of them.

        A number less the frame's place never falls, so the first gap is found by
        halving: reading all numbers of a long movie takes minutes over a network.
        """
        last = self.n_frames - 1
        first, second, end = (self._stamp(k)[0] for k in (0, min(1, last), last))
        lost = end - first - last
        # Numbers that do not rise, or a recording of every k-th frame on purpose.
        if lost < 1 or end - first == (second - first) * last:
            return None
        low, high = 0, last
        while high - low > 1:
            middle = (low + high) // 2
            if self._stamp(middle)[0] - middle > first:
                high = middle
            else:
                low = middle
        return lost, low

    def _at(self, place: int, count: int) -> bytes:
        """Bytes of the file; zeros where it has ended."""
        if place > self._size:
            return bytes(count)
        self._file.seek(place)
        return self._file.read(count).ljust(count, b"\0")


def _layout(file: BinaryIO, name: str) -> tuple[int, _Layout]:
    """Frames in the whole file, and where those of its first session are."""
    head = file.read(_HEADER_BYTES).ljust(_HEADER_BYTES, b"\0")
    version, frames, start = (struct.unpack_from("<I", head, k)[0] for k in (8, 36, 40))
    if version not in (_OLD, *_LATER):
        raise InputError(
            f"{name}: a .dcimg file of version {version:#x}, and blinkloop knows "
            f"{', '.join(hex(v) for v in (_OLD, *_LATER))}; {_ADVICE}"
        )
    file.seek(start)
    about = file.read(_SESSION_BYTES)
    try:
        layout = _read_session(about, version, start)
    except struct.error as error:
        raise InputError(
            f"{name}: the file ends within its header ({start + len(about)} bytes); "
            f"copy it again"
        ) from error
    if layout.frames < 1:
        raise InputError(
            f"{name}: its header says 0 frames; is it still being recorded, or was the "
            f"recording stopped? Close it in HCImage and try again, or {_ADVICE}"
        )
    pixels = layout.width * layout.pixel_bytes
    if (
        layout.pixel_bytes not in (1, 2)
        or not 0 < pixels <= layout.row_bytes
        or layout.row_bytes % layout.pixel_bytes
        or layout.row_bytes * layout.height != layout.frame_bytes
    ):
        raise InputError(
            f"{name}: its header is not consistent ({layout.frames} frames of "
            f"{layout.width} x {layout.height} px, {layout.pixel_bytes} bytes each, "
            f"rows of {layout.row_bytes} and frames of {layout.frame_bytes} bytes); "
            f"was the recording stopped? Open it in HCImage, or {_ADVICE}"
        )
    return frames, layout


def _read_session(about: bytes, version: int, start: int) -> _Layout:
    def number(at: int, form: str = "<I") -> int:
        return int(struct.unpack_from(form, about, at)[0])

    if version == _OLD:
        return _Layout(
            version,
            frames=number(32),
            height=number(52),
            width=number(44),
            row_bytes=number(48),
            frame_bytes=number(56),
            pixel_bytes=number(36),
            pixels_at=start + number(68),
            behind_frame=0,
            footer_at=start + number(72, "<Q"),
            place=(0, 0),
            binned=(1, 1),
        )
    height, width = number(76), number(72)
    # Either may be 0: PYME goes by the one, dcimg by the other.
    behind = number(124) or max(number(116) - number(84), 0)
    x, columns, y, rows = struct.unpack_from("<4H", about, 712)
    return _Layout(
        version,
        frames=number(60),
        height=height,
        width=width,
        row_bytes=number(80),
        frame_bytes=number(84),
        pixel_bytes=number(64),
        pixels_at=start + number(96, "<Q"),
        behind_frame=behind,
        footer_at=0,
        place=(x, y),
        binned=(max(columns // max(width, 1), 1), max(rows // max(height, 1), 1)),
    )
