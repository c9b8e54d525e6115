"""Slices that are missing from a bead stack, or in it twice, or in the other order.

The shape of a bead changes from slice to slice by amounts that change smoothly along
the stack; over a lost slice, or where the stage slipped, it changes by two steps at
once. Every bead of the stack has the same fault, so no comparison of beads shows it.

Design notes: says where, in words; what to do about it is for the person.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_alignment import coarse_shift
from blinkloop.training.calibration.bead_records import Bead, BeadStack

__all__ = ["doubled_slices", "refuse_opposite", "uneven_steps", "warn_of_steps"]

Floats = npt.NDArray[np.float64]

_MORE, _CLEARLY = 2.0, 6.0
"""Change over that of the steps beside it; the difference in units of the usual one.
Two steps make 1.5 to 4 and 6 to 30; one, and the four real stacks of
docs/calibration.md, stay below one of them."""

_BACKWARDS, _COMPARED = 0.03, 5
"""Correlation that beads of a stack in the other order gain when it is turned: 0.08 of
dim astigmatic beads to 0.2; of a 2D PSF 0.00; those in the same order lose as much."""


def refuse_opposite(stacks: Sequence[BeadStack], beads: Sequence[Bead]) -> None:
    """Refuse stacks of which some were scanned up and others down.

    Parameters
    ----------
    stacks
        All of them; a bead says which one it is of.
    beads
        The one that most others are like first.

    Raises
    ------
    InputError
        When the beads of a stack are more like the first bead with the slices turned.
    """
    ndimage = extras.require("scipy.ndimage", "Comparing bead stacks", "train")
    first = beads[0].found.stack
    model = ndimage.gaussian_filter(beads[0].light, 1.0)
    reach = (len(model) // 2, model.shape[1] // 4)
    for number in sorted({bead.found.stack for bead in beads} - {first}):
        gained = []
        for bead in [one for one in beads if one.found.stack == number][:_COMPARED]:
            light = ndimage.gaussian_filter(bead.light, 1.0)
            forward = coarse_shift(model, light, reach)[1]
            gained.append(coarse_shift(model, light[::-1], reach)[1] - forward)
        if float(np.median(gained)) > _BACKWARDS:
            raise InputError(
                f"{stacks[number].name} was scanned the other way than "
                f"{stacks[first].name}: its beads are like the others from the last "
                f"slice to the first; calibrate stacks that went up, and those that "
                f"went down with --falling, in commands of their own"
            )


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
