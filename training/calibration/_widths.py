"""A PSF of two widths over z: what calibrations of astigmatism by Gaussians hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.optics.gaussian import render_gaussians
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._import import Choice, finish, pixel_size
from blinkloop.training.calibration.spline_fit import spline_coefficients

__all__ = ["Widths", "defocused", "gaussian_psf", "sensible_range"]

Floats = npt.NDArray[np.float64]
Curve = Callable[[Floats], Floats]

_SLICE_NM = 25.0
_NARROWEST_PX, _WIDEST_PX = 0.3, 6.0
_EVERY_NM = 2.0


@dataclass(frozen=True, slots=True)
class Widths:
    """SD in px of an elliptic Gaussian at heights in nm, along two axes.

    Parameters
    ----------
    first, second
        SD along the first axis and across it.
    angle
        The first axis is (cos, -sin) of it in columns and rows, radians.
    integrated
        The Gaussian is integrated over each pixel; else it is its value in the middle
        of the pixel: as the program did that measured the widths.
    """

    first: Curve
    second: Curve
    angle: float = 0.0
    integrated: bool = False


def defocused(z: Floats, focus: float, depth: float, *terms: float) -> Floats:
    """sqrt(1 + t^2 + A t^3 + B t^4 + ...), t = (z - focus) / depth; NaN where no width.

    Of Huang et al. 2008 (doi:10.1126/science.1153529), with `terms` A, B, ...
    """
    t = (z - focus) / depth
    inside = 1 + t**2 + sum(a * t ** (n + 3) for n, a in enumerate(terms))
    return np.sqrt(np.where(inside > 0, inside, np.nan))


def sensible_range(
    path: Path, widths: Widths, low: float, high: float
) -> tuple[float, float]:
    """Heights between `low` and `high`, around their middle, with widths of a PSF.

    Raises
    ------
    InputError
        When there are no widths of a PSF in the middle.
    """
    count = 2 * max(math.ceil((high - low) / (2 * _EVERY_NM)), 50) + 1
    z = np.linspace(low, high, count) if high > low else np.full(1, low)
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.stack([widths.first(z), widths.second(z)])
        good = np.all((values > _NARROWEST_PX) & (values < _WIDEST_PX), axis=0)
    middle = len(z) // 2
    if not good[middle] or high <= low:
        at = ", ".join(f"{width:g}" for width in values[:, middle])
        raise InputError(
            f"{path}: the calibration curves give widths of {at} px at z = "
            f"{z[middle]:g} from {low:g} to {high:g} nm, which is no PSF; check the "
            f"pixel size, or calibrate again"
        )
    bad = np.flatnonzero(~good)
    below, above = bad[bad < middle], bad[bad > middle]
    first = below.max() + 1 if below.size else 0
    last = above.min() - 1 if above.size else len(z) - 1
    return float(z[first]), float(z[last])


def gaussian_psf(
    path: Path,
    widths: Widths,
    z_range_nm: tuple[float, float],
    choice: Choice,
    *,
    program: str,
    notes: Sequence[str] = (),
    sizes_nm: Sequence[float] = (),
) -> PsfCalibration:
    """Sample the Gaussians each 1 px and about 25 nm, and spline them.

    `sizes_nm` are pixel sizes that the file says.
    """
    low, high = z_range_nm
    slices = max(math.ceil((high - low) / _SLICE_NM), 4)
    # Slices from the highest emitter down, as `SplinePsf` counts them.
    z = np.linspace(high, low, slices + 1)
    sigma = np.stack([widths.first(z), widths.second(z)])
    radius = math.ceil(4.0 * float(sigma.max())) + 1
    dz = (high - low) / slices
    samples = (_integrated if widths.integrated else _sampled)(sigma, radius, widths)
    psf = PsfCalibration(
        coefficients=spline_coefficients(samples, closed=True).astype(np.float32),
        reference=(float(radius), float(radius), high / dz),
        dz_nm=dz,
        pixel_size_nm=pixel_size(path, choice.pixel_size_nm, *sizes_nm),
        z_range_nm=(low, high),
    )
    return finish(path, psf, choice, program=program, notes=notes)


def _integrated(sigma: Floats, radius: int, widths: Widths) -> Floats:
    """(2 r + 1, 2 r + 1, slices): light in each pixel, x first."""
    del widths
    count = sigma.shape[1]
    centre, one = np.full(count, float(radius)), np.ones(count)
    size = 2 * radius + 1
    first, second = sigma
    frames = render_gaussians(
        centre, centre, first, second, one, np.arange(count), count, size, size
    )
    return np.asarray(frames).transpose(2, 1, 0)


def _sampled(sigma: Floats, radius: int, widths: Widths) -> Floats:
    """The same of the values in the middle of the pixels, on turned axes."""
    at = np.arange(-radius, radius + 1, dtype=np.float64)
    x, y = at[:, None, None], at[None, :, None]
    along = x * math.cos(widths.angle) - y * math.sin(widths.angle)
    across = x * math.sin(widths.angle) + y * math.cos(widths.angle)
    first, second = sigma
    light = np.exp(-0.5 * ((along / first) ** 2 + (across / second) ** 2))
    result: Floats = light / (2 * math.pi * first * second)
    return result
