"""What is said of a PSF made from beads: numbers, remarks, warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics import SplinePsf
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration.bead_bounds import Bounds, bounds
from blinkloop.training.calibration.bead_jitter import (
    stage_scatter_nm,
    warn_of_scatter,
)
from blinkloop.training.calibration.bead_model import Model, Samples
from blinkloop.training.calibration.bead_pairs import twin_distance_px
from blinkloop.training.calibration.bead_placement import warn_of_motion
from blinkloop.training.calibration.bead_quality import (
    Fold,
    Refit,
    clear_range,
    refit,
    split,
    usable_range,
)
from blinkloop.training.calibration.bead_records import (
    BeadSettings,
    BeadStack,
    DroppedBead,
    Found,
)
from blinkloop.training.calibration.bead_selection import MARGIN_PX, NEIGHBOUR

__all__ = ["BeadCalibration", "Example", "UsedBead", "report"]

Floats = npt.NDArray[np.float64]

_WORST_RESIDUAL = 0.25
_LIGHT_CHANGE = 0.3
_SLOPE_ERROR = 0.05
_LEAST_SLOPE = 0.7
_CUT_SHARE = 0.25
_NOISE = 0.015
_CROWD, _CROWD_RESIDUAL = 1.0, 0.1


@dataclass(frozen=True, slots=True)
class UsedBead:
    """A bead that went into the PSF; x, y are px of the chip.

    `height_nm` is how much lower its focus lies than that of the model, `brightness`
    its light in units of the median bead's, `residual` its relative RMS difference to
    the model (both smoothed by one voxel).
    """

    stack: str
    x_px: float
    y_px: float
    height_nm: float
    brightness: float
    residual: float
    rmse_x_nm: float
    rmse_y_nm: float
    rmse_z_nm: float


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A bead beside a PSF: (Z, h, w) light without background, and what is drawn.

    The PSF is one that these slices are not part of, as in the fits.
    """

    z_nm: Floats
    data: Floats
    drawn: Floats


