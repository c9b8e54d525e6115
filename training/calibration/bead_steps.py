"""Slices that are missing from a bead stack, or are in it twice.

The shape of a bead changes from slice to slice by amounts that change smoothly along
the stack; over a lost slice, or where the stage slipped, it changes by two steps at
once. Every bead of the stack has the same fault, so no comparison of beads shows it.

Design notes: says where, in words; what to do about it is for the person.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blinkloop.training.calibration.bead_records import Bead, BeadStack

__all__ = ["doubled_slices", "uneven_steps", "warn_of_steps"]

Floats = npt.NDArray[np.float64]

_MORE, _CLEARLY = 2.0, 6.0
"""Change over that of the steps beside it; the difference in units of the usual one.
Two steps make 1.5 to 4 and 6 to 30; one, and the four real stacks of
docs/calibration.md, stay below one of them."""


def uneven_steps(lights: Sequence[Floats]) -> list[int]:
    """Slices k after which the beads change more than before and afterwards.

    Parameters
    ----------
    lights
        (Z, h, w) of each bead of one stack, without background.
    """
    change = np.mean([_changes(light) for light in lights], 0)
    beside = (change[:-2] + change[2:]) / 2
    more = change[1:-1] - beside
    usual = 1.4826 * float(np.median(np.abs(more - np.median(more))))
    found = (change[1:-1] > _MORE * beside) & (more > _CLEARLY * usual)
    return [int(k) + 1 for k in np.flatnonzero(found)]


def _changes(light: Floats) -> Floats:
    """(Z - 1,) squared difference of neighbouring slices, each of unit power."""
    power = np.sqrt((light**2).sum((1, 2)))
    shape = light / np.maximum(power, 1e-300)[:, None, None]
    squares: Floats = ((shape[1:] - shape[:-1]) ** 2).sum((1, 2))
    return squares


def doubled_slices(pixels_ZHW: npt.NDArray[np.generic]) -> list[int]:
    """Slices whose pixels are those of the slice before, to the last digit."""
    same = (pixels_ZHW[1:] == pixels_ZHW[:-1]).all((1, 2))
    return [int(k) + 1 for k in np.flatnonzero(same)]


def warn_of_steps(
    stack: BeadStack, beads: Sequence[Bead], *, falling: bool
) -> list[str]:
    """Sentences on steps of a stack that are not what they should be.

    Parameters
    ----------
    stack
        With the focus going up, as the beads were cut from it.
    falling
        The file has its slices the other way round.
    """
    last = len(stack.pixels) - 1
    said = []
    doubled = doubled_slices(stack.pixels)
    if doubled:
        named = ", ".join(str(last - k + 1 if falling else k) for k in doubled[:5])
        said.append(
            f"slice {named} of {stack.name} is a copy of the one before, so the stage "
            f"is counted one step too far and z is stretched there: take copies out, "
            f"or record again"
        )
    elif beads:
        for k in uneven_steps([bead.light for bead in beads]):
            low, high = (last - k - 1, last - k) if falling else (k, k + 1)
            said.append(
                f"between the slices {low} and {high} of {stack.name} the beads change "
                f"as over two steps: a slice is missing, or the stage slipped, and z "
                f"is wrong there; look at the stack, or record again"
            )
    return said
