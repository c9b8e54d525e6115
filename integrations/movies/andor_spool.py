"""Movies that Andor Solis spooled into a folder, as it does with sCMOS cameras.

The folder holds `acquisitionmetadata.ini`, which says how frames lie, the frames in
files whose names are their number with the digits from the last to the first
("2100000000spool.dat" is the 13th), and a .sifx, which is the header of a .sif. A frame
takes `ImageSizeBytes`, a row of it `AOIStride`; what is behind the rows are the
camera's remarks. Mono12Packed has two pixels in three bytes: the first and the third
are their upper 8 bits, the second byte has the lower 4 of the first pixel below those
of the other.

Tried with real folders of a Zyla 5.5 (Mono16, Mono32, Mono12Packed; those of the
package sif_parser), whose pixels are those of the text that Solis exported.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.blocks import whole_frames
from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["SpoolMovie", "is_spool_folder", "is_spooled", "open_spooled"]

_FACTS = "acquisitionmetadata.ini"
_NAME = re.compile(r"(\d+)spool\.dat", re.IGNORECASE)
_PACKED = "Mono12Packed"
_TYPES = {"Mono8": "u1", "Mono12": "<u2", "Mono16": "<u2", "Mono32": "<u4"}
_ADVICE = "export it from Andor Solis as TIFF (16 bit, not scaled)"
# Version, 3 numbers, date, temperature, 10 bytes, a number, then what is wanted.
_TIMES = re.compile(rb"(?s)\n6\d{4} \S+ \S+ \S+ \d+ \S+ .{10}\S+ (\S+) \S+ \S+ (\d+) ")
_COUNT = re.compile(
    rb"Pixel number6\d{4} \S+ \S+ \S+ \S+ (\d+) (\d+) \S+ \S+\s+"
    rb"6\d{4} \S+ \S+ \S+ \S+ (\d+) (\d+) "
)
_HEADER_BYTES = 2**16


def is_spooled(path: Path, head: bytes) -> bool:
    """Whether a file is one of a folder that Solis spooled, by its name."""
    name = path.name.lower()
    return name.endswith(".sifx") or name == _FACTS or bool(_NAME.fullmatch(name))


def open_spooled(path: Path) -> SpoolMovie:
    """Open the folder that a file lies in."""
    return SpoolMovie(path.resolve().parent)


def is_spool_folder(folder: Path) -> bool:
    """Whether Solis spooled a movie into a folder, and it is still there.

    Where only TIFF files are left, exported from it, these are the movie.
    """
    if not (folder / _FACTS).is_file():
        return False
    names = [path.name.lower() for path in folder.iterdir()]
    exported = any(name.endswith((".tif", ".tiff")) for name in names)
    return not exported or any(map(_NAME.fullmatch, names))


def _spooled(folder: Path) -> list[tuple[int, Path]]:
    """Numbers and files of a folder, rising."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(m[1][::-1]), path) for m, path in found if m)


