"""Picasso's astigmatic 3D calibrations, YAML (github.com/jungmannlab/picasso, zfit.py).

What is read: `X Coefficients` and `Y Coefficients`, polynomials (highest power first)
of the widths sx and sy in px over the stage position in nm, `Step size in nm`, `Number
of frames`, `Frames per step`, `Frame bounds` and `Magnification factor`; z = stage
position x magnification factor, which some set to a negative number so that z counts
the other way. The PSF is a pixel-integrated Gaussian of these widths,
sampled and splined. The stage range is centred on the crossing of the curves, whose
place in the stack is not in the file.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._import import Choice, pick
from blinkloop.training.calibration._widths import (
    Widths,
    gaussian_psf,
    sensible_range,
)

__all__ = ["is_picasso", "read_picasso"]

_X, _Y = "X Coefficients", "Y Coefficients"
_SEARCHED_NM = 1000.0
"""Picasso looks for z within +- this stage position."""


def is_picasso(document: object) -> bool:
    """Whether a YAML document is a 3D calibration of Picasso."""
    return isinstance(document, dict) and _X in document and _Y in document


def read_picasso(path: Path, choice: Choice) -> PsfCalibration:
    """Read a 3D calibration of Picasso.

    Raises
    ------
    InputError
        When a field is missing or the curves describe no PSF.
    """
    yaml = extras.require("yaml", "Reading Picasso calibrations", "train")
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    pick(path, [document], choice.channel, "channel", [])
    curves = [_polynomial(path, document, name) for name in (_X, _Y)]
    # Its command line writes the one, its windows the other.
    spelt = [f"Magnification {word}" for word in ("factor", "Factor")]
    given = next((name for name in spelt if name in document), spelt[0])
    factor = _number(path, document, given, positive=False)
    first, second = (partial(_width, curve, factor) for curve in curves)
    widths = Widths(first, second, integrated=True)
    half = _half_nm(document, path) * abs(factor)
    return gaussian_psf(
        path,
        widths,
        sensible_range(path, widths, -half, half),
        choice,
        program="Picasso",
    )


def _width(
    curve: npt.NDArray[np.float64], factor: float, z: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.asarray(np.polyval(curve, z / factor), np.float64)


def _half_nm(document: dict[str, Any], path: Path) -> float:
    """Half of the calibrated stage positions; 0 is in their middle."""
    step = _number(path, document, "Step size in nm")
    frames = _number(path, document, "Number of frames")
    per_step = float(document.get("Frames per step") or 1)
    half = min((frames // max(per_step, 1) - 1) * step / 2, _SEARCHED_NM)
    return min(half, _bounded_nm(document.get("Frame bounds"), per_step, step))


def _bounded_nm(bounds: object, per_step: float, step: float) -> float:
    """Half the stage range that `Frame bounds` (first, last frame) left."""
    if (
        isinstance(bounds, list | tuple)
        and len(bounds) == 2
        and all(isinstance(b, int) for b in bounds)
    ):
        return max(float(bounds[1] - bounds[0]) / max(per_step, 1) * step / 2, 0.0)
    return math.inf


def _polynomial(
    path: Path, document: dict[str, Any], name: str
) -> npt.NDArray[np.float64]:
    try:
        values = np.asarray(document[name], np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim != 1 or values.size < 1 or not np.isfinite(values).all():
        raise InputError(
            f"{path}: {name!r} must be a list of numbers, highest power first; "
            "calibrate again in Picasso"
        )
    return values


def _number(
    path: Path, document: dict[str, Any], name: str, *, positive: bool = True
) -> float:
    value = document.get(name)
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    if not math.isfinite(number) or number == 0 or (positive and number < 0):
        kind = "a positive number" if positive else "a number other than 0"
        raise InputError(
            f"{path}: {name!r} must be {kind}, got {value!r}; calibrate again in "
            f"Picasso, or add it"
        )
    return number
