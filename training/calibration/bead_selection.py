"""Which of the beads found can be used, and their windows without background.

Design notes: a bead is refused with a reason in a few words; nothing is dropped
silently but what is fainter than 2 % of the brightest bead of its stack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.training.calibration.bead_finding import (
    Sighting,
    find_beads,
    light_radius,
    projection,
    without_hot_pixels,
)
from blinkloop.training.calibration.bead_records import (
    Bead,
    BeadStack,
    Found,
)

__all__ = [
    "BORDER",
    "MARGIN_PX",
    "NEIGHBOUR",
    "SMALLEST_HALF_PX",
    "Field",
    "cut_beads",
    "look_at",
    "select_beads",
    "smaller_sizes",
    "window_sizes",
]

Floats = npt.NDArray[np.float64]

MARGIN_PX = 3
"""Beads are cut this much wider than the window, so that they can be shifted."""

SMALLEST_HALF_PX = 5
"""Half side of the smallest window that is tried."""

NEIGHBOUR = "another bead is"
"""In the reason for a bead that has another one beside it."""

BORDER = "from the border"
"""In the reason for a bead whose window reaches out of the field."""

_SHARE = 0.96
_FARTHEST_PX = 55
_LARGEST_HALF_PX = 32
_DIM, _INVISIBLE = 0.1, 0.02
_LOBE = 0.2
_RIM = 0.4
"""A lone bead has 0.00 to 0.05, one cut out closely 0.35, one in a crowd 0.5 to 1."""
_MOST_BEADS = 60
_FULL_WELLS = (255, 1023, 4095, 16383, 65535)
_PLATEAU_PX = 4


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A stack in photons, and what was seen in it; `radius_px` holds most light.

    `mean` is the smooth (H, W) mean over z.
    """

    stack: BeadStack
    photons: npt.NDArray[np.float32]
    sighting: Sighting
    radius_px: int
    mean: Floats


def look_at(stack: BeadStack, photons: npt.NDArray[np.float32]) -> Field:
    """Find beads and how far their light reaches.

    Hot pixels are taken out of `photons`, in place.
    """
    without_hot_pixels(photons)
    ndimage = extras.require("scipy.ndimage", "Finding beads", "train")
    sighting = find_beads(photons)
    image = projection(photons)
    mean: Floats = ndimage.gaussian_filter(image, 1.0)
    if not len(sighting):
        return Field(stack, photons, sighting, 0, mean)
    radii = []
    strong = np.flatnonzero(sighting.response >= 0.2 * sighting.response[0])
    free = [_free_px(sighting, int(at)) for at in strong]
    # The lonely and strong say it best; of several the median, as neighbours shine in.
    for at in np.argsort(-np.array(free), kind="stable")[:5]:
        number = int(strong[at])
        column, row = int(sighting.column[number]), int(sighting.row[number])
        reach = max(free[at], int(2 * sighting.scale_px) + 1)
        radii.append(light_radius(image, column, row, _SHARE, reach))
    return Field(stack, photons, sighting, int(np.median(radii)), mean)


def _free_px(seen: Sighting, number: int) -> int:
    """How far from a bead its light can be measured, for the next one."""
    away = np.hypot(seen.column - seen.column[number], seen.row - seen.row[number])
    strong = (away > 0) & (seen.response > 0.1 * seen.response[number])
    nearest = float(away[strong].min()) * 0.6 if strong.any() else math.inf
    return int(min(nearest, _FARTHEST_PX))


