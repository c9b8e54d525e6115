"""Movies of Andor Solis in one file (.sif), by the package `sif_parser`.

Tried with files of iXon cameras: one of 512 x 512 px, and one binned 2 x 2. What Solis
spooled into a folder (.sifx with many .dat) is for `andor_spool.py`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.movies.blocks import BlockMovie

__all__ = ["SifMovie", "is_sif"]

_MARK = b"Andor Technology"


def is_sif(path: Path, head: bytes) -> bool:
    """Whether a file starts as Solis writes it; the head of a spooled one does, too."""
    return head.startswith(_MARK) and path.suffix.lower() != ".sifx"


class _Header(io.BufferedReader):
    """A file whose end is an error: `sif_parser` would look for a word for ever."""

    def read(self, size: int | None = -1, /) -> bytes:
        return self._there(super().read(size))

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._there(super().readline(size))

    def _there(self, got: bytes) -> bytes:
        if not got:
            raise EOFError("the file ends within its header")
        return got


class SifMovie(BlockMovie):
    """A kinetic series, counts as float32.

    Parameters
    ----------
    path
        The `.sif` file.

    Raises
    ------
    InputError
        The header cannot be read, the file ends early, or it holds spectra.
    """

    def __init__(self, path: Path) -> None:
        reader = require("sif_parser", "Reading movies of Andor Solis", "andor")
        try:
            with _Header(io.FileIO(path)) as header, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                frames, info = reader.np_open(header, lazy="memmap")
        except Exception as error:  # of a damaged header nearly anything
            raise InputError(
                f"{path.name}: the Andor file cannot be read ({type(error).__name__}: "
                f"{error}); is it complete? Copy it again, or export it from Andor "
                f"Solis as TIFF (16 bit, not scaled)"
            ) from error
        shape, stored = frames.shape, np.dtype("<f4")
        del frames  # only its shape: pixels are read, not mapped (see `blocks.py`)
        if info.get("NumberOfSubImages", 1) != 1 or 1 in shape[1:]:
            raise InputError(
                f"{path.name}: holds spectra or several tracks per frame "
                f"({shape[2]} x {shape[1]} px), no images; give a movie recorded in "
                f"image mode"
            )
        super().__init__(path, shape, stored, offset=int(info["offset"]))
        self._info = info

    def facts(self) -> Mapping[str, Any]:
        """Exposure time; the gain in the file is the camera's setting, no number."""
        exposure_s = float(self._info.get("ExposureTime") or 0.0)
        return {"exposure_ms": 1e3 * exposure_s} if exposure_s > 0 else {}

    def notes(self) -> tuple[str, ...]:
        """What the camera was set to."""
        info = self._info
        said = f"{info.get('DetectorType', 'camera')}, gain set to {info['GainDAC']:g}"
        x, y = int(info.get("xbin", 1)), int(info.get("ybin", 1))
        binned = f"; binned {x} x {y} (width x height)" if (x, y) != (1, 1) else ""
        return (
            f"{self._name}: {said}{binned}; e-/ADU, baseline and real EM gain are in "
            f"the camera's data sheet (--e-per-adu, --baseline, --em-gain)",
        )
