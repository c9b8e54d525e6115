"""Maximum-likelihood fits of single emitters, many windows at a time.

Levenberg-Marquardt steps on the Poisson likelihood (Laurence & Chromy 2010,
doi:10.1038/nmeth0510-338; for PSFs by splines Li et al. 2018, doi:10.1038/nmeth.4661).
The curvature is its expectation, the Fisher information: positive everywhere, and at
the end its inverse is the Cramer-Rao bound.

Every camera becomes a Poisson one: with the variance k m + r of a pixel that is
expected to hold m photons (`optics.pixel_variance`), the value d/k + r/k^2 has a
variance equal to its mean. For sCMOS this is the rule of Huang et al. 2013
(doi:10.1038/nmeth.2488); for EM gain k = 2 (Mortensen et al. 2010,
doi:10.1038/nmeth.1447).

Design notes: knows no frames, no detection and no blinking. A pixel that is NaN is
left out of the likelihood.

Shapes: E windows of h x w px, P parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.fit_likelihood import Counts, descend
from blinkloop.fit_models import FitPsf, PsfModel, WidthModel, WindowModel
from blinkloop.optics import Camera, crlb, pixel_variance

__all__ = ["Fits", "Windows", "cut_windows", "fit_psf", "fit_widths"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_AT_ONCE = 512
"""Windows fitted together: their derivatives stay in the cache."""

_LEAST = (1.0, 1e-3)
"""Photons and background that a fit cannot go below."""

_MOST = (1e9, 1e9)
_OUTSIDE_PX = 1.0
"""An emitter may lie this far outside its window."""


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Cut-outs around candidates, in photons.

    Parameters
    ----------
    photons
        (E, h, w) as the camera gives them back; NaN where a pixel is not to be used.
    column, row
        (E,) first column and row of each in the frame.
    dark_variance
        Variance of a pixel without light, photons^2: a number or (E, h, w).
    variance_per_photon
        Variance that each expected photon adds, photons: 1 without EM gain.
    """

    photons: Floats
    column: Integers
    row: Integers
    dark_variance: Floats | float = 0.0
    variance_per_photon: float = 1.0

    def __post_init__(self) -> None:
        shape = self.photons.shape
        if len(shape) != 3 or min(shape[1:]) < 3:
            raise InputError(
                f"fits: windows must be (E, rows, columns) with at least 3 x 3 px, got "
                f"{shape}; cut larger ones"
            )

    def __len__(self) -> int:
        return int(self.photons.shape[0])

    def part(self, index: Integers) -> Windows:
        """Some of the windows."""
        dark = self.dark_variance
        return Windows(
            self.photons[index],
            self.column[index],
            self.row[index],
            dark[index] if isinstance(dark, np.ndarray) and dark.ndim else dark,
            self.variance_per_photon,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """Result of a fit; every array is (E,). NaN: was no parameter of the model.

    `*_sigma*` are Cramer-Rao bounds (standard deviations) at the fitted values,
    infinite where the window tells nothing. `log_likelihood_ratio` is twice the log
    of the likelihood of a perfect model over that of this one, `pearson` the sum of
    (data - model)^2 / variance: its mean is `pixels` - P when the model is right, at
    any number of photons. `at_limit`: position, z, width or photons ended at the edge
    of what was allowed.
    """

    x_px: Floats
    y_px: Floats
    z_nm: Floats
    photons: Floats
    background: Floats
    sigma_x_px: Floats
    sigma_y_px: Floats
    x_sigma_px: Floats
    y_sigma_px: Floats
    z_sigma_nm: Floats
    photons_sigma: Floats
    background_sigma: Floats
    log_likelihood_ratio: Floats
    pearson: Floats
    pixels: Integers
    iterations: Integers
    converged: Flags
    at_limit: Flags

    @property
    def good(self) -> Flags:
        """Converged inside the limits, to a position with a finite error."""
        error: Floats = self.x_sigma_px + self.y_sigma_px
        return self.converged & ~self.at_limit & np.isfinite(error)

    def __len__(self) -> int:
        return int(self.x_px.shape[0])

    @classmethod
    def join(cls, parts: Sequence[Fits]) -> Fits:
        """Several results, one after the other."""
        return cls(
            *(
                np.concatenate([getattr(part, each.name) for part in parts])
                for each in fields(cls)
            )
        )


def cut_windows(
    frames: npt.NDArray[np.floating],
    frame: Integers,
    column: Integers,
    row: Integers,
    half_px: int,
    camera: Camera | None = None,
) -> Windows:
    """Square windows around pixels; at the border they are moved into the frame.

    Parameters
    ----------
    frames
        (T, H, W) photons.
    frame, column, row
        (E,) frame and central pixel of each window.
    half_px
        A window has 2 half_px + 1 rows and columns.
    camera
        Noise model; None: shot noise alone.
    """
    size = 2 * half_px + 1
    height, width = frames.shape[1:]
    if min(height, width) < size:
        raise InputError(
            f"fits: windows of {size} x {size} px do not fit into frames of {height} x "
            f"{width} px; use smaller windows"
        )
    first_column = np.clip(column - half_px, 0, width - size).astype(np.int64)
    first_row = np.clip(row - half_px, 0, height - size).astype(np.int64)
    steps = np.arange(size)
    rows = (first_row[:, None] + steps)[:, :, None]
    columns = (first_column[:, None] + steps)[:, None, :]
    photons = frames[frame[:, None, None], rows, columns].astype(np.float64)
    if camera is None:
        return Windows(photons, first_column, first_row)
    mapped = camera.read_noise_map_e is not None
    lit = np.ones((height, width) if mapped else (1, 1))
    dark: Floats = np.asarray(pixel_variance(0.0 * lit, camera))
    slope = float((pixel_variance(lit, camera) - dark).flat[0])
    read = dark[rows, columns] if mapped else float(dark.flat[0])
    return Windows(photons, first_column, first_row, read, slope)


def fit_psf(
    windows: Windows,
    psf: FitPsf,
    *,
    z_range_nm: tuple[float, float] | None = None,
    z_starts: int = 7,
    tries: int = 1,
) -> Fits:
    """Fit x, y, z, photons and background with a known PSF.

    Parameters
    ----------
    windows
        One emitter in each.
    psf
        `GaussianPsf`, `SplinePsf` or the like.
    z_range_nm
        Limits of z; None: those of the PSF. (z, z): z is known and not fitted.
    z_starts
        z at which each window is looked at first.
    tries
        The fit begins from this many of them, the best ones; the most likely result
        is kept. More than 1 for PSFs that look alike at distant z.
    """
    model = PsfModel(psf, z_range_nm or psf.z_range_nm, z_starts)
    return _fit(windows, model, tries)


def fit_widths(windows: Windows, *, separate: bool = False) -> Fits:
    """Fit x, y, width, photons and background with a Gaussian of unknown width.

    Parameters
    ----------
    windows
        One emitter in each.
    separate
        Fit a width along x and one along y.
    """
    return _fit(windows, WidthModel(separate), 1)


def _fit(windows: Windows, model: WindowModel, tries: int) -> Fits:
    counts = _counts(windows)
    return Fits.join(
        [
            Fits(**_fit_part(counts.part(slice(at, at + _AT_ONCE)), model, tries))
            for at in range(0, max(len(windows), 1), _AT_ONCE)
        ]
    )


def _counts(windows: Windows) -> Counts:
    """Windows as a Poisson camera would have given them."""
    k = windows.variance_per_photon
    shape = (windows.photons.shape[1], windows.photons.shape[2])
    photons = windows.photons.reshape(len(windows), shape[0] * shape[1])
    used = np.isfinite(photons)
    dark = np.broadcast_to(windows.dark_variance, windows.photons.shape)
    offset = dark.reshape(photons.shape) / k**2
    return Counts(
        np.where(used, photons, 0.0) / k + offset,
        offset,
        used.astype(np.float64),
        1.0 / k,
        windows.column,
        windows.row,
        shape,
    )


def _fit_part(
    counts: Counts, model: WindowModel, tries: int
) -> dict[str, npt.NDArray[Any]]:
    """The fields of `Fits`."""
    low, high = _limits(counts, model)
    theta, badness, converged, iterations = _none(low)
    for start in _starts(counts, model, low, high, tries):
        found = descend(counts, model, start, low, high)
        better = found.badness < badness
        theta = np.where(better[:, None], found.theta, theta)
        converged = np.where(better, found.converged, converged)
        badness = np.where(better, found.badness, badness)
        iterations = iterations + found.iterations
    slopes, expected = counts.slopes(model, theta)
    slopes = slopes * (counts.scale * counts.used[:, None])
    # The variance of a count is its mean: `crlb` without a camera.
    square = (theta.shape[0], *counts.shape)
    bound = crlb(slopes.reshape(*theta.shape, *counts.shape), expected.reshape(square))
    blank = np.full(theta.shape[0], np.nan)
    values = dict.fromkeys(("z_nm", "sigma_x_px", "sigma_y_px", "z_sigma_nm"), blank)
    for number, name in enumerate(model.names, 2):
        values[name] = theta[:, number]
        if name == "z_nm":
            values["z_sigma_nm"] = bound[:, number] ** 0.5
    if model.names == ("sigma_x_px",):
        values["sigma_y_px"] = values["sigma_x_px"]
    ended = theta[:, :-1]
    at_limit = (ended <= low[:, :-1]) | (ended >= high[:, :-1])
    return {
        **values,
        "x_px": theta[:, 0],
        "y_px": theta[:, 1],
        "photons": theta[:, -2],
        "background": theta[:, -1],
        "x_sigma_px": bound[:, 0] ** 0.5,
        "y_sigma_px": bound[:, 1] ** 0.5,
        "photons_sigma": bound[:, -2] ** 0.5,
        "background_sigma": bound[:, -1] ** 0.5,
        "log_likelihood_ratio": counts.log_likelihood_ratio(expected),
        "pearson": counts.pearson(expected),
        "pixels": counts.used.sum(1).astype(np.int64),
        "iterations": iterations,
        "converged": converged,
        "at_limit": at_limit.any(1),
    }


def _none(low: Floats) -> tuple[Floats, Floats, Flags, Integers]:
    count = low.shape[0]
    return (
        low.copy(),
        np.full(count, np.inf),
        np.zeros(count, np.bool_),
        np.zeros(count, np.int64),
    )


def _limits(counts: Counts, model: WindowModel) -> tuple[Floats, Floats]:
    """(E, P) lowest and highest values."""
    lows, highs = model.limits()
    height, width = counts.shape
    low, high = (np.empty((len(counts.column), 4 + len(lows))) for _ in range(2))
    for axis, (first, size) in enumerate(
        ((counts.column, width), (counts.row, height))
    ):
        low[:, axis] = first - _OUTSIDE_PX
        high[:, axis] = first + size - 1 + _OUTSIDE_PX
    low[:, 2:], high[:, 2:] = [*lows, *_LEAST], [*highs, *_MOST]
    return low, high


def _starts(
    counts: Counts, model: WindowModel, low: Floats, high: Floats, tries: int
) -> list[Floats]:
    """The most likely starting values (E, P), best first."""
    height, width = counts.shape
    image = np.where(counts.used > 0, counts.counts, np.nan) - counts.offset
    image = image.reshape(len(image), height, width) / counts.scale
    border = np.ones((height, width), np.bool_)
    border[1:-1, 1:-1] = False
    with warnings.catch_warnings():
        # A window without a used pixel; it ends as not converged.
        warnings.simplefilter("ignore", RuntimeWarning)
        level = np.nan_to_num(np.nanmedian(image[:, border], 1))
    light = np.nan_to_num(np.maximum(image - level[:, None, None], 0.0)) ** 2
    total = light.sum((1, 2))
    seen = total > 0
    total = np.where(seen, total, 1.0)
    x = counts.column + np.where(
        seen, light.sum(1) @ np.arange(width) / total, (width - 1) / 2
    )
    y = counts.row + np.where(
        seen, light.sum(2) @ np.arange(height) / total, (height - 1) / 2
    )
    found = []
    for between in model.starts():
        theta = np.empty_like(low)
        theta[:, 0], theta[:, 1] = x, y
        theta[:, 2:-2], theta[:, -2:] = between, (1.0, 0.0)
        drawn = model.image(theta, counts.column, counts.row, counts.shape)
        psf = drawn.reshape(len(x), height * width)
        theta[:, -2:] = _line_fit(psf, image.reshape(len(x), height * width))
        theta = np.clip(theta, low, high)
        expected = theta[:, -2, None] * psf + theta[:, -1, None]
        found.append((counts.badness(counts.as_counts(expected)), theta))
    order = np.argsort(np.array([badness for badness, _ in found]), 0)
    thetas = np.array([theta for _, theta in found])
    each = np.arange(low.shape[0])
    return [thetas[order[rank], each] for rank in range(min(tries, len(found)))]


def _line_fit(psf: Floats, image: Floats) -> Floats:
    """(E, 2) photons and background that explain (E, N) pixels by least squares."""
    used = np.isfinite(image)
    count = np.maximum(used.sum(1, keepdims=True), 1)
    p, d = psf * used, np.where(used, image, 0.0)
    p_mean, d_mean = p.sum(1, keepdims=True) / count, d.sum(1, keepdims=True) / count
    p_away = (psf - p_mean) * used
    power = (p_away**2).sum(1)
    photons = (p_away * d).sum(1) / np.maximum(power, 1e-12)
    background = d_mean[:, 0] - photons * p_mean[:, 0]
    return np.stack([photons, background], 1)
