"""An NDTiff folder (Micro-Manager, pycromanager) that is being written.

`NDTiff.index` has one record per image, appended after the image itself has been
written, so a whole record means a whole image. The file is read from where the last
whole record ended; a record that is cut short waits for the next look.

Record (NDTiff 3, little-endian, as in ndstorage's `ndtiff_index.py`): length and JSON
of the axes, length and name of the file, then eight uint32: pixel offset, width,
height, pixel type, pixel compression, metadata offset, metadata length, metadata
compression.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.growing.reader import NotYetError

__all__ = ["INDEX_NAME", "GrowingNdTiff"]

INDEX_NAME = "NDTiff.index"
_TAIL = struct.Struct("<8I")
_LENGTH = struct.Struct("<I")
# Pixel type in the index -> type of the pixels, bits used.
_TYPES = {
    0: ("u1", 8),
    1: ("<u2", 16),
    3: ("<u2", 10),
    4: ("<u2", 12),
    5: ("<u2", 14),
    6: ("<u2", 11),
}
_MAX_TEXT = 65536


class GrowingNdTiff:
    """Images of one NDTiff folder along its time axis.

    Parameters
    ----------
    path
        The folder that holds `NDTiff.index`.

    Raises
    ------
    NotYetError
        No image is there yet.
    InputError
        Colour or compressed images, or axes other than time that vary.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._records: list[tuple[str, int, int]] = []
        self._files: dict[str, BinaryIO] = {}
        self._constant: dict[str, Any] | None = None
        self._format: tuple[int, int, int] | None = None
        if self.poll() == 0 or self._format is None:
            raise NotYetError

    @property
    def height(self) -> int:
        """Rows."""
        return self._shape[1]

    @property
    def width(self) -> int:
        """Columns."""
        return self._shape[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return np.dtype(_TYPES[self._shape[2]][0]).newbyteorder("=")

    @property
    def origin(self) -> tuple[int, int]:
        """The index does not say."""
        return (0, 0)

    @property
    def complete(self) -> bool:
        """Never known: the index has no end mark that all writers set."""
        return False

    def facts(self) -> Mapping[str, Any]:
        """Bit depth."""
        return {"bit_depth": _TYPES[self._shape[2]][1]}

    def poll(self) -> int:
        """Read new records of the index; images ready."""
        try:
            with (self._path / INDEX_NAME).open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return 0
        at = 0
        while (record := self._record(data, at)) is not None:
            at, axes, name, fields = record
            self._take(axes, name, fields)
        self._position += at
        return len(self._records)

    def settle(self) -> int:
        """Nothing waits for a next image here."""
        return self.poll()

    def number(self, k: int) -> int:
        """Position on the time axis, or the order when there is none."""
        return self._records[k][2]

    def read(self, k: int) -> npt.NDArray[Any]:
        """Image k."""
        name, offset, _ = self._records[k]
        if name not in self._files:
            # Only names beside the index are followed.
            self._files[name] = (self._path / Path(name).name).open("rb", buffering=0)
        file = self._files[name]
        file.seek(offset)
        stored = np.dtype(_TYPES[self._shape[2]][0])
        data = file.read(self.height * self.width * stored.itemsize)
        pixels = np.frombuffer(data, stored).reshape(self.height, self.width)
        return pixels.astype(self.dtype)

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    @property
    def _shape(self) -> tuple[int, int, int]:
        assert self._format is not None  # set by the first record
        return self._format

    def _record(
        self, data: bytes, at: int
    ) -> tuple[int, dict[str, Any], str, tuple[int, ...]] | None:
        """One whole record: where it ends, axes, file, numbers; else None."""
        texts = []
        for _ in range(2):
            if at + _LENGTH.size > len(data):
                return None
            (length,) = _LENGTH.unpack_from(data, at)
            if length == 0:  # an index made at full length first
                return None
            if length > _MAX_TEXT:
                raise InputError(
                    f"{self._path.name}: {INDEX_NAME} is damaged (a text of {length} "
                    f"bytes at byte {self._position + at}); only frames before it "
                    f"could be used"
                )
            at += _LENGTH.size
            if at + length > len(data):
                return None
            texts.append(data[at : at + length].decode("utf-8", errors="replace"))
            at += length
        if at + _TAIL.size > len(data):
            return None
        fields = _TAIL.unpack_from(data, at)
        try:
            axes = dict(json.loads(texts[0]))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self._path.name}: {INDEX_NAME} is damaged (the axes of image "
                f"{len(self._records)} are no JSON); copy it again"
            ) from error
        return at + _TAIL.size, axes, texts[1], fields

    def _take(self, axes: dict[str, Any], name: str, fields: tuple[int, ...]) -> None:
        offset, width, height, kind, compression = fields[:5]
        if kind not in _TYPES or compression:
            raise InputError(
                f"{self._path.name}: images are coloured or compressed (pixel type "
                f"{kind}, compression {compression}); a movie is 8 or 16 bit grey"
            )
        shape = (width, height, kind)
        if self._format is None:
            self._format = shape
        elif shape != self._format:
            raise InputError(
                f"{self._path.name}: image {len(self._records)} is {width} x {height} "
                f"px, the first {self.width} x {self.height}, or of another type; a "
                f"movie has one size and type"
            )
        time = axes.pop("time", None)
        if self._constant is None:
            self._constant = axes
        elif axes != self._constant:
            raise InputError(
                f"{self._path.name}: axes other than time change ({axes} after "
                f"{self._constant}); a movie has one channel and one plane"
            )
        number = len(self._records) if time is None else int(time)
        self._records.append((name, offset, number))
