"""Find beads in a z-stack, whatever the shape of the PSF.

The mean over z holds all light of a bead near its centre: a spot, a cross, a ring. It
is seen through Laplacians of Gaussians of growing width (scale space, Lindeberg 1998,
doi:10.1023/A:1008045108935); the width with the strongest response is the size of the
PSF in this stack, and the maxima at that width are the beads. Lobes that stay apart
over the whole stack are seen through a filter that holds both.

Design notes: knows nothing of z, of the PSF or of other stacks. Which beads can be used
is decided by `bead_selection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.training.calibration.bead_crowds import copies
from blinkloop.training.calibration.bead_pairs import (
    lobe_distance_px,
    turning_distance_px,
)

__all__ = [
    "Sighting",
    "find_beads",
    "light_radius",
    "projection",
    "without_hot_pixels",
]

Floats = npt.NDArray[np.float64]

_SCALES_PX = 1.0 * 1.35 ** np.arange(11)
"""SD of the Gaussians: 1 to 20 px."""

_NOISE_LIMIT = 8.0
_CLUTTER_LIMIT, _CLUTTER_RESPONSE = 5.0, 0.25
_PARTS, _STATIC = 6, 0.85
_SAMPLES = 2_000_000
_SATELLITE_SCALES = 3.0
_SATELLITE_RESPONSE = 0.4
_STRONG = 0.25
"""Spots of this response, relative to the strongest, are counted."""
_FEWEST_IN_CROWD, _COPIES, _MORE = 6, 0.75, 1.3
_HOLDS_BOTH = 0.67
"""Two spots at distance d are one maximum from a scale of 0.63 d on."""


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """Beads of one stack: (N,) column, row, response, strongest first; and a scale."""

    column: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    response: Floats
    scale_px: float

    def __len__(self) -> int:
        return int(self.column.shape[0])


def projection(
    photons_ZHW: npt.NDArray[np.floating], *, moving: bool = False
) -> Floats:
    """(H, W) mean over z without single hot pixels.

    Parameters
    ----------
    photons_ZHW
        (Z, H, W) photons.
    moving
        Take off every pixel what is there in the darkest part of the stack: dust, and
        the pattern of a camera, stay the same while the focus moves.
    """
    ndimage = extras.require("scipy.ndimage", "Finding beads", "train")
    mean: Floats = photons_ZHW.mean(0, dtype=np.float64)
    hot = _stands_out(mean)
    if moving:
        mean -= _static(photons_ZHW)
    around = ndimage.median_filter(mean, size=3, mode="nearest")
    return np.where(hot, around, mean)


def _static(photons_ZHW: npt.NDArray[np.floating]) -> Floats:
    """(H, W) what a pixel has in the darkest part of the stack."""
    parts = np.array_split(photons_ZHW, max(1, min(_PARTS, len(photons_ZHW) // 2)))
    darkest: Floats = np.min([part.mean(0, dtype=np.float64) for part in parts], 0)
    return darkest


def without_hot_pixels(photons_ZHW: npt.NDArray[np.float32]) -> int:
    """Replace hot pixels in place by the median of their neighbours; how many."""
    mean: Floats = photons_ZHW.mean(0, dtype=np.float64)
    hot = _stands_out(mean)
    height, width = hot.shape
    for row, column in np.argwhere(hot):
        rows = slice(max(row - 1, 0), min(row + 2, height))
        columns = slice(max(column - 1, 0), min(column + 2, width))
        beside = photons_ZHW[:, rows, columns][:, ~hot[rows, columns]]
        if beside.shape[1]:
            photons_ZHW[:, row, column] = np.median(beside, 1)
    return int(hot.sum())


def _stands_out(mean: Floats) -> npt.NDArray[np.bool_]:
    """Pixels that stand out of their 8 neighbours more than an optical image can."""
    ndimage = extras.require("scipy.ndimage", "Finding beads", "train")
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    # Beyond the border there is nothing: a pixel there is no neighbour of itself.
    beside = ndimage.maximum_filter(
        mean, footprint=ring, mode="constant", cval=float(mean.min())
    )
    level = float(np.median(mean))
    limit = 4.0 * np.maximum(beside - level, _noise(mean))
    found: npt.NDArray[np.bool_] = mean - level > limit
    return found


def find_beads(
    photons_ZHW: npt.NDArray[np.floating], *, scale_px: float | None = None
) -> Sighting:
    """Beads of a stack; none when nothing stands out of the noise.

    Parameters
    ----------
    photons_ZHW
        (Z, H, W) photons; a constant offset does no harm.
    scale_px
        Size of the PSF (SD of the Gaussian); None: found.
    """
    seen = _find(photons_ZHW, scale_px, moving=False)
    moving = bool(len(seen)) and _is_static(photons_ZHW, seen)
    if moving:
        seen = _find(photons_ZHW, scale_px, moving=True)
    if scale_px is None:
        seen = _in_a_crowd(photons_ZHW, seen, moving=moving)
    if scale_px is not None:
        return seen
    spots = (seen.column, seen.row, seen.response)
    apart = lobe_distance_px(*spots) or turning_distance_px(photons_ZHW, *spots)
    if apart > 0:
        both = _find(photons_ZHW, _HOLDS_BOTH * apart, moving=moving)
        return both if len(both) else seen
    return seen


def _in_a_crowd(
    photons_ZHW: npt.NDArray[np.floating], seen: Sighting, *, moving: bool
) -> Sighting:
    """The beads that a wide filter saw as one, or what it saw.

    In a crowd the strongest response is that of several beads, through a filter that
    holds them all. Narrower ones see more spots, which all change with z in the same
    way; lobes of one PSF do not.
    """
    most = _MORE * float(_strong(seen).sum())
    for scale in _SCALES_PX[0.99 * seen.scale_px > _SCALES_PX][::-1]:
        found = _find(photons_ZHW, float(scale), moving=moving)
        strong = _strong(found)
        count = int(strong.sum())
        if count < _FEWEST_IN_CROWD or count <= most:
            continue
        half = max(3, math.ceil(2 * scale))
        share = copies(photons_ZHW, found.column[strong], found.row[strong], half)
        if share >= _COPIES and share * count > most:
            seen, most = found, share * count
    return seen


def _strong(seen: Sighting) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = seen.response > _STRONG * seen.response.max(
        initial=0.0
    )
    return flags


def _is_static(photons_ZHW: npt.NDArray[np.floating], seen: Sighting) -> bool:
    """Whether the strongest sighting is there all the time: dust, no bead."""
    ndimage = extras.require("scipy.ndimage", "Finding beads", "train")
    response = -(seen.scale_px**2) * ndimage.gaussian_laplace(
        _static(photons_ZHW), seen.scale_px
    )
    at = (int(seen.row[0]), int(seen.column[0]))
    return bool(response[at] > _STATIC * seen.response[0])


def _find(
    photons_ZHW: npt.NDArray[np.floating], scale_px: float | None, *, moving: bool
) -> Sighting:
    ndimage = extras.require("scipy.ndimage", "Finding beads", "train")
    image = projection(photons_ZHW, moving=moving)
    # Sampled filters do not quite sum to 0: a high level must not show through them.
    image = image - float(np.median(image))
    noise = min(_noise(image), _noise_over_z(photons_ZHW))
    scales = _SCALES_PX[max(min(image.shape), 7) >= _SCALES_PX * 6]
    if scale_px is not None:
        scales = np.array([scale_px])
    best: tuple[float, float, Floats] | None = None
    for scale in scales:
        response = -(scale**2) * ndimage.gaussian_laplace(image, scale)
        # Noise of white pixels seen through this filter: scale^2 |LoG| = 0.4 / scale.
        limit = _NOISE_LIMIT * 0.4 * noise / scale
        strongest = float(response.max())
        # Favours wide filters, which see the lobes of one PSF as one: beads that are
        # closer than that could not be used anyway.
        worth = strongest * float(scale)
        if strongest > limit and (best is None or worth > best[0]):
            best = (worth, float(scale), response)
    if best is None:
        return _sighting([], 0.0)
    _, scale, response = best
    spread = 1.4826 * float(np.median(np.abs(response - np.median(response))))
    # In a field full of beads the spread is light of beads.
    clutter = min(_CLUTTER_LIMIT * spread, _CLUTTER_RESPONSE * float(response.max()))
    limit = max(_NOISE_LIMIT * 0.4 * noise / scale, clutter)
    size = 2 * int(np.ceil(scale)) + 1
    peaks = response == ndimage.maximum_filter(response, size=size, mode="nearest")
    rows, columns = np.nonzero(peaks & (response > limit))
    values = response[rows, columns]
    order = np.argsort(-values, kind="stable")
    kept: list[tuple[int, int, float]] = []
    for at in order:
        x, y, value = int(columns[at]), int(rows[at]), float(values[at])
        near = [
            v
            for (i, j, v) in kept
            if np.hypot(i - x, j - y) < _SATELLITE_SCALES * scale
        ]
        # Arms and rings of a strong bead are maxima too.
        if any(value < _SATELLITE_RESPONSE * v for v in near):
            continue
        kept.append((x, y, value))
    return _sighting(kept, scale)


def light_radius(image: Floats, column: int, row: int, share: float, most: int) -> int:
    """Radius in px around a bead that holds a share of its light within `most` px.

    The level outside is that of the outer quarter.
    """
    height, width = image.shape
    most = min(most, max(column, width - 1 - column), max(row, height - 1 - row))
    y, x = np.mgrid[:height, :width]
    away = np.hypot(x - column, y - row)
    rings = np.clip(np.rint(away), 0, most + 1).astype(np.int64).ravel()
    count = np.bincount(rings, minlength=most + 2)[: most + 1]
    total = np.bincount(rings, weights=image.ravel(), minlength=most + 2)[: most + 1]
    mean = total / np.maximum(count, 1)
    outer = slice(-max(most // 4, 1), None)
    level = float(total[outer].sum() / max(int(count[outer].sum()), 1))
    # Rings cut by the border count as if they were whole. Noise of both signs cancels.
    whole = 2 * np.pi * np.maximum(np.arange(most + 1), 0.16)
    light = np.cumsum((mean - level) * whole)
    if light.max() <= 0:
        return most
    return int(np.argmax(light >= share * light.max()))


def _noise(image: Floats) -> float:
    """SD of the pixel noise, from differences of neighbours."""
    across = np.diff(image, axis=1).ravel()
    down = np.diff(image, axis=0).ravel()
    steps = np.concatenate([across, down])
    return float(1.4826 * np.median(np.abs(steps)) / np.sqrt(2.0))


def _noise_over_z(photons_ZHW: npt.NDArray[np.floating]) -> float:
    """SD of the pixel noise of a projection, from differences of slices.

    In a field full of light neighbours differ by more than noise. Slices that are
    alike to the last digit are one slice, saved twice.
    """
    step = max(1, photons_ZHW.size // _SAMPLES)
    flat = photons_ZHW.reshape(len(photons_ZHW), -1)[:, ::step]
    steps = np.abs(np.diff(flat.astype(np.float64), axis=0))
    steps = steps[steps > 0]
    if not steps.size:
        return 0.0
    # The mean, and the darkest of the parts taken off, which is noisier.
    one = 2.0 * 1.4826 * float(np.median(steps))
    return one / math.sqrt(2.0 * len(photons_ZHW))


def _sighting(kept: list[tuple[int, int, float]], scale: float) -> Sighting:
    columns, rows, values = ([k[i] for k in kept] for i in range(3))
    return Sighting(
        np.array(columns, np.int64),
        np.array(rows, np.int64),
        np.array(values, np.float64),
        scale,
    )
