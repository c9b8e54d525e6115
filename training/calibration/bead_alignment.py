"""Register beads to a model in x, y, z, and average them.

First the whole-voxel shift with the best normalised correlation (FFT over x and y, all
overlaps over z), then Gauss-Newton steps on the squared difference to the model moved
by cubic splines, with a free amplitude. The model is the set of samples that, moved to
the beads, comes closest to all of them: an average of beads moved back, then corrected
by what is left (Landweber iterations), because each move by a spline blurs a little.

Shapes: windows (Z, h, w); shifts (z, y, x) in voxels, from the model to the bead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.training.calibration.bead_records import Bead

__all__ = ["average", "coarse_shift", "fine_shift", "moved", "relative_residual"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_EDGE = 3
"""Rows and columns at the edge that a shift may have filled from outside."""

_STEPS = 12
_CONVERGED = 1e-4
_CORRECTIONS = 2


def moved(volume: Floats, shift: Floats) -> Floats:
    """Volume shifted by cubic splines; beyond the edge its last value goes on.

    The splines are those of `spline_coefficients`, so that the PSF made of a model
    draws what was compared with the beads.
    """
    result = volume
    for axis, step in enumerate(shift):
        if step:
            matrix = _shift_matrix(volume.shape[axis], float(step))
            turned = np.tensordot(matrix, result, axes=(1, axis))
            result = np.moveaxis(turned, 0, axis)
    return result


def _returned(left: Floats, shift: Floats) -> Floats:
    """What is left on the slices of a bead, on those of the model.

    Along z by the adjoint of `moved`: slices without data say nothing then. Moved back
    they would count as equal to the model, and corrections at the end would grow.
    """
    spread = left
    if shift[0]:
        matrix = _shift_matrix(len(left), float(shift[0]))
        spread = np.tensordot(matrix.T, left, axes=(1, 0))
    return moved(spread, np.array([0.0, -shift[1], -shift[2]]))


def _shift_matrix(size: int, step: float) -> Floats:
    """(size, size): samples of a line to its samples after a shift."""
    at = np.clip(np.arange(size) - step, 0, size - 1)
    result: Floats = _spline(size)(at)
    return result


@lru_cache(maxsize=32)
def _spline(size: int) -> Any:
    """Spline through each unit vector."""
    interpolate = extras.require("scipy.interpolate", "Aligning beads", "train")
    return interpolate.make_interp_spline(np.arange(float(size)), np.eye(size), k=3)


def coarse_shift(
    model: Floats, bead: Floats, most: tuple[int, int]
) -> tuple[Floats, float]:
    """Whole-voxel shift of the bead against the model, and their correlation.

    Parameters
    ----------
    model, bead
        (Z, h, w) of one size in x and y; Z may differ.
    most
        Largest shift along z and along x, y.
    """
    side = model.shape[1:]
    a = np.fft.rfft2(model)
    b = np.fft.rfft2(bead)
    a_power, b_power = (model**2).sum((1, 2)), (bead**2).sum((1, 2))
    reach = most[1]
    best, found = -np.inf, np.zeros(3)
    fewest = max(min(len(model), len(bead)) // 2, 3)
    for lag in range(-most[0], most[0] + 1):
        # Slice k of the model meets slice k + lag of the bead.
        low, high = max(0, -lag), min(len(model), len(bead) - lag)
        if high - low < fewest:
            continue
        mine, other = slice(low, high), slice(low + lag, high + lag)
        cross = np.fft.irfft2((np.conj(a[mine]) * b[other]).sum(0), s=side)
        norm = np.sqrt(a_power[mine].sum() * b_power[other].sum())
        near = np.roll(cross, (reach, reach), (0, 1))
        near = near[: 2 * reach + 1, : 2 * reach + 1] / max(norm, 1e-300)
        top = int(np.argmax(near))
        if near.flat[top] > best:
            best = float(near.flat[top])
            y, x = np.unravel_index(top, near.shape)
            found = np.array([lag, y - reach, x - reach], np.float64)
    return found, best


def fine_shift(
    model: Floats, bead: Floats, start: Floats, known: Flags | None = None
) -> tuple[Floats, float]:
    """Sub-voxel shift and amplitude by least squares, beginning from `start`.

    Parameters
    ----------
    known
        (Z,) slices of the model that may be used; None: all.
    """
    shift, amplitude = start.astype(np.float64).copy(), 1.0
    most = np.array([2.0, 2.5, 2.5])
    for _ in range(_STEPS):
        drawn, target, valid = _meet(model, bead, shift, known)
        if not valid.any():
            break
        slopes = [
            -np.gradient(drawn, axis=axis)[valid][:, _EDGE:-_EDGE, _EDGE:-_EDGE]
            for axis in range(3)
        ]
        here = drawn[valid][:, _EDGE:-_EDGE, _EDGE:-_EDGE]
        there = target[valid][:, _EDGE:-_EDGE, _EDGE:-_EDGE]
        # A level per slice is free: what the background estimate missed.
        columns = [_centred(part).ravel() for part in (here, *slopes)]
        solution = np.linalg.lstsq(
            np.stack(columns, 1), _centred(there).ravel(), rcond=None
        )[0]
        amplitude = float(solution[0])
        if amplitude <= 0:
            break
        step = np.clip(solution[1:] / amplitude, -0.5, 0.5)
        shift = np.clip(shift + step, start - most, start + most)
        if np.abs(step).max() < _CONVERGED:
            break
    return shift, amplitude


def average(
    model: Floats, beads: list[Bead], weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Samples closest to all beads at their shifts and amplitudes.

    Parameters
    ----------
    model
        (Z, h, w) to begin with; its slices without any bead are kept.

    Returns
    -------
    tuple
        The model, and (Z,) how much of the weight knows each slice, 0 to 1.
    """
    amplitudes = np.array([bead.amplitude for bead in beads])
    # Shot noise: a bead of twice the light weighs twice as much.
    weight = amplitudes if weights is None else amplitudes * weights
    known = np.zeros(len(model))
    for share, bead in zip(weight / weight.sum(), beads, strict=True):
        known += share * _covered(len(model), bead.light.shape[0], bead.shift[0])
    result = model
    for _ in range(1 + _CORRECTIONS):
        change = np.zeros_like(model)
        total = np.zeros(len(model))
        for w, bead in zip(weight, beads, strict=True):
            drawn, target, valid = _meet(result, bead.light, bead.shift, None)
            left = np.where(valid[:, None, None], target / bead.amplitude - drawn, 0.0)
            back = _returned(left, bead.shift)
            seen = _covered(len(model), bead.light.shape[0], bead.shift[0])
            change += w * seen[:, None, None] * back
            total += w * seen
        result = result + change / np.maximum(total, 1e-300)[:, None, None]
    return result, known


