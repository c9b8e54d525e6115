"""Movies of Nikon NIS-Elements (.nd2), by the package `nd2`.

Tried with a real file of NIS-Elements (3 times, 10 planes, 2 channels: refused), with
the same file after its loops were rewritten to one of 30 times, and with files laid out
as it is. Old files (JPEG 2000) are not read.

Design notes
------------
Frames that a stopped recording lacks are handed out by `nd2` as zeros, without a word.
So one that is all zeros is looked up in the list of places at the end of the file; the
last 8 bytes say where that starts.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["Nd2Movie", "is_nd2"]

_MARK = b"\xda\xce\xbe\x0a"
_TIMES = ("TimeLoop", "NETimeLoop")
_PLANES = "ZStackLoop"
_WORDS = {
    "XYPosLoop": "positions",
    "ZStackLoop": "planes along z",
    "CustomLoop": "settings of a custom loop",
}
_MS = {"s": 1e3, "sec": 1e3, "ms": 1.0, "µs": 1e-3, "μs": 1e-3, "us": 1e-3}


def is_nd2(path: Path, head: bytes) -> bool:
    """Whether a file starts as NIS-Elements writes it."""
    return head.startswith(_MARK)


class Nd2Movie(MovieBase):
    """The time series, or stack along z, of a file with one channel and position.

    Parameters
    ----------
    path
        The `.nd2` file.

    Raises
    ------
    InputError
        The file cannot be read, or its pictures differ in more than time.
    """

    def __init__(self, path: Path) -> None:
        package = require("nd2", "Reading movies of Nikon NIS-Elements", "nikon")
        self._path = path
        self._capturing = ""
        self._pixel_nm: float | None = None
        try:
            self._file = package.ND2File(path)
        except Exception as error:  # of a damaged file nearly anything
            raise _unreadable(path.name, error) from error
        try:
            super().__init__(path.name, *self._layout(path.name))
        except InputError:
            self._file.close()
            raise
        except Exception as error:
            self._file.close()
            raise _unreadable(path.name, error) from error

    def _layout(self, name: str) -> tuple[tuple[int, int, int], np.dtype[Any]]:
        """Frames, rows, columns and pixel type, or what they are besides."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels, loops = self._file.attributes, self._file.experiment
            # `nd2` stumbles over colours that are not described: no reason to stop.
            with suppress(Exception):
                self._capturing = str(self._file.text_info.get("capturing", ""))
            with suppress(Exception):
                self._pixel_nm = self._pixel_size_nm()
        if pixels.componentCount != 1:
            raise InputError(
                f"{name} has {pixels.componentCount} channels, and a movie is one; "
                f"save the channel of the molecules alone (NIS-Elements: Split "
                f"Channels)"
            )
        long = [loop for loop in loops if loop.count > 1]
        # A stack of beads, for `calibrate`.
        self._along_z = [loop.type for loop in long] == [_PLANES]
        self.z_step_nm = _step_nm(long[0]) if self._along_z else None
        for loop in long:
            if loop.type not in _TIMES and not self._along_z:
                what = _WORDS.get(loop.type, f"steps of a {loop.type}")
                raise InputError(
                    f"{name} has {loop.count} {what}, and a movie has one; save the "
                    f"one to be analysed alone (NIS-Elements: Split ND Document)"
                )
        recorded = int(pixels.sequenceCount)
        asked = int(np.prod([loop.count for loop in long], dtype=int))
        if len(long) > 1 or (recorded > 1 and asked == 1):
            raise InputError(
                f"{name} holds {recorded} pictures and does not say that they are one "
                f"time series; export it as TIFF (16 bit, not scaled) with NIS-Elements"
            )
        self._bits = int(pixels.bitsPerComponentSignificant or 0)
        # A stopped recording has fewer than was asked for, an endless one more.
        shape = (recorded, int(pixels.heightPx), int(pixels.widthPx))
        return shape, np.dtype(self._file.dtype)

    def _pixel_size_nm(self) -> float | None:
        meta = self._file.metadata
        channels = getattr(meta, "channels", None)
        if not channels or not channels[0].volume.axesCalibrated[0]:
            return None
        size = 1e3 * float(channels[0].volume.axesCalibration[0])
        return size if 0 < size < float("inf") else None

    def facts(self) -> Mapping[str, Any]:
        """Pixel size, exposure time and bits; gains are settings, no numbers."""
        found: dict[str, Any] = {}
        if self._pixel_nm is not None:
            found["pixel_size_nm"] = self._pixel_nm
        exposure = re.findall(
            r"\bExposure(?: Time)?\}?:\s*([\d.]+)\s*(sec|s|ms|us|[µμ]s)\b",
            self._capturing,
        )
        # More than one: of several devices, and nobody says which is the camera's.
        if len(set(exposure)) == 1 and float(exposure[0][0]) > 0:
            found["exposure_ms"] = float(exposure[0][0]) * _MS[exposure[0][1]]
        if 1 <= self._bits <= 16:
            found["bit_depth"] = self._bits
        return found

    def notes(self) -> tuple[str, ...]:
        """What the camera was set to; planes along z."""
        lines = [" ".join(line.split()) for line in self._capturing.splitlines()]
        said = "; ".join(line for line in lines if line)
        planes = f"{self._name}: its planes along z are read as frames"
        remarks = (planes,) if self._along_z else ()
        if not said:
            return remarks
        return (
            *remarks,
            f"{self._name}: {said[:200]}{'...' if len(said) > 200 else ''}; e-/ADU, "
            f"baseline and real EM gain are in the camera's data sheet (--e-per-adu, "
            f"--baseline, --em-gain)",
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        block = np.empty(
            (stop - start, self.height, self.width), np.dtype(self._file.dtype)
        )
        for i in range(start, stop):
            try:
                # One row or one column is a picture, too, which `nd2` squeezes.
                block[i - start] = self._file.read_frame(i).reshape(block[0].shape)
            except Exception as error:
                raise self._broken(i, f"{type(error).__name__}: {error}") from error
            if not block[i - start].any() and not self._is_there(i):
                raise self._broken(i, "it is not in the file")
        return block

    def _is_there(self, frame: int) -> bool:
        """Whether the file lists a frame, and reaches as far as its place."""
        name = b"ImageDataSeq|%d!" % frame
        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            file.seek(max(0, size - 8))
            file.seek(int.from_bytes(file.read(8), "little"))
            _, found, place = file.read().partition(name)
        return bool(found) and int.from_bytes(place[:8], "little") < size


def _step_nm(loop: Any) -> float | None:
    """Between two planes; None when the file does not say it."""
    step = 1e3 * abs(float(getattr(loop.parameters, "stepUm", 0) or 0))
    return step if 0 < step < float("inf") else None


def _unreadable(name: str, error: Exception) -> InputError:
    return InputError(
        f"{name}: the Nikon file cannot be read ({type(error).__name__}: "
        f"{' '.join(str(error).split())[:120]}); is it complete? Copy it again, or "
        f"export it from NIS-Elements as TIFF (16 bit, not scaled)"
    )