def window_sizes(fields: list[Field], roi_px: int | None) -> list[int]:
    """Half sides of the window to be tried, the best first."""
    if roi_px is not None:
        return [roi_px // 2]
    seen = [field for field in fields if len(field.sighting)]
    widest = max(f.radius_px for f in seen)
    core = max(f.sighting.scale_px for f in seen)
    least = int(np.ceil(max(SMALLEST_HALF_PX, min(2.5 * core, 10.0), 1.5 * core)))
    best = min(max(widest + 2, least), max(_LARGEST_HALF_PX, least))
    sizes = {max(least, int(best * factor)) for factor in (1.0, 0.8, 0.65)}
    return sorted(sizes, reverse=True)


def smaller_sizes(
    least: int, dropped: list[tuple[Found, str]], roi_px: int | None
) -> list[int]:
    """Half sides below the usual ones, for beads that were cut out of their field.

    None when a bead has another flaw than that the border is near: a neighbour would
    only be hidden.
    """
    if roi_px is not None or any(BORDER not in reason for _, reason in dropped):
        return []
    return list(range(least - 1, SMALLEST_HALF_PX - 1, -1))


def select_beads(
    field: Field, number: int, half: int, *, given: bool = False
) -> tuple[list[Found], list[tuple[Found, str]]]:
    """Beads of one stack whose window of +- `half` px can be used; others, and why.

    A window that was `given` may cut off what it likes.
    """
    seen, stack = field.sighting, field.stack
    height, width = field.photons.shape[1:]
    room = half + MARGIN_PX
    core = int(np.ceil(1.2 * seen.scale_px))
    places = list(zip(seen.column.tolist(), seen.row.tolist(), strict=True))
    full = [_saturated(stack, x, y, core) for x, y in places]
    # Saturated beads say nothing of how bright the others should be.
    brightest = max(
        (float(r) for r, f in zip(seen.response, full, strict=True) if f is None),
        default=float(seen.response[0]),
    )
    used: list[Found] = []
    dropped: list[tuple[Found, str]] = []
    for at in range(len(seen)):
        (x, y), value = places[at], float(seen.response[at])
        relative = value / brightest
        if relative < _INVISIBLE:
            continue
        reason: str | None = None
        # A neighbour's core must stay out of the window.
        reach = half + min(half, 1.75 * seen.scale_px)
        near = np.maximum(np.abs(seen.column - x), np.abs(seen.row - y)) < reach
        near[at] = False
        near &= seen.response > 0.1 * value
        beside = np.maximum(np.abs(seen.column - x), np.abs(seen.row - y)) <= half
        edge = min(x, y, width - 1 - x, height - 1 - y)
        if full[at] is not None:
            reason = full[at]
        elif (beside & (seen.response > value / _LOBE)).any():
            reason = "faint light beside a bead: a side lobe, or a neighbour"
        elif edge < room:
            reason = f"{edge} px {BORDER}; a window of {2 * half + 1} px does not fit"
        elif near.any():
            away = np.hypot(seen.column[near] - x, seen.row[near] - y).min()
            reason = f"{NEIGHBOUR} {away:.0f} px away"
        elif relative < _DIM:
            reason = f"dim: {100 * relative:.0f} % of the brightest bead"
        elif not given and (rim := _rim_light(field.mean, x, y, room)) > _RIM:
            reason = (
                f"light at the rim of its window is {100 * rim:.0f} % of its own: "
                f"{NEIGHBOUR} near"
            )
        if reason is None and len(used) >= _MOST_BEADS:
            reason = f"more than {_MOST_BEADS} beads; the brightest are used"
        one = Found(number, x, y, value)
        if reason is None:
            used.append(one)
        else:
            dropped.append((one, reason))
    return used, dropped


def _rim_light(mean: Floats, x: int, y: int, room: int) -> float:
    """Brightest part of the rim of a window above its background, over the peak's.

    Neighbours that are no spots of their own are seen by their light.
    """
    window = mean[y - room : y + room + 1, x - room : x + room + 1]
    ring = np.ones(window.shape, bool)
    ring[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = False
    level = window - _plane(window[None], [np.zeros(1, np.int64)], ring)
    dark = float(np.quantile(level[ring], 0.1))
    return float((level[ring].max() - dark) / max(float(level.max()) - dark, 1e-300))


def _saturated(stack: BeadStack, x: int, y: int, half: int) -> str | None:
    """Why the bead is saturated, or None."""
    rows, columns = (slice(max(at - half, 0), at + half + 1) for at in (y, x))
    part = stack.pixels[:, rows, columns]
    top = float(part.max())
    limit = stack.saturated_adu
    full = (part >= (top if limit is None else limit)).sum((1, 2))
    if limit is not None:
        high = top >= limit
    else:
        # A camera's full well, or many pixels that stop at one value.
        near_top = int(((part > 0.98 * top) & (part < top)).sum())
        flat = int(full.max()) >= _PLATEAU_PX and int(full.sum()) > near_top
        at_well = top in _FULL_WELLS and int(full.sum()) > 1
        # Images of a few counts have flat tops too.
        high = top >= 255 and (flat or at_well)
    if not high:
        return None
    slices = int((full > 0).sum())
    return f"saturated: {top:.0f} ADU in {slices} slice{'s' * (slices != 1)}"


def _plane(
    window: Floats, groups: list[npt.NDArray[np.int64]], ring: npt.NDArray[np.bool_]
) -> Floats:
    """Slope of the background over a window, 0 in its middle, from its edge.

    Background stays the same over z and light of the bead does not: of the slopes of
    several groups of slices the smallest counts, and none when their signs differ.
    """
    height, width = window.shape[1:]
    y, x = np.mgrid[:height, :width]
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    found = []
    for group in groups:
        values = window[group].mean(0)[ring]
        # Bright edge pixels are light of the bead.
        dark = values <= np.quantile(values, 0.75)
        parts = np.stack([x[ring], y[ring], np.ones(values.shape)], 1)[dark]
        found.append(np.linalg.lstsq(parts, values[dark], rcond=None)[0][:2])
    slopes = np.array(found)
    agreed = np.abs(np.sign(slopes).sum(0)) == len(groups)
    least = np.where(agreed, np.sign(slopes[0]) * np.abs(slopes).min(0), 0.0)
    plane: Floats = least[0] * x + least[1] * y
    return plane


def cut_beads(field: Field, found: list[Found], half: int) -> list[Bead]:
    """Windows of beads, wider by `MARGIN_PX`, with their background taken off."""
    ndimage = extras.require("scipy.ndimage", "Measuring the background", "train")
    photons = field.photons
    room = half + MARGIN_PX
    free = np.ones(photons.shape[1:], bool)
    seen = field.sighting
    for x, y in zip(seen.column, seen.row, strict=True):
        low_y, low_x = max(y - room, 0), max(x - room, 0)
        free[low_y : y + room + 1, low_x : x + room + 1] = False
    # How the level of the whole field changes from slice to slice, where it shows.
    swing = np.zeros(len(photons))
    if free.sum() >= 200:
        level = np.median(photons[:, free], 1)
        swing = (level - np.median(level)).astype(np.float64)
    beads = []
    for one in found:
        rows = slice(one.row - room, one.row + room + 1)
        columns = slice(one.column - room, one.column + room + 1)
        window = photons[:, rows, columns].astype(np.float64)
        ring = np.ones(window.shape[1:], bool)
        ring[3:-3, 3:-3] = False
        window -= swing[:, None, None]
        around = np.median(window[:, ring], 1)
        # Slices far from focus shine onto the ring; the darkest fifth do not. Without
        # the smoothing the darkest would be those where the noise was low.
        around = ndimage.gaussian_filter1d(around, max(len(around) / 16, 1.0))
        order = np.argsort(around)
        darkest = order[: max(len(around) // 5, 3)]
        window -= _plane(window, np.array_split(order, 4), ring)
        dark = float(np.median(window[darkest][:, ring], 1).mean())
        beads.append(Bead(one, window - dark, around[darkest].mean() + swing))
    return beads
