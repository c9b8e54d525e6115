"""Does what was found behave like a bead: steady light, a shape that changes with z.

A movie of blinking molecules is a stack of images, too, and its places of most light
are found like beads. Their light goes on and off; that of a bead changes with the
height smoothly (light leaves the window, bleaching, a lamp that drifts), whatever its
PSF. A movie of beads that are held in focus is steady, but looks alike in all frames.

Design notes: knows no other beads and no PSF.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_records import Bead, BeadSettings, Found

__all__ = ["dark_slices", "flicker", "shape_change", "steady_beads"]

Floats = npt.NDArray[np.float64]

_FLICKER, _CLEARLY, _CERTAIN = 0.25, 2.5, 1.0
"""Scatter of a molecule's light over its mean; over what noise makes of it; and where
noise is no excuse. Beads scatter by 0.00 to 0.12, molecules by 0.4 and more."""

_DROPPED = 20
"""One slice of so many may have lost its light (a closed shutter, a lost frame)."""

_FEW_SLICES = 12
_FEWEST_TO_COMPARE = 6
_LOST, _END, _FEW_DARK = 0.5, 3, 2
_EVERY, _MOST = 0.2, 0.9
_LEAST_CHANGE, _LEAST_SPAN_NM = 1e-3, 1000.0
"""Over so many nm a PSF changes by more: 2e-3 at NA 0.8, 9e-3 at NA 1.2."""


def flicker(light: Floats) -> tuple[float, float]:
    """Scatter of the light from slice to slice beyond noise, over its mean; the noise.

    Parameters
    ----------
    light
        (Z, h, w) of a bead without background.
    """
    depth = len(light)
    total = light.sum((1, 2))
    mean = max(float(total.mean()), 1e-300)
    pixel = 1.4826 * float(np.median(np.abs(np.diff(light, axis=0)))) / math.sqrt(2)
    noise = pixel * math.sqrt(light[0].size)
    at = np.linspace(-1, 1, depth)
    smooth = np.polyval(np.polyfit(at, total, 2 if depth < _FEW_SLICES else 4), at)
    # Only slices that are too dark may be left out: no bead lights up at times.
    left = np.sort(total - smooth)[max(1, depth // _DROPPED) :]
    beyond = max(float((left**2).mean()) - noise**2, 0.0)
    return math.sqrt(beyond) / mean, noise / mean


def shape_change(light: Floats) -> float:
    """1 less the correlation of the two thirds of the stack that are least alike.

    Parameters
    ----------
    light
        (Z, h, w) of a bead without background; Z is 6 or more.
    """
    parts = np.array_split(light, 3)
    even, odd = ([part[turn::2].mean(0) for part in parts] for turn in range(2))
    # Noise of different slices cancels in products.
    power = [max(float((a * b).sum()), 1e-300) for a, b in zip(even, odd, strict=True)]
    alike = []
    for i, j in ((0, 1), (1, 2), (0, 2)):
        shared = ((even[i] + odd[i]) * (even[j] + odd[j])).sum() / 4
        alike.append(float(shared) / math.sqrt(power[i] * power[j]))
    return 1 - min(alike)


def dark_slices(beads: list[Bead]) -> list[int]:
    """Slices in which every bead of a stack has lost half of its light, at once.

    A closed shutter or a lost frame: the slices before and after hold the light. The
    first and the last slice are never among them.
    """
    if not beads:
        return []
    total = np.array([bead.light.sum((1, 2)) for bead in beads])
    beside = np.minimum(total[:, :-2], total[:, 2:])
    # Of a bead that is dim here nothing can be said.
    lost = (beside > 0.1 * total.max(1, keepdims=True)) & (
        total[:, 1:-1] < _LOST * beside
    )
    return [int(k) + 1 for k in np.flatnonzero(lost.all(0))]


def dark_ends(beads: list[Bead]) -> tuple[int, int]:
    """How many slices at the two ends hold no light yet, or no more, of any bead.

    A shutter that opens late: over one step of defocus a window does not lose half of
    its light.
    """
    if not beads or len(beads[0].light) < _FEW_SLICES:
        return 0, 0
    if len(dark_slices(beads)) > _FEW_DARK:
        return 0, 0
    total = np.array([bead.light.sum((1, 2)) for bead in beads])
    found = []
    for way in (total, total[:, ::-1]):
        bright = way > 0.3 * way.max(1, keepdims=True)
        dark = [
            n
            for n in range(1, _END + 1)
            if bright[:, n].all() and (way[:, :n] < _LOST * way[:, n : n + 1]).all()
        ]
        found.append(max(dark, default=0))
    return found[0], found[1]


def every_second(beads: list[Bead]) -> bool:
    """Whether most beads are steady in the even and in the odd slices, and not in all.

    Two channels in turn; a molecule that blinks does so in either half.
    """
    halves = []
    for bead in beads:
        parts = [bead.light[turn::2] for turn in range(2)]
        if len(parts[1]) < _FEWEST_TO_COMPARE:
            return False
        total = [part.sum((1, 2))[: len(parts[1])] for part in parts]
        # An empty channel has no light whose scatter could be told.
        more = int(total[1].mean() > total[0].mean())
        brighter = total[more] - total[1 - more] > _EVERY * total[more].mean()
        steady = flicker(parts[more])[0] < _FLICKER
        halves.append(steady and float(brighter.mean()) > _MOST)
    return float(np.mean(halves)) > 0.5


def steady_beads(
    beads: list[Bead], settings: BeadSettings, name: str
) -> tuple[list[Bead], list[tuple[Found, str]]]:
    """Beads, and what goes on and off, with the reason.

    Raises
    ------
    InputError
        When most of what was found blinks, or looks alike in all slices.
    """
    kept: list[Bead] = []
    out: list[tuple[Found, str]] = []
    every = [dark_slices([bead]) for bead in beads]
    for bead, dark in zip(beads, every, strict=True):
        scatter, noise = flicker(bead.light)
        often = len(dark) > max(2, len(bead.light) // _DROPPED)
        if often or scatter > _CERTAIN or scatter > max(_FLICKER, _CLEARLY * noise):
            reason = f"its light goes on and off (by {100 * scatter:.0f} % of its mean)"
            out.append((bead.found, reason))
        else:
            kept.append(bead)
    if len(out) > len(kept):
        if every_second(beads):
            raise InputError(
                f"{name}: every second page is of another brightness than the pages "
                f"beside it, and each half changes steadily: two channels or "
                f"illuminations in turn; save one of them as a file of its own "
                f"(ImageJ: Image > Stacks > Tools > Deinterleave), with its own --dz-nm"
            )
        raise InputError(
            f"{name}: {len(out)} of the {len(beads)} brightest places "
            f"go{'es' * (len(out) == 1)} on and off from slice to slice, as blinking "
            f"molecules do and beads do not; give the z-stack of beads (movies are for "
            f"blinkloop prefit)"
        )
    depth = len(beads[0].light)
    span = (depth - 1) * settings.dz_nm
    if depth < _FEWEST_TO_COMPARE or span < _LEAST_SPAN_NM:
        return kept, out
    if float(np.median([shape_change(bead.light) for bead in kept])) < _LEAST_CHANGE:
        raise InputError(
            f"{name}: the beads look alike in all {depth} slices, which "
            f"a PSF seen over {span:.0f} nm does not: the focus was not moved (a movie "
            f"of beads?), or --dz-nm is too large; give a z-stack through the focus"
        )
    return kept, out