def relative_residual(model: Floats, bead: Bead, known: Flags | None = None) -> float:
    """RMS of bead - model over RMS of the model, both smoothed by one voxel."""
    ndimage = extras.require("scipy.ndimage", "Aligning beads", "train")
    drawn, target, valid = _meet(model, bead.light, bead.shift, known)
    # A "bead" that is no brighter than its surroundings is like nothing.
    if not valid.any() or bead.amplitude <= 0:
        return float("inf")
    edge = slice(_EDGE, -_EDGE)
    difference = target / bead.amplitude - drawn
    smooth = ndimage.gaussian_filter(difference[valid], 1.0)[:, edge, edge]
    signal = ndimage.gaussian_filter(drawn[valid], 1.0)[:, edge, edge]
    smooth = _centred(smooth)
    power = float((_centred(signal) ** 2).sum())
    return float(np.sqrt((smooth**2).sum() / max(power, 1e-300)))


def _meet(
    model: Floats, bead: Floats, shift: Floats, known: Flags | None
) -> tuple[Floats, Floats, Flags]:
    """Model moved onto the bead, the bead on the model's slices, slices to be used."""
    depth = len(model)
    drawn = moved(model, shift)
    target = np.zeros_like(model)
    shared = min(depth, len(bead))
    target[:shared] = bead[:shared]
    at = np.arange(depth)
    # Slice k of the bead is slice k - shift of the model.
    valid = (at < shared) & (at - shift[0] >= -0.01) & (at - shift[0] <= depth - 0.99)
    if known is not None:
        whole = np.clip(np.rint(at - shift[0]).astype(np.int64), 0, depth - 1)
        valid &= known[whole]
    return drawn, target, valid


def _covered(depth: int, slices: int, shift: float) -> Floats:
    """(depth,) 1 where the bead has data for a slice of the model."""
    at = np.arange(depth) + shift
    return ((at >= -0.01) & (at <= min(slices, depth) - 0.99)).astype(np.float64)


def _centred(part: Floats) -> Floats:
    result: Floats = part - part.mean((1, 2), keepdims=True)
    return result
