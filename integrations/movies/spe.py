"""Movies of Princeton Instruments (.spe): WinView, WinSpec (2.x) and LightField (3.0).

The first 4100 bytes are numbers at fixed places, little endian; pixels follow. Version
3 ends in an XML text which says how the pixels lie. Places used: 10 exposure time in s
(float32), 42 columns, 108 type of the pixels, 656 rows (uint16), 678 start of the XML
(uint64), 1446 frames (int32), 1510 regions, 1512 the first: columns from, to, binned
by, rows likewise, from 1 (int16), 1992 version (float32), 2996 a mark in version 2.

Tried with two real files of version 2 (2 and 5 frames, the latter against the values of
another reader) and one of version 3, whose spectrum is refused; movies of version 3
only with files written for the tests.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.integrations.movies.blocks import BlockMovie

__all__ = ["SpeMovie", "is_spe"]

_HEADER_BYTES = 4100
_MARK = 0x01234567
_TYPES = {0: "<f4", 1: "<i4", 2: "<i2", 3: "<u2", 5: "<f8", 6: "u1", 8: "<u4"}
_FORMATS = {
    "MonochromeUnsigned16": "<u2",
    "MonochromeUnsigned32": "<u4",
    "MonochromeFloating32": "<f4",
}
_ADVICE = "export it from LightField or WinView as TIFF (16 bit, not scaled)"


def is_spe(path: Path, head: bytes) -> bool:
    """Whether the ending says so: the mark lies far behind the start."""
    return path.suffix.lower() == ".spe"


class SpeMovie(BlockMovie):
    """Images of one region of the chip.

    Parameters
    ----------
    path
        The `.spe` file.

    Raises
    ------
    InputError
        The header cannot be read, or it tells of spectra or several regions.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
            if len(header) < _HEADER_BYTES:
                raise InputError(
                    f"{path.name}: the file ends within its header ({len(header)} of "
                    f"{_HEADER_BYTES} bytes); copy it again"
                )
            (version,) = struct.unpack_from("<f", header, 1992)
            (text_at,) = struct.unpack_from("<Q", header, 678)
            self._found: dict[str, Any] = {}
            self._first = (0, 0)
            if version >= 3:
                file.seek(min(text_at, path.stat().st_size))
                shape, stored, stride = self._layout_3(path.name, file.read())
            else:
                shape, stored = self._layout_2(path.name, header)
                stride = None
        if 1 in shape[1:]:
            raise InputError(
                f"{path.name}: holds spectra ({shape[2]} x {shape[1]} px), no images; "
                f"give a movie recorded in image mode"
            )
        dtype = np.dtype(stored)
        super().__init__(path, shape, dtype, offset=_HEADER_BYTES, stride=stride)

    def _layout_2(self, name: str, header: bytes) -> tuple[tuple[int, int, int], str]:
        """Frames, rows, columns and pixel type of a file of WinView."""
        mark, frames, kind = (
            struct.unpack_from(form, header, place)[0]
            for form, place in (("<I", 2996), ("<i", 1446), ("<h", 108))
        )
        width, height = (struct.unpack_from("<H", header, k)[0] for k in (42, 656))
        if mark != _MARK or kind not in _TYPES:
            raise InputError(
                f"{name} is no .spe of Princeton Instruments, or of a kind that is "
                f"not known (type of pixels {kind}); {_ADVICE}"
            )
        (regions,) = struct.unpack_from("<h", header, 1510)
        x, _, x_binned, y, _, y_binned = struct.unpack_from("<6H", header, 1512)
        self._check_regions(name, regions)
        self._place(x - 1, y - 1, x_binned, y_binned)
        (exposure_s,) = struct.unpack_from("<f", header, 10)
        self._expose(1e3 * exposure_s)
        return (frames, height, width), _TYPES[kind]

    def _layout_3(
        self, name: str, text: bytes
    ) -> tuple[tuple[int, int, int], str, int]:
        """The same of a file of LightField, and bytes from frame to frame."""
        try:
            root = ET.fromstring(text.rstrip(b"\0"))
            frame = root.find("{*}DataFormat/{*}DataBlock")
            blocks = frame.findall("{*}DataBlock") if frame is not None else []
            if frame is None or not blocks:
                raise ValueError("it does not say how the frames lie")
            count, stride = int(frame.attrib["count"]), int(frame.attrib["stride"])
            stored = _FORMATS[frame.attrib["pixelFormat"]]
            size = [int(blocks[0].attrib[side]) for side in ("height", "width")]
            self._check_regions(name, sum(int(b.get("count", 1)) for b in blocks))
            sensor = root.find("{*}Calibrations/{*}SensorMapping")
            if sensor is not None:
                keys = ("x", "y", "xBinning", "yBinning")
                self._place(
                    *(int(sensor.get(key, k // 2)) for k, key in enumerate(keys))
                )
            times = {e.text for e in root.iter() if e.tag.endswith("}ExposureTime")}
            self._expose(float(times.pop() or 0) if len(times) == 1 else 0.0)
        except InputError:
            raise
        except (ET.ParseError, KeyError, ValueError) as error:
            raise InputError(
                f"{name}: the description at its end cannot be read "
                f"({type(error).__name__}: {error}); was the recording stopped? "
                f"Open it in LightField, or {_ADVICE}"
            ) from error
        return (count, size[0], size[1]), stored, stride

    @staticmethod
    def _check_regions(name: str, regions: int) -> None:
        if regions > 1:
            raise InputError(
                f"{name} has {regions} regions of the chip in every frame, and a movie "
                f"is one; {_ADVICE}, each region alone"
            )

    def _place(self, x: int, y: int, x_binned: int, y_binned: int) -> None:
        self._binned = (x_binned, y_binned)
        # Where the chip is binned its pixels are no longer those of the movie.
        if min(x, y) >= 0 and self._binned == (1, 1):
            self._first = (x, y)

    def _expose(self, exposure_ms: float) -> None:
        if 0 < exposure_ms < float("inf"):
            self._found["exposure_ms"] = exposure_ms

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row of the first pixel on the chip."""
        return self._first

    def facts(self) -> Mapping[str, Any]:
        """Exposure time."""
        return dict(self._found)

    def notes(self) -> tuple[str, ...]:
        """What the file does not say, and binning."""
        x, y = getattr(self, "_binned", (1, 1))
        binned = f"binned {x} x {y} (width x height); " if max(x, y) > 1 else ""
        return (
            f"{self._name}: {binned}e-/ADU, baseline and real EM gain are in the "
            f"camera's data sheet (--e-per-adu, --baseline, --em-gain)",
        )
