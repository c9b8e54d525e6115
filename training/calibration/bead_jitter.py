"""How unevenly the stage stepped: slices that lie beside their heights.

All beads of a stack share the faults of its stage, and so does a PSF made of them: fits
of the beads agree with it. Only slices that a PSF is not made of tell. Every second
slice of a bead is fitted with the PSF of the slices between: the error in z is that of
the slice, less what its neighbours interpolate to. Errors that change slowly along the
stack are those of the PSF and are taken off. Noise is told from the stage by several
beads of a stack, which share the stage and no noise; of one bead, by the noise that a
fit expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from blinkloop.training.calibration.bead_model import Model, Samples
from blinkloop.training.calibration.bead_quality import refit, split
from blinkloop.training.calibration.bead_records import Bead, BeadSettings

__all__ = ["stage_scatter_nm", "warn_of_scatter"]

Floats = npt.NDArray[np.float64]

_INTERPOLATED = 1.64
"""Variance of a slice less the cubic through four others: 1 + 2 (9^2 + 1) / 16^2."""
_FEWEST, _MOST_BEADS = 12, 6
_SLOW, _INNER = 5, 0.8
_WILD = 4 * 1.4826
_LARGE_NM, _LARGE_STEPS = 7.0, 0.12
"""Even stages are found to scatter by up to 4 nm of 50, uneven ones of 25 nm by 8 to
21 (once in 10 by less): wild slices are left out, and a spline follows the others."""
_QUIET, _QUIET_ALONE = 0.015, 0.01
"""Noise over the peak of the PSF above which nothing is said: of three even beads with
0.02 a scatter of 9 nm was found. Fits do not know of the noise in their PSF."""
_SLOPE = 0.1


def stage_scatter_nm(
    model: Model,
    samples: Samples,
    half: int,
    settings: BeadSettings,
    z_range_nm: tuple[float, float],
    slope: float,
) -> float:
    """SD of the heights of slices about even steps; NaN where it cannot be told.

    Parameters
    ----------
    model, samples, half, settings
        As for `split`.
    z_range_nm
        Heights that the PSF is used at.
    slope
        Of fitted z against the stage: z of a 2D PSF tells nothing.
    """
    quiet = _QUIET_ALONE if len(model.beads) == 1 else _QUIET
    if not abs(slope - 1) < _SLOPE or samples.noise > quiet:
        return float("nan")
    plain = replace(settings, smooth_z_nm=None)
    spreads, weights = [], []
    for number in sorted({bead.found.stack for bead in model.beads}):
        beads = [bead for bead in model.beads if bead.found.stack == number]
        found = [
            _errors(model, bead, samples, half, plain, z_range_nm)
            for bead in beads[:_MOST_BEADS]
        ]
        here, slices = _spread(found)
        if slices >= _FEWEST:
            spreads.append(here)
            weights.append(slices)
    if not spreads:
        return float("nan")
    spread = float(np.average(spreads, weights=weights))
    return float(np.sqrt(max(spread, 0.0) / _INTERPOLATED))


def warn_of_scatter(scatter_nm: float, step_nm: float) -> list[str]:
    """A sentence on a stage that steps unevenly."""
    if not scatter_nm > max(_LARGE_NM, _LARGE_STEPS * step_nm):
        return []
    return [
        f"slices lie beside even steps of {step_nm:g} nm by {scatter_nm:.0f} nm (RMS, "
        f"or more): the stage moves unevenly, and z is wrong by as much; let it settle "
        f"before each slice, use a stage with a position sensor, or average several "
        f"stacks"
    ]


def _errors(
    model: Model,
    bead: Bead,
    samples: Samples,
    half: int,
    settings: BeadSettings,
    z_range_nm: tuple[float, float],
) -> dict[int, tuple[float, float]]:
    """Slice of the stack to its uneven part of the error in z and its noise, nm."""
    focus, y, x = np.array(samples.centre) + bead.shift
    alone = replace(
        model,
        light=bead.light,
        known=np.ones(len(bead.light), bool),
        beads=[Bead(bead.found, bead.light, bead.background)],
    )
    placement = replace(samples.placement, focus=float(focus), x=float(x), y=float(y))
    there = replace(samples, centre=(focus, y, x), placement=placement)
    folds = list(split(alone, half, settings, there))
    if len(folds) < 2:
        return {}
    fits = refit(alone, folds, settings, there, z_range_nm)
    if len(fits.z_nm) < _FEWEST:
        return {}
    number = np.rint(focus - fits.stage_nm / settings.dz_nm).astype(int)
    uneven, kept = _uneven(fits.stage_nm, fits.z_nm - fits.stage_nm)
    return {
        int(k): (float(e), float(sd))
        for k, e, sd in zip(number[kept], uneven[kept], fits.z_sd_nm[kept], strict=True)
    }


def _uneven(z: Floats, error: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Errors without what changes slowly with z, and which of them are not wild."""
    at = 2 * (z - z.min()) / np.ptp(z) - 1
    kept = np.ones(len(z), bool)
    rest = error
    for _ in range(3):
        slow = np.polynomial.chebyshev.chebfit(at[kept], error[kept], _SLOW)
        rest = error - np.polynomial.chebyshev.chebval(at, slow)
        kept = np.abs(rest) <= _WILD * np.median(np.abs(rest))
    # At the ends light is faint, and a slice has neighbours on one side only.
    return rest, kept & (np.abs(at) <= _INNER)


def _spread(found: Sequence[dict[int, tuple[float, float]]]) -> tuple[float, int]:
    """Variance that beads of a stack share, and of how many slices."""
    if len(found) == 1:
        values = np.array(list(found[0].values())).reshape(-1, 2)
        if not len(values):
            return 0.0, 0
        noise = _INTERPOLATED * np.median(values[:, 1]) ** 2
        return float(np.mean(values[:, 0] ** 2) - noise), len(values)
    products, slices = [], 0
    for k in sorted(set().union(*found)):
        here = np.array([part[k][0] for part in found if k in part])
        if len(here) > 1:
            pairs = len(here) * (len(here) - 1)
            products.append((here.sum() ** 2 - (here**2).sum()) / pairs)
            slices += 1
    return (float(np.mean(products)) if products else 0.0), slices