@dataclass(frozen=True, slots=True, eq=False)
class BeadCalibration:
    """A PSF and how it came about.

    `notes` are remarks for the person, `warnings` what should be looked at.
    """

    calibration: PsfCalibration
    used: list[UsedBead]
    dropped: list[DroppedBead]
    refit: Refit
    bounds: Bounds
    example: Example
    notes: list[str]
    warnings: list[str]

    def record(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        c = self.calibration
        return {
            "pixel_size_nm": c.pixel_size_nm,
            "dz_nm": c.dz_nm,
            "z_range_nm": list(c.z_range_nm),
            "window_px": list(c.psf().window_shape),
            "reference_voxels": list(c.reference),
            "beads_used": len(self.used),
            "beads_dropped": len(self.dropped),
            "quality": dict(c.quality),
            "used": [_as_dict(bead) for bead in self.used],
            "dropped": [_as_dict(bead) for bead in self.dropped],
            "source": dict(c.source),
            "notes": self.notes,
            "warnings": self.warnings,
        }


def _as_dict(record: UsedBead | DroppedBead) -> dict[str, Any]:
    return {name: getattr(record, name) for name in type(record).__slots__}


def report(
    stacks: Sequence[BeadStack],
    model: Model,
    samples: Samples,
    half: int,
    settings: BeadSettings,
    dropped: Sequence[tuple[Found, str]],
) -> BeadCalibration:
    """Make the spline, fit the beads with it, and put everything together."""
    pixel, step = settings.pixel_size_nm, settings.dz_nm
    psf = samples.psf()
    folds = list(split(model, half, settings, samples))
    everything = refit(model, folds, settings, samples)
    clear = clear_range(everything, psf.z_range_nm, step)
    if clear != psf.z_range_nm:
        everything = refit(model, folds, settings, samples, clear)
    z_range = usable_range(everything, clear, step)
    result = everything.within(*z_range)
    halves = (folds[0].psf, folds[1].psf) if len(folds) == 2 else None
    limits = bounds(psf, z_range, pixel, halves=halves)
    scatter = stage_scatter_nm(model, samples, half, settings, z_range, result.slope)
    out = [
        DroppedBead(
            stacks[one.stack].name,
            *_on_chip(stacks[one.stack], one.column, one.row, settings.mirrored),
            reason,
        )
        for one, reason in dropped
    ]
    calibration = PsfCalibration(
        psf.coefficients,
        samples.reference,
        samples.dz_nm,
        pixel,
        z_range,
        source={
            "program": "blinkloop calibrate",
            "file": ", ".join(stack.name for stack in stacks),
            "stage_step_nm": f"{step:g}",
            "focus": samples.placement.focus_from,
            "mirrored": "left to right" if settings.mirrored else "no",
            "slices": "falling focus" if settings.falling else "rising focus",
            "equal_light": "yes" if settings.equal_light else "no",
            "drift": "taken out" if settings.correct_drift else "left",
        },
        quality={
            **_quality(model, samples, result, limits, len(out)),
            "stage_scatter_nm": scatter,
        },
    )
    return BeadCalibration(
        calibration,
        _used(stacks, model, samples, settings, result),
        out,
        result,
        limits,
        _example(folds, model, samples, step),
        _notes(samples, settings, psf),
        [
            *_crowd(model, out),
            *_turned(clear, psf.z_range_nm),
            *warn_of_scatter(scatter, step),
            *_warnings(model, samples, result, z_range, clear, settings),
        ],
    )


def _on_chip(
    stack: BeadStack, x: float, y: float, mirrored: bool
) -> tuple[float, float]:
    """Pixel of a stack, turned or not, as a pixel of the chip."""
    column = stack.pixels.shape[2] - 1 - x if mirrored else x
    return float(column + stack.origin[0]), float(y + stack.origin[1])


def _used(
    stacks: Sequence[BeadStack],
    model: Model,
    samples: Samples,
    settings: BeadSettings,
    result: Refit,
) -> list[UsedBead]:
    usual = float(np.median([bead.amplitude for bead in model.beads]))
    used = []
    for number, bead in enumerate(model.beads):
        room = bead.light.shape[1] // 2
        stack, found = stacks[bead.found.stack], bead.found
        x = found.column - room + samples.centre[2] + bead.shift[2]
        y = found.row - room + samples.centre[1] + bead.shift[1]
        used.append(
            UsedBead(
                stack.name,
                *_on_chip(stack, x, y, settings.mirrored),
                float(bead.shift[0] * settings.dz_nm),
                bead.amplitude / usual,
                bead.residual,
                *(result.rmse(axis, number) for axis in "xyz"),
            )
        )
    return used


def _quality(
    model: Model, samples: Samples, result: Refit, limits: Bounds, dropped: int
) -> dict[str, float]:
    residuals = [bead.residual for bead in model.beads]
    return {
        "beads_used": float(len(model.beads)),
        "beads_dropped": float(dropped),
        "residual_median": float(np.median(residuals)),
        "residual_worst": float(np.max(residuals)),
        "refit_rmse_x_nm": result.rmse("x"),
        "refit_rmse_y_nm": result.rmse("y"),
        "refit_rmse_z_nm": result.rmse("z"),
        "refit_z_slope": result.slope,
        "refit_slices": float(len(result.z_nm)),
        "refit_failed": float(result.failed),
        "noise_over_peak": samples.noise,
        "walk_x_nm": samples.walk_nm[0],
        "walk_y_nm": samples.walk_nm[1],
        "light_first_slice": samples.light_change[0],
        "light_last_slice": samples.light_change[1],
        "crlb_x_nm_5000_photons": float(np.median(limits.x_sd_nm)),
        "crlb_y_nm_5000_photons": float(np.median(limits.y_sd_nm)),
        "crlb_z_nm_5000_photons": float(np.median(limits.z_sd_nm)),
    }


def _example(
    folds: Sequence[Fold], model: Model, samples: Samples, step: float
) -> Example:
    """The bead with the most light, and at its place a PSF it is not part of."""
    number = int(np.argmax([one.amplitude for one in model.beads]))
    bead = model.beads[number]
    focus, centre_y, centre_x = samples.centre
    z = (focus - (np.arange(len(bead.light)) - bead.shift[0])) * step
    drawn = np.zeros_like(bead.light)
    shown = np.zeros(len(z), bool)
    for fold in folds:
        if number not in fold.beads:
            continue
        low, high = fold.psf.z_range_nm
        mine = np.zeros(len(z), bool)
        mine[fold.slices] = True
        mine &= (z >= low - 1e-6) & (z <= high + 1e-6)
        count = int(mine.sum())
        x = np.full(count, centre_x + bead.shift[2])
        y = np.full(count, centre_y + bead.shift[1])
        drawn[mine] = fold.psf.render(
            x,
            y,
            z[mine],
            np.ones(count),
            np.arange(count),
            count,
            *bead.light.shape[1:],
        )
        shown |= mine
    inner = slice(MARGIN_PX, -MARGIN_PX)
    data, drawn = bead.light[shown, inner, inner], drawn[shown, inner, inner]
    scale = float((drawn * data).sum() / max(float((drawn**2).sum()), 1e-300))
    return Example(z[shown], data, drawn * scale)


def _notes(samples: Samples, settings: BeadSettings, psf: SplinePsf) -> list[str]:
    low, high = psf.z_range_nm
    direction = "down" if settings.falling else "up"
    first, last = (low, high) if settings.falling else (high, low)
    return [
        f"z = 0 is the {samples.placement.focus_from}",
        f"the focus went {direction} from slice to slice: the first slice shows an "
        f"emitter at {first:+.0f} nm, the last at {last:+.0f} nm (the other way round: "
        f"{'leave out' if settings.falling else 'add'} --falling)",
    ]


def _crowd(model: Model, dropped: Sequence[DroppedBead]) -> list[str]:
    """That the beads used are disturbed by those beside them."""
    near = sum(NEIGHBOUR in one.reason for one in dropped)
    if near < _CROWD * len(model.beads):
        return []
    differ = float(np.median([bead.residual for bead in model.beads]))
    if len(model.beads) > 1 and differ < _CROWD_RESIDUAL:
        return []
    what = f", and those used differ by {100 * differ:.0f} %" if differ else ""
    return [
        f"{near} beads have another one beside them{what}: the field is crowded, and "
        f"light of neighbours is in the PSF; record a sparser sample"
    ]


def _turned(clear: tuple[float, float], whole: tuple[float, float]) -> list[str]:
    """That the stack holds more than one turn of its PSF."""
    if clear == whole:
        return []
    return [
        f"the PSF comes again (a double helix after half a turn), so only z from "
        f"{clear[0]:.0f} to {clear[1]:.0f} nm, of {whole[0]:.0f} to {whole[1]:.0f} nm, "
        f"can be told from it"
    ]


def _warnings(
    model: Model,
    samples: Samples,
    result: Refit,
    kept: tuple[float, float],
    whole: tuple[float, float],
    settings: BeadSettings,
) -> list[str]:
    said = []
    slope = result.slope
    if not abs(slope - 1) < _SLOPE_ERROR:
        what = (
            "the PSF looks alike at different heights, so z cannot be told from it (or "
            "the stack was scanned more than once: cut it); use it in 2D, or calibrate "
            "an astigmatic or other 3D PSF"
            if not slope > _LEAST_SLOPE
            else "heights are not reproduced well, as with beads that are dim, few, or "
            "not alike; use more or brighter ones, taller voxels (--smooth-z-nm), or "
            "fewer slices around the focus"
        )
        said.append(f"fitted z changes by {slope:.2f} nm per nm of the stage: {what}")
    if samples.placement.focus_from.endswith("is at the end)"):
        said.append(
            "the sharpest slice is at the end of the stack, so z = 0 is not the focus "
            "but the middle: record slices on both sides of the focus, or say with "
            "--focus which slice is z = 0"
        )
    share = 1 - (kept[1] - kept[0]) / (whole[1] - whole[0])
    if share > _CUT_SHARE:
        said.append(
            f"only {kept[0]:.0f} to {kept[1]:.0f} nm of {whole[0]:.0f} to "
            f"{whole[1]:.0f} nm can be used: outside of it fits give another z"
        )
    if samples.noise > _NOISE:
        said.append(
            f"the beads are dim: noise is {100 * samples.noise:.0f} % of the peak; use "
            f"more or brighter beads, or a longer exposure"
        )
    worst = max(bead.residual for bead in model.beads)
    if worst > _WORST_RESIDUAL:
        said.append(
            f"a bead differs from the average by {100 * worst:.0f} % (RMS): dim beads, "
            f"or not all alike; look at the picture"
        )
    said += warn_of_motion(samples.walk_nm, settings.correct_drift)
    change = samples.light_change
    if max(abs(value - 1) for value in change) > _LIGHT_CHANGE:
        why = (
            "was evened out, as asked: right for beads that bleach, wrong where light "
            "leaves the window (--roi-px)"
            if settings.equal_light
            else "light leaves the window (--roi-px), or the beads bleach "
            "(--equal-light)"
        )
        said.append(
            f"the window holds {100 * change[0]:.0f} % of the light in focus at the "
            f"first slice and {100 * change[1]:.0f} % at the last: {why}"
        )
    twins = twin_distance_px(model.light) if len(model.beads) == 1 else 0.0
    if twins > 0:
        said.append(
            f"the bead has two spots {twins:.0f} px apart at most heights: two beads "
            f"side by side, of which no PSF can be made; look at the picture, and "
            f"record a sparser sample"
        )
    if len(model.beads) == 1 and not settings.correct_drift:
        said.append(
            "one bead only: its noise and its flaws are in the PSF; 5 or more are "
            "better"
        )
    return said
