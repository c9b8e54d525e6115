"""rapidSTORM's z calibrations, text (github.com/stevewolter/rapidSTORM, `Spline3D`).

What is read: rows of z in nm, SD along x in um, SD along y in um, at even heights; a
natural cubic spline goes through them. The Gaussian is sampled in the middle of the
pixels. (Its parameters of a polynomial are part of a job, not a file of their own.)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._import import Choice, pick
from blinkloop.training.calibration._widths import (
    Curve,
    Widths,
    gaussian_psf,
    sensible_range,
)

__all__ = ["is_rapidstorm", "read_rapidstorm"]

_FEWEST, _MOST = 4, 100_000
_LARGEST_TEXT = 1 << 20
_SD_UM = (0.02, 5.0)
_EVEN = 0.01


def is_rapidstorm(path: Path) -> bool:
    """Whether a file is a table of heights and two widths, and nothing else."""
    return _table(path) is not None


def read_rapidstorm(path: Path, choice: Choice) -> PsfCalibration:
    """Read a z calibration of rapidSTORM.

    Raises
    ------
    InputError
        When the heights are not even, the pixel size is not known, or the widths are
        those of no PSF.
    """
    table = _table(path)
    if table is None:
        raise InputError(
            f"{path}: not a table of rapidSTORM (z in nm, two widths in um, at least "
            f"{_FEWEST} rows); give its z calibration"
        )
    pick(path, [table], choice.channel, "channel", [])
    if choice.pixel_size_nm is None:
        raise InputError(
            f"{path}: widths are in um and the file says no pixel size; give it with "
            f"--pixel-size-nm (camera pixel / magnification, e.g. 100)"
        )
    interpolate = extras.require("scipy.interpolate", "Reading calibrations", "train")
    z = table[:, 0]
    first, second = (
        interpolate.CubicSpline(z, 1000 * sd / choice.pixel_size_nm, bc_type="natural")
        for sd in table[:, 1:].T
    )
    widths = Widths(first, second)
    # Heights may count from wherever the stage was; the middle is 0 then.
    middle = float(z[0] + z[-1]) / 2
    found = sensible_range(path, widths, float(z[0]), float(z[-1]))
    notes = []
    if not found[0] < 0 < found[1]:
        widths = Widths(_moved(first, middle), _moved(second, middle))
        found = (found[0] - middle, found[1] - middle)
        notes.append(
            f"z = 0 is not among the heights of the file: it is {middle:g} nm of it now"
        )
    return gaussian_psf(path, widths, found, choice, program="rapidSTORM", notes=notes)


def _moved(curve: Curve, middle: float) -> Curve:
    return lambda z: curve(z + middle)


def _table(path: Path) -> npt.NDArray[np.float64] | None:
    """(N, 3) numbers, or None when the file holds something else."""
    if path.stat().st_size > _LARGEST_TEXT:
        return None
    try:
        lines = path.read_text(encoding="ascii").split("\n")
        rows = [
            [float(word) for word in line.split()] for line in lines if line.strip()
        ]
    except (UnicodeDecodeError, ValueError):
        return None
    if not _FEWEST <= len(rows) <= _MOST or any(len(row) != 3 for row in rows):
        return None
    table = np.array(rows)
    step = np.diff(table[:, 0])
    widths = table[:, 1:]
    even = step.min() > 0 and np.ptp(step) <= _EVEN * step.max()
    if not even or not np.all((widths > _SD_UM[0]) & (widths < _SD_UM[1])):
        return None
    return table
