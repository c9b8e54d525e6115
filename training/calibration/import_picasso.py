"""Picasso's astigmatic 3D calibrations, YAML (github.com/jungmannlab/picasso, zfit.py).

What is read: `X Coefficients` and `Y Coefficients`, polynomials (highest power first)
of the widths sx and sy in px over the stage position in nm, `Step size in nm`, `Number
of frames`, `Frames per step`, `Frame bounds` and `Magnification factor`; z = stage
position x magnification factor. The PSF is a pixel-integrated Gaussian of these widths,
sampled and splined. The stage range is centred on the crossing of the curves, whose
place in the stack is not in the file.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.optics.gaussian import render_gaussians
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._import import Choice, finish, pick, pixel_size
from blinkloop.training.calibration.spline_fit import spline_coefficients

__all__ = ["is_picasso", "read_picasso"]

_X, _Y = "X Coefficients", "Y Coefficients"
_SLICE_NM = 25.0
_WIDEST_PX = 6.0
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
    magnification = _number(path, document, given)
    low, high = _stage_range(path, document, curves)
    slices = max(math.ceil((high - low) * magnification / _SLICE_NM), 4)
    # Slices from the highest emitter down, as `SplinePsf` counts them.
    stage = np.linspace(high, low, slices + 1)
    widths = [np.asarray(np.polyval(curve, stage), np.float64) for curve in curves]
    radius = math.ceil(4.0 * max(float(width.max()) for width in widths)) + 1
    samples = _draw(widths[0], widths[1], radius)
    dz = (high - low) * magnification / slices
    psf = PsfCalibration(
        coefficients=spline_coefficients(samples, closed=True).astype(np.float32),
        reference=(float(radius), float(radius), high * magnification / dz),
        dz_nm=dz,
        pixel_size_nm=pixel_size(path, choice.pixel_size_nm),
        z_range_nm=(low * magnification, high * magnification),
    )
    return finish(path, psf, choice, program="Picasso")


def _draw(
    sigma_x: npt.NDArray[np.float64], sigma_y: npt.NDArray[np.float64], radius: int
) -> npt.NDArray[np.float64]:
    """(2 r + 1, 2 r + 1, slices): light in each pixel, x first."""
    count = sigma_x.shape[0]
    centre, one = np.full(count, float(radius)), np.ones(count)
    size = 2 * radius + 1
    frames = render_gaussians(
        centre, centre, sigma_x, sigma_y, one, np.arange(count), count, size, size
    )
    return np.asarray(frames).transpose(2, 1, 0)


def _stage_range(
    path: Path, document: dict[str, Any], curves: list[npt.NDArray[np.float64]]
) -> tuple[float, float]:
    """The calibrated stage positions around 0 where both widths can be widths."""
    step = _number(path, document, "Step size in nm")
    frames = _number(path, document, "Number of frames")
    per_step = float(document.get("Frames per step") or 1)
    half = min((frames // max(per_step, 1) - 1) * step / 2, _SEARCHED_NM)
    half = min(half, _bounded_nm(document.get("Frame bounds"), per_step, step))
    stage = np.linspace(-half, half, 401) if half > 0 else np.zeros(1)
    widths = np.stack([np.polyval(curve, stage) for curve in curves])
    good = np.all((widths > 0.3) & (widths < _WIDEST_PX), axis=0)
    middle = stage.shape[0] // 2
    if not good[middle] or half <= 0:
        at = ", ".join(f"{width:g}" for width in widths[:, middle])
        raise InputError(
            f"{path}: the calibration curves give widths of {at} px at z = 0 over +- "
            f"{max(half, 0):g} nm, which is no PSF; calibrate again"
        )
    bad = np.flatnonzero(~good)
    below, above = bad[bad < middle], bad[bad > middle]
    first = below.max() + 1 if below.size else 0
    last = above.min() - 1 if above.size else stage.shape[0] - 1
    return float(stage[first]), float(stage[last])


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


def _number(path: Path, document: dict[str, Any], name: str) -> float:
    value = document.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InputError(
            f"{path}: {name!r} must be a positive number, got {value!r}; calibrate "
            "again in Picasso, or add it"
        )
    return float(value)
