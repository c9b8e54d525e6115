"""How good a PSF made from beads is: every slice of every bead fitted with it.

Heights are compared with those of the stage, positions with the bead's own median. The
numbers hold the noise of the beads, their flaws, and unevenness of the stage; single
molecules are dimmer and scatter by their Cramer-Rao bound (`bead_bounds`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from blinkloop.fitting import Windows, fit_psf
from blinkloop.optics import SplinePsf
from blinkloop.training.calibration.bead_alignment import average
from blinkloop.training.calibration.bead_model import Model, Samples, sample_model
from blinkloop.training.calibration.bead_records import BeadSettings

__all__ = ["Fold", "Refit", "clear_range", "refit", "split", "usable_range"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_MOST_BEADS = 8
_WRONG_NM = 100.0
_LEAST_SLOPE, _LEAST_RANGE_NM = 0.7, 500.0
_JUMP_NM, _ONE_GAP, _JUMPING, _APART_NM = 300.0, 0.8, 0.15, 50.0
_FIT_HALF_PX = 24
_FLOOR = 0.002
_FEWEST_TO_SPLIT = 12
_LARGEST_STEP_NM = 1000.0
_FEWEST_COUNTS, _COUNTS = 50.0, 10_000.0


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """A PSF, the beads to be fitted with it, and which of their slices."""

    psf: SplinePsf
    beads: tuple[int, ...]
    slices: slice


@dataclass(frozen=True, slots=True, eq=False)
class Refit:
    """Fits of N slices: bead number, stage height, errors.

    `dx_nm`, `dy_nm` are distances from the bead's median position; `z_nm` is fitted,
    `stage_nm` the height of the stage with z = 0 in focus, `z_sd_nm` the noise of z
    that the fit expects. Slices whose fit failed are left out and counted in `failed`.
    """

    bead: Integers
    stage_nm: Floats
    z_nm: Floats
    dx_nm: Floats
    dy_nm: Floats
    z_sd_nm: Floats
    failed: int

    def within(self, low: float, high: float) -> Refit:
        """Slices between two heights of the stage."""
        kept = (self.stage_nm >= low - 1e-6) & (self.stage_nm <= high + 1e-6)
        return Refit(
            self.bead[kept],
            self.stage_nm[kept],
            self.z_nm[kept],
            self.dx_nm[kept],
            self.dy_nm[kept],
            self.z_sd_nm[kept],
            self.failed,
        )

    @property
    def slope(self) -> float:
        """Of fitted z against the stage, by least squares; 1 is right."""
        if len(self.z_nm) < 3 or np.ptp(self.stage_nm) == 0:
            return float("nan")
        return float(np.polyfit(self.stage_nm, self.z_nm, 1)[0])

    def rmse(self, name: str, bead: int | None = None) -> float:
        """Root mean square of "x", "y" or "z" errors in nm, of all beads or of one."""
        error = self.z_nm - self.stage_nm
        if name != "z":
            error = self.dx_nm if name == "x" else self.dy_nm
        if bead is not None:
            error = error[self.bead == bead]
        return float(np.sqrt(np.mean(error**2))) if len(error) else float("nan")


def refit(
    model: Model,
    folds: Sequence[Fold],
    settings: BeadSettings,
    samples: Samples,
    z_range_nm: tuple[float, float] | None = None,
) -> Refit:
    """Fit x, y, z, photons and background of every slice of the beads.

    With `z_range_nm` only slices at these heights, and no fit leaves them.
    """
    parts = [_fit_slices(fold, model, samples, settings, z_range_nm) for fold in folds]
    return Refit(
        np.concatenate([part.bead for part in parts]),
        np.concatenate([part.stage_nm for part in parts]),
        np.concatenate([part.z_nm for part in parts]),
        np.concatenate([part.dx_nm for part in parts]),
        np.concatenate([part.dy_nm for part in parts]),
        np.concatenate([part.z_sd_nm for part in parts]),
        sum(part.failed for part in parts),
    )


def split(
    model: Model, half: int, settings: BeadSettings, samples: Samples
) -> Iterator[Fold]:
    """PSFs for the beads that are not part of them.

    No slice is fitted with a PSF that it is part of: of several beads every second one
    is fitted with the PSF of the others; of one bead every second slice with the PSF
    of the slices between, which are then two steps apart.
    """
    beads, place = model.beads, samples.placement
    if len(beads) > 1:
        for turn in range(2):
            light, _ = average(model.light, beads[turn::2])
            other = replace(model, light=light)
            psf = sample_model(other, half, settings, place).psf()
            others = range(1 - turn, len(beads), 2)
            yield Fold(psf, tuple(others)[:_MOST_BEADS], slice(None))
        return
    known = np.flatnonzero(model.known)
    if len(known) < _FEWEST_TO_SPLIT or 2 * settings.dz_nm > _LARGEST_STEP_NM:
        yield Fold(samples.psf(), (0,), slice(None))
        return
    # Later steps are twice as high; the voxels follow.
    coarse = replace(settings, dz_nm=2 * settings.dz_nm)
    for turn in range(2):
        first = int(known[0])
        light = model.light[first + turn : int(known[-1]) + 1 : 2]
        thin = replace(model, light=light, known=np.ones(len(light), bool))
        at = replace(
            place,
            focus=(place.focus - turn) / 2,
            slope_x=2 * place.slope_x,
            slope_y=2 * place.slope_y,
        )
        psf = sample_model(thin, half, coarse, at).psf()
        yield Fold(psf, (0,), slice(first + 1 - turn, None, 2))


def _fit_slices(
    fold: Fold,
    model: Model,
    samples: Samples,
    settings: BeadSettings,
    z_range_nm: tuple[float, float] | None,
) -> Refit:
    psf, numbers = fold.psf, fold.beads
    half = min(min(psf.window_shape) // 2, _FIT_HALF_PX)
    low, high = psf.z_range_nm
    if z_range_nm is not None:
        low, high = max(low, z_range_nm[0]), min(high, z_range_nm[1])
    focus, centre_y, centre_x = samples.centre
    images, stages, of_bead, tops, lefts, drifts = [], [], [], [], [], []
    place = samples.placement
    slope = np.array([place.slope_x, place.slope_y]) * settings.correct_drift
    for number in numbers:
        bead = model.beads[number]
        # Slice k of the bead is slice k - shift of the model; later slices are lower.
        slices = np.arange(len(bead.light))[fold.slices]
        stage = (focus - (slices - bead.shift[0])) * settings.dz_nm
        inside = (stage >= low - 1e-6) & (stage <= high + 1e-6)
        chosen = slices[inside]
        y, x = round(centre_y + bead.shift[1]), round(centre_x + bead.shift[2])
        # The light that was there: the fit weighs pixels by it.
        level = np.maximum(bead.background[chosen], 0)[:, None, None]
        photons = _cut(bead.light[chosen], y, x, half) + level
        images.append(photons)
        stages.append(stage[inside])
        drifts.append(slope[:, None] * (chosen - bead.shift[0] - focus))
        of_bead.append(np.full(len(chosen), number))
        tops.append(np.full(len(chosen), y - half))
        lefts.append(np.full(len(chosen), x - half))
    stage_nm, bead_number = np.concatenate(stages), np.concatenate(of_bead)
    photons = np.concatenate(images)
    photons = photons * _unit(photons)
    # A floor of noise: in stacks whose background was taken off, dark pixels are 0.
    peak = np.nanmax(photons, (1, 2), keepdims=True) if len(photons) else photons
    floor = np.broadcast_to(np.maximum(_FLOOR * peak, 1.0), photons.shape)
    windows = Windows(photons, np.concatenate(lefts), np.concatenate(tops), floor)
    fits = fit_psf(windows, psf, z_range_nm=(low, high), z_starts=11, tries=2)
    good = np.isfinite(fits.x_px + fits.y_px + fits.z_nm) & np.isfinite(
        fits.x_sigma_px + fits.y_sigma_px
    )
    dx, dy = np.array([fits.x_px, fits.y_px]) - np.concatenate(drifts, 1)
    for number in numbers:
        here = bead_number == number
        if (here & good).any():
            dx[here] -= np.median(dx[here & good])
            dy[here] -= np.median(dy[here & good])
    return Refit(
        bead_number[good],
        stage_nm[good],
        fits.z_nm[good],
        dx[good] * settings.pixel_size_nm,
        dy[good] * settings.pixel_size_nm,
        fits.z_sigma_nm[good],
        int((~good).sum()),
    )


def _unit(photons: Floats) -> float:
    """Factor that makes pixels without camera facts (0 to 1, say) look like counts.

    Fits know a single photon; how bright slices are is of no interest here.
    """
    brightest = float(np.nanmax(photons, initial=0.0))
    return 1.0 if not 0 < brightest < _FEWEST_COUNTS else _COUNTS / brightest


def _cut(light: Floats, y: int, x: int, half: int) -> Floats:
    """Windows around a pixel; NaN where there is none."""
    wide = np.pad(light, ((0, 0), (half, half), (half, half)), constant_values=np.nan)
    return wide[:, y : y + 2 * half + 1, x : x + 2 * half + 1]


def clear_range(
    result: Refit, whole: tuple[float, float], step_nm: float
) -> tuple[float, float]:
    """Heights around z = 0 among which a PSF that comes again does not.

    A double helix is the same after half a turn: fits jump by that, and where they do
    depends on chance. Jumps by one distance, of a fair share of the slices that lie so
    far from others, say so. (A 2D PSF jumps to the other side of its focus, by any.)
    """
    low, high = whole
    gaps = np.abs(result.z_nm - result.stage_nm)
    gaps = gaps[gaps > max(_JUMP_NM, 3 * step_nm)]
    if not len(gaps):
        return whole
    turn = float(np.median(gaps))
    alike = np.abs(gaps - turn) <= max(_WRONG_NM, 1.5 * step_nm)
    # Slices that lie a turn away from another height of the stack.
    z, near = result.stage_nm, step_nm / 2
    again = (z - turn >= low - near) | (z + turn <= high + near)
    if alike.mean() < _ONE_GAP or alike.sum() < _JUMPING * again.sum():
        return whole
    width = turn - max(step_nm, _APART_NM)
    if not _LEAST_RANGE_NM <= width < high - low:
        return whole
    start = float(np.clip(-width / 2, low, high - width))
    return start, start + width


def usable_range(
    result: Refit, whole: tuple[float, float], step_nm: float
) -> tuple[float, float]:
    """Heights from z = 0 outwards at which fitted and stage height agree.

    A slice agrees when the median error of the slices within two steps of it is below
    the larger of 100 nm and 1.5 steps: a stage that slips once ends no range. Where a
    PSF looks alike above and below focus (no slope) nothing is cut: it is a 2D PSF.
    """
    low, high = whole
    limit = max(_WRONG_NM, 1.5 * step_nm)
    error = np.abs(result.z_nm - result.stage_nm)

    def agrees(z: float) -> bool:
        near = np.abs(result.stage_nm - z) < 2.5 * step_nm
        return not near.any() or float(np.median(error[near])) <= limit

    def end(step: float, last: float) -> float:
        reached = 0.0
        while abs(reached + step) < abs(last):
            if not agrees(reached + step):
                return reached
            reached += step
        return last

    start, stop = end(-step_nm, low), end(step_nm, high)
    found = stop - start
    # The slope of a long stack is that of slices far out of focus.
    if not result.slope > _LEAST_SLOPE and (
        found < _LEAST_RANGE_NM or not result.within(start, stop).slope > _LEAST_SLOPE
    ):
        return whole
    # Hardly a slice agrees: say what was measured, not that nothing is usable.
    enough = min(0.3 * (high - low), _LEAST_RANGE_NM)
    return (start, stop) if found >= enough else whole
