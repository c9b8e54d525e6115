"""Where the emitter is in a model of beads: z = 0 (focus) and the centre in x, y.

Focus: the mean squared radius of the light grows with the square of the defocus,
whatever the pupil (second moments propagate as a parabola; Siegman 1990,
doi:10.1117/12.18425): also for an astigmatic PSF, whose vertex lies between its two
line foci, and for a tetrapod. z = 0 is the vertex of a parabola through the radii.

Centre: a line through the centroids of the slices around the focus, at the focus.

Both count the light brighter than a share of the brightest pixel of the slice: the
rest is noise and neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_records import BeadSettings

__all__ = ["Placement", "place", "straight", "warn_of_motion"]

Floats = npt.NDArray[np.float64]

_BRIGHT = 0.05
_LEAST_BEND = 0.1
_END_SHARE = 0.08
_WALK_NM = 25.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Emitter in slices and pixels of a model, and how x, y change per slice."""

    focus: float
    x: float
    y: float
    slope_x: float
    slope_y: float
    focus_from: str


def place(light: Floats, settings: BeadSettings, first: int = 0) -> Placement:
    """Find the emitter in (Z, h, w); `first` is the number of its first slice.

    Raises
    ------
    InputError
        When the focus was given and lies outside of the slices.
    """
    x, y, spread = _moments(light)
    focus, how = _focus(spread, settings, first)
    at = np.arange(len(light)) - focus
    near = np.abs(at) <= max(len(light) / 4, 3)
    return Placement(
        focus,
        float(np.polyfit(at[near], x[near], 1)[1]),
        float(np.polyfit(at[near], y[near], 1)[1]),
        float(np.polyfit(at, x, 1)[0]),
        float(np.polyfit(at, y, 1)[0]),
        how,
    )


def straight(light: Floats, placement: Placement) -> Floats:
    """Slices shifted so that the light does not move sideways any more."""
    ndimage = extras.require("scipy.ndimage", "Correcting drift", "train")
    p = placement
    return np.stack(
        [
            ndimage.shift(
                image,
                (-p.slope_y * (k - p.focus), -p.slope_x * (k - p.focus)),
                order=3,
                mode="nearest",
            )
            for k, image in enumerate(light)
        ]
    )


def warn_of_motion(walk_nm: tuple[float, float], taken_out: bool) -> list[str]:
    """A sentence on light that moves sideways over a stack.

    One stack cannot tell drift from a PSF that is tilted (by coma, say): `straight`
    takes out what is steady of both, and nothing else.
    """
    walk = float(np.hypot(*walk_nm))
    if not walk > _WALK_NM:
        return []
    moves = f"the light moves sideways by {walk:.0f} nm over the stack"
    if taken_out:
        return [
            f"{moves}; a straight line through that was taken out, as asked: right for "
            f"steady drift, but if the PSF is tilted, x and y are now wrong by as much "
            f"from end to end (it moves alike in every stack then, and the other way "
            f"in one scanned down)"
        ]
    return [
        f"{moves}: a tilted PSF, which is right as it is, or drift, of which "
        f"--correct-drift takes out what is steady"
    ]


def _moments(light: Floats) -> tuple[Floats, Floats, Floats]:
    """(Z,) centroid x, y and mean squared radius of the bright pixels."""
    ndimage = extras.require("scipy.ndimage", "Finding the centre", "train")
    smooth = ndimage.gaussian_filter(light, (0.7, 0.7, 0.7))
    level = _BRIGHT * smooth.max((1, 2), keepdims=True)
    kept = np.where(smooth > level, smooth - level, 0.0)
    kept = np.maximum(kept, 0.0)
    total = np.maximum(kept.sum((1, 2)), 1e-300)
    columns, rows = np.arange(light.shape[2]), np.arange(light.shape[1])
    x, y = kept.sum(1) @ columns / total, kept.sum(2) @ rows / total
    squares = kept.sum(1) @ columns**2 / total + kept.sum(2) @ rows**2 / total
    return x, y, squares - x**2 - y**2


def _focus(spread: Floats, settings: BeadSettings, first: int) -> tuple[float, str]:
    """Slice of z = 0, and how it was found."""
    depth = len(spread)
    middle = (depth - 1) / 2
    if settings.focus == "middle":
        return middle, "middle of the stack, as asked"
    if not isinstance(settings.focus, str):
        given = float(settings.focus) - first
        if not 0 <= given <= depth - 1:
            raise InputError(
                f"focus in slice {settings.focus:g}, but only slices {first} to "
                f"{first + depth - 1} can be used; give one of these"
            )
        return given, "slice given"
    at = np.arange(float(depth))
    near = np.ones(depth, bool)
    vertex = middle
    for _ in range(8):
        bend, slope, level = np.polyfit(at[near], spread[near], 2)
        if bend <= 0:
            return middle, "middle of the stack (no slice is sharper than the others)"
        vertex = float(np.clip(-slope / (2 * bend), 0, depth - 1))
        # The same reach on both sides: what is not quite a parabola cancels.
        reach = max(min(vertex, depth - 1 - vertex), depth / 4, 2.5)
        near = np.abs(at - vertex) <= reach
    lowest = float(level - slope**2 / (4 * bend))
    rise = bend * reach**2
    margin = _END_SHARE * depth
    if not margin <= vertex <= depth - 1 - margin:
        return middle, "middle of the stack (its sharpest slice is at the end)"
    if rise < _LEAST_BEND * max(lowest, 1e-12):
        return middle, "middle of the stack (no slice is sharper than the others)"
    return vertex, "sharpest plane of the stack"