class SpoolMovie(MovieBase):
    """Frames of one region of the chip in many files.

    Parameters
    ----------
    folder
        With the `.ini` and the `.dat` files.

    Raises
    ------
    InputError
        Something is missing or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        name = folder.name
        layout = _Layout(folder / _FACTS)
        files = _spooled(folder)
        if not files:
            raise InputError(
                f"{folder}: its files of frames (0000000000spool.dat ...) are missing; "
                f"copy the whole folder, or {_ADVICE}"
            )
        self._layout = layout
        # Up to the first number that is missing; they begin with 0.
        self._files = [path for k, (number, path) in enumerate(files) if number == k]
        headers = [p for p in folder.iterdir() if p.suffix.lower() == ".sifx"]
        self._read_header(headers[0] if len(headers) == 1 else None, name)
        there = 0
        if self._files:
            size = self._files[-1].stat().st_size
            there = layout.frames_in(size) + (len(self._files) - 1) * layout.per_file
        damage = None
        if len(self._files) < len(files):
            damage = (
                f"file {len(self._files)} of the spooled ones is missing, so there are "
                f"{there} frames without a gap"
            )
        elif self._promised is not None and there < self._promised:
            damage = f"the files end after {there} of {self._promised} frames"
        count = there if self._promised is None else min(there, self._promised)
        shape = (count, layout.height, layout.width)
        super().__init__(name, shape, layout.stored, damage=damage)

    def _read_header(self, path: Path | None, name: str) -> None:
        """Frames, exposure time and binning, as far as the .sifx says them."""
        self._promised: int | None = None
        self._found: dict[str, Any] = dict(self._layout.facts)
        self._said: list[str] = []
        header = b""
        if path is not None:
            with path.open("rb") as file:
                header = file.read(_HEADER_BYTES)
        times, count = _TIMES.search(header), _COUNT.search(header)
        if times is None or count is None:
            self._said.append(
                "no .sifx says how many frames were recorded; the last ones may be "
                "empty"
            )
            return
        frames, parts, y_binned, x_binned = (int(number) for number in count.groups())
        if parts != 1:
            raise InputError(
                f"{name}: holds {parts} tracks per frame, and a movie is one region of "
                f"the chip; {_ADVICE}, the one to be analysed alone"
            )
        self._promised = frames
        exposure_ms = 1e3 * float(times[1])
        if 0 < exposure_ms < float("inf"):
            self._found["exposure_ms"] = exposure_ms
        if (x_binned, y_binned) != (1, 1):
            self._said.append(f"binned {x_binned} x {y_binned} (width x height)")
        if int(times[2]) > 1:
            self._said.append(
                f"every frame is the sum of {int(times[2])}, so baseline and noise of "
                f"the camera count {int(times[2])} times"
            )

    def facts(self) -> Mapping[str, Any]:
        """Exposure time and bits."""
        return dict(self._found)

    def notes(self) -> tuple[str, ...]:
        """What the header tells, or that it does not."""
        camera = (
            "e-/ADU and baseline are in the camera's data sheet (--e-per-adu, "
            "--baseline)"
        )
        return tuple(f"{self._name}: {said}" for said in (*self._said, camera))

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._load_rows(start, stop, 0, self.height)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        layout = self._layout
        block = np.empty((stop - start, bottom - top, self.width), layout.stored)
        wanted = (bottom - top) * layout.row_bytes
        for i in range(start, stop):
            number, place = divmod(i, layout.per_file)
            path = self._files[number]
            try:
                with path.open("rb") as file:
                    file.seek(place * layout.frame_bytes + top * layout.row_bytes)
                    rows = file.read(wanted)
            except OSError as error:
                raise self._broken(i, f"{path.name}: {error.strerror}") from error
            if len(rows) < wanted:
                raise self._broken(i, f"{path.name} ends within it")
            block[i - start] = layout.pixels(rows)
        return block


class _Layout:
    """How frames lie in the files, as the `.ini` tells."""

    def __init__(self, path: Path) -> None:
        folder = path.parent.name
        said = configparser.ConfigParser(interpolation=None)
        try:
            said.read_string(path.read_text(encoding="utf-8-sig", errors="replace"))
            about = said["data"]
            self.height, self.width, self.row_bytes, self.frame_bytes = (
                int(about[key])
                for key in ("AOIHeight", "AOIWidth", "AOIStride", "ImageSizeBytes")
            )
            encoding = about["PixelEncoding"]
            self.per_file = int(said.get("multiimage", "ImagesPerFile", fallback="1"))
        except FileNotFoundError as error:
            raise InputError(
                f"{folder}: {_FACTS} is missing, so size and type of the spooled "
                f"frames are not known; copy the whole folder, or {_ADVICE}"
            ) from error
        except (configparser.Error, KeyError, ValueError) as error:
            raise InputError(
                f"{folder}: {_FACTS} does not say how the frames lie "
                f"({type(error).__name__}: {' '.join(str(error).split())}); copy it "
                f"again, or {_ADVICE}"
            ) from error
        self._packed = encoding == _PACKED
        if not self._packed and encoding not in _TYPES:
            raise InputError(
                f"{folder}: pixels of kind {encoding}, and blinkloop reads "
                f"{', '.join((*_TYPES, _PACKED))}; {_ADVICE}"
            )
        self.stored = np.dtype(_TYPES["Mono16" if self._packed else encoding])
        self._used = self.width * self.stored.itemsize
        if self._packed:
            self._used = (3 * self.width + 1) // 2
        if (
            min(self.height, self.width, self.per_file) < 1
            or self.row_bytes < self._used
            or self.frame_bytes < self.height * self.row_bytes
        ):
            raise InputError(
                f"{folder}: {_FACTS} is not consistent ({self.width} x {self.height} "
                f"px of {encoding} in rows of {self.row_bytes} and frames of "
                f"{self.frame_bytes} bytes); copy it again, or {_ADVICE}"
            )
        twelve = encoding in ("Mono12", _PACKED)
        self.facts: dict[str, Any] = {"bit_depth": 12} if twelve else {}

    def frames_in(self, size: int) -> int:
        """Frames of a file of that size; what is behind the last one may be cut."""
        there = whole_frames(
            size, 0, self.height * self.row_bytes, stride=self.frame_bytes
        )
        return min(there, self.per_file)

    def pixels(self, rows: bytes) -> npt.NDArray[Any]:
        """(rows, columns) of whole rows."""
        lines = np.frombuffer(rows, np.uint8).reshape(-1, self.row_bytes)
        lines = np.ascontiguousarray(lines[:, : self._used])
        if not self._packed:
            return lines.view(self.stored)
        pixels = np.empty((len(lines), self.width), np.uint16)
        low = lines[:, 1::3]
        pixels[:, ::2] = lines[:, ::3].astype(np.uint16) << 4
        pixels[:, 1::2] = lines[:, 2::3].astype(np.uint16) << 4
        pixels[:, ::2] |= low & 0xF
        pixels[:, 1::2] |= (low >> 4)[:, : self.width // 2]
        return pixels
