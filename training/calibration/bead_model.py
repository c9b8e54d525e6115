"""From windows of beads to one model, and from the model to a spline PSF.

The model is kept on the pixel grid of one of the beads, so a single bead is never
interpolated; where the emitter lies on that grid is a number between pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.optics import SplinePsf
from blinkloop.training.calibration.bead_alignment import (
    average,
    coarse_shift,
    fine_shift,
    relative_residual,
)
from blinkloop.training.calibration.bead_placement import Placement, place, straight
from blinkloop.training.calibration.bead_records import Bead, BeadSettings
from blinkloop.training.calibration.spline_fit import spline_coefficients

__all__ = ["Model", "Samples", "align_beads", "build_model", "sample_model"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_ROUNDS = 6
_SETTLED = 0.01
_OUTLIER_FACTOR = 2.5
_OUTLIER_LEAST = 0.08
_UNLIKE = 0.6
_MOVED_PX = 0.7
_LEAST_VOXEL_NM = 75.0
_FEWEST_SLICES = 5
_IN_FOCUS_NM = 100.0


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Average of beads.

    Parameters
    ----------
    light
        (Z, h, w) in the units of the first bead.
    known
        (Z,) slices that at least half of the light knows.
    beads
        Used ones, with their shifts and amplitudes.
    dropped
        Others and why.
    """

    light: Floats
    known: Flags
    beads: list[Bead]
    dropped: list[tuple[Bead, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The model in its window, normalised, and where the emitter is.

    Parameters
    ----------
    values
        (Z, h, w) at whole voxels; light in focus is 1.
    placement
        Of the emitter in the known slices of the model.
    centre
        (z, y, x) of the emitter in the model's slices and window pixels (`Model`).
    reference
        (x, y, z) of the emitter in voxels of `values`.
    dz_nm
        Height of a voxel.
    walk_nm
        Sideways motion of the light over the whole stack: (x, y).
    noise
        Of a voxel at the edge, over the peak.
    light_change
        Light of the first and of the last slice, over that in focus.
    """

    values: Floats
    placement: Placement
    centre: tuple[float, float, float]
    reference: tuple[float, float, float]
    dz_nm: float
    walk_nm: tuple[float, float]
    light_change: tuple[float, float]
    noise: float

    def coefficients(self) -> npt.NDArray[np.float32]:
        """(X, Y, Z, 64) of `SplinePsf`."""
        volume = self.values.transpose(2, 1, 0)
        return spline_coefficients(volume, closed=True).astype(np.float32)

    def psf(self) -> SplinePsf:
        """The image former."""
        return SplinePsf(self.coefficients(), self.reference, self.dz_nm)


def align_beads(beads: list[Bead]) -> list[Bead]:
    """Choose the bead most like the others and find whole-voxel shifts to it.

    Returns
    -------
    list
        That bead first, then the others; their `shift` may be larger than the margin
        of the windows, which then must be cut again.
    """
    if len(beads) == 1:
        return beads
    half = min(beads[0].light.shape[1:]) // 2
    tried = beads[:8]
    likeness = np.eye(len(tried))
    for i, one in enumerate(tried):
        for j in range(i):
            _, likeness[i, j] = coarse_shift(
                one.light, tried[j].light, _reach(one, tried[j], half)
            )
            likeness[j, i] = likeness[i, j]
    # Of two the brighter one; of more the one that most others are like.
    first = int(np.argmax(np.median(likeness, 1))) if len(tried) > 2 else 0
    order = [beads[first], *(b for i, b in enumerate(beads) if i != first)]
    for bead in order[1:]:
        bead.shift, _ = coarse_shift(
            order[0].light, bead.light, _reach(order[0], bead, half)
        )
    return order


def _reach(one: Bead, other: Bead, half: int) -> tuple[int, int]:
    return max(len(one.light), len(other.light)) // 2, half


def build_model(beads: list[Bead]) -> Model:
    """Register, average and drop outliers until nothing changes any more.

    Raises
    ------
    InputError
        When no two beads look alike.
    """
    first = beads[0]
    model, known = first.light, np.ones(len(first.light), bool)
    used: list[Bead] = list(beads)
    dropped: list[tuple[Bead, str]] = []
    for turn in range(_ROUNDS if len(beads) > 1 else 1):
        before = np.array([bead.shift for bead in used])
        for bead in used:
            if bead is not first or turn > 0:
                bead.shift, bead.amplitude = fine_shift(
                    model, bead.light, bead.shift, known
                )
        steps = np.array([bead.shift for bead in used]) - before
        scale = float(np.median([bead.amplitude for bead in used]))
        for bead in used:
            bead.amplitude /= scale
            bead.residual = relative_residual(model * scale, bead, known)
        model = model * scale
        keep, out = _judge(used)
        used, dropped = keep, dropped + out
        model, weight = average(model, used)
        known = weight >= 0.5
        if not known.any():
            raise InputError(
                "the beads do not share enough slices; give stacks over the same "
                "range of heights"
            )
        if turn > 1 and not out and np.abs(steps).max() < _SETTLED:
            break
    for bead in used:
        bead.residual = relative_residual(model, bead, known)
    if len(used) >= 3:
        used, out = _steady(model, used, known)
        if out:
            dropped = dropped + out
            model, weight = average(model, used)
            known = weight >= 0.5
    return Model(model, _longest(known), used, dropped)


def _judge(beads: list[Bead]) -> tuple[list[Bead], list[tuple[Bead, str]]]:
    """Beads that are like the model, and those that are not."""
    keep, out = [], []
    residuals = np.array([bead.residual for bead in beads])
    # The bead that the model began with fits itself; half the others must fit too.
    usual = float(np.median(residuals[residuals > 0])) if (residuals > 0).any() else 0
    limit = max(_OUTLIER_FACTOR * usual, _OUTLIER_LEAST)
    for bead in beads:
        reason = None
        if bead.amplitude <= 0 or not np.isfinite(bead.residual):
            reason = "could not be registered to the other beads"
        elif len(beads) >= 3 and bead.residual > limit:
            reason = f"differs from the average by {100 * bead.residual:.0f} % (RMS)"
        elif bead.residual > _UNLIKE:
            reason = f"does not look like the others ({100 * bead.residual:.0f} % RMS)"
        if reason is None:
            keep.append(bead)
        else:
            out.append((bead, reason))
    return (keep, out) if keep else (beads[:1], [b for b in out if b[0] != beads[0]])


def _steady(
    model: Floats, beads: list[Bead], known: Flags
) -> tuple[list[Bead], list[tuple[Bead, str]]]:
    """Beads that stay where they are between the two halves of the stack."""
    at = np.flatnonzero(known)
    halves = np.array_split(at, 2)
    if len(halves[1]) < 3:
        return beads, []
    steps = []
    for bead in beads:
        ends = []
        for half in halves:
            mask = np.zeros(len(model), bool)
            mask[half] = True
            ends.append(fine_shift(model, bead.light, bead.shift, mask)[0])
        steps.append(ends[1][1:] - ends[0][1:])
    away = np.array(steps) - np.median(steps, 0)
    distance = np.hypot(*away.T)
    limit = max(_MOVED_PX, 4 * float(np.median(distance)))
    keep = [b for b, d in zip(beads, distance, strict=True) if d <= limit]
    out = [
        (b, f"moves by {2 * d:.1f} px during the stack")
        for b, d in zip(beads, distance, strict=True)
        if d > limit
    ]
    return keep, out


def _longest(known: Flags) -> Flags:
    """The longest run of known slices only."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    best = int(np.argmax(stops - starts))
    result = np.zeros_like(known)
    result[starts[best] : stops[best]] = True
    return result


def sample_model(
    model: Model,
    half: int,
    settings: BeadSettings,
    placement: Placement | None = None,
) -> Samples:
    """Cut the model to its window, find focus and centre, normalise.

    Parameters
    ----------
    half
        Pixels on each side of the emitter.
    placement
        In the known slices of the model; None: found.

    Raises
    ------
    InputError
        When too few slices are known to all beads, or they hold no light.
    """
    slices = np.flatnonzero(model.known)
    if len(slices) < _FEWEST_SLICES:
        raise InputError(
            f"only {len(slices)} slices are common to the beads, a PSF needs at least "
            f"{_FEWEST_SLICES}; give stacks over the same range of heights"
        )
    light = model.light[slices]
    at = placement or place(light, settings, int(slices[0]))
    if settings.correct_drift:
        light = straight(light, at)
    rows, columns = (
        _window(centre, half, size)
        for centre, size in zip((at.y, at.x), light.shape[1:], strict=True)
    )
    values, noise = _quiet(light[:, rows, columns])
    totals = values.sum((1, 2))
    near = np.abs(np.arange(len(values)) - at.focus) <= max(
        1.0, _IN_FOCUS_NM / settings.dz_nm
    )
    in_focus = float(np.mean(totals[near]))
    if not in_focus > 0:
        raise InputError(
            "the beads hold no light in focus; check the baseline of the camera, and "
            "that the stack shows bright beads on a dark background"
        )
    change = (float(totals[0] / in_focus), float(totals[-1] / in_focus))
    if settings.equal_light:
        values = values / np.maximum(totals, 0.05 * in_focus)[:, None, None]
    else:
        values = values / in_focus
    voxel = settings.smooth_z_nm or max(settings.dz_nm, _LEAST_VOXEL_NM)
    values, voxel, z0 = _resample(values, at.focus, settings.dz_nm, voxel)
    span_nm = (len(light) - 1) * settings.pixel_size_nm
    return Samples(
        values,
        at,
        (at.focus + float(slices[0]), at.y, at.x),
        (at.x - columns.start, at.y - rows.start, z0),
        voxel,
        (at.slope_x * span_nm, at.slope_y * span_nm),
        change,
        noise,
    )


def _quiet(values: Floats) -> tuple[Floats, float]:
    """Values without the noise where nothing else is, and that noise over the peak.

    A Wiener factor, from values smoothed by a voxel: 1 where they are far above their
    noise, 0 where they are within twice of it. Noise in the wings would look like
    structure to a fit.
    """
    ndimage = extras.require("scipy.ndimage", "Making a PSF", "train")
    width = 1.0
    rough = values - ndimage.median_filter(values, size=(1, 3, 3), mode="nearest")
    edge = np.ones(values.shape[1:], bool)
    edge[2:-2, 2:-2] = False
    # The median takes a ninth of the variance with it; half the pixels may be 0.
    noise = float(np.sqrt(np.median((rough[:, edge] ** 2).mean(1))))
    smooth = ndimage.gaussian_filter(values, width)
    # Of white noise a Gaussian of SD s leaves 1 / (2 sqrt(pi) s) per axis.
    left = noise * (2 * np.sqrt(np.pi) * width) ** -1.5
    signal = np.maximum(smooth, max(left, 1e-12 * float(values.max())))
    factor = np.clip(1 - (2 * left / signal) ** 2, 0, 1)
    return values * factor, noise / float(values.max())


def _window(centre: float, half: int, size: int) -> slice:
    """Pixels around the centre, one edge pixel of the array left out."""
    at = round(centre)
    half = max(min(half, at - 1, size - 2 - at), 2)
    return slice(at - half, at + half + 1)


def _resample(
    values: Floats, focus: float, dz_nm: float, voxel_nm: float
) -> tuple[Floats, float, float]:
    """Least-squares spline along z on voxels of about `voxel_nm`; focus in voxels."""
    depth = len(values)
    pieces = max(round((depth - 1) * dz_nm / voxel_nm), 4)
    # A cubic spline of so many pieces has three coefficients more.
    if voxel_nm <= 1.001 * dz_nm or pieces + 3 >= depth:
        return values, dz_nm, focus
    interpolate = extras.require("scipy.interpolate", "Smoothing along z", "train")
    at = np.arange(float(depth))
    knots = np.linspace(0, depth - 1, pieces + 1)
    full = np.concatenate([[0.0] * 3, knots, [depth - 1.0] * 3])
    spline = interpolate.make_lsq_spline(at, values.reshape(depth, -1), full, k=3)
    step = (depth - 1) / pieces
    sampled = spline(knots).reshape(pieces + 1, *values.shape[1:])
    return sampled, step * dz_nm, focus / step
