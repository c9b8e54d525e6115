"""Bead z-stacks to a PSF calibration, and how good it is.

    find -> select -> cut -> does it blink -> register, average, drop -> sample ->
    spline -> refit

Design notes: takes arrays, no files; reports what it drops and what looks odd in words
and never prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_light import (
    dark_ends,
    dark_slices,
    steady_beads,
)
from blinkloop.training.calibration.bead_model import (
    align_beads,
    build_model,
    sample_model,
)
from blinkloop.training.calibration.bead_records import (
    Bead,
    BeadSettings,
    BeadStack,
    Found,
)
from blinkloop.training.calibration.bead_repeats import averaged, frames_per_height
from blinkloop.training.calibration.bead_report import BeadCalibration, report
from blinkloop.training.calibration.bead_selection import (
    MARGIN_PX,
    SMALLEST_HALF_PX,
    Field,
    cut_beads,
    look_at,
    select_beads,
    smaller_sizes,
    window_sizes,
)
from blinkloop.training.calibration.bead_steps import refuse_opposite, warn_of_steps

__all__ = ["calibrate_beads"]

Floats = npt.NDArray[np.float64]

_STRONG = 0.25


def calibrate_beads(
    stacks: Sequence[BeadStack],
    settings: BeadSettings,
    *,
    progress: Callable[[str], None] = lambda text: None,
) -> BeadCalibration:
    """Make a PSF from bead stacks.

    Parameters
    ----------
    stacks
        One or several, of one microscope, step and pixel size.
    settings
        Step, pixel size and choices.
    progress
        Told in words what is being done.

    Raises
    ------
    InputError
        When a stack cannot be used, holds no bead, or no usable one.
    """
    if not stacks:
        raise InputError("no bead stack given; give at least one z-stack of beads")
    fields = []
    stacks, settings, said = _one_frame_each(stacks, settings)
    for stack in stacks:
        settings.check(stack)
        turned = _turned(stack, settings)
        progress(f"looking for beads in {stack.name}")
        fields.append(look_at(turned, turned.photons()))
    seen = sum(len(field.sighting) for field in fields)
    if seen == 0:
        raise InputError(_no_bead(fields))
    beads, dropped, half = _choose(fields, settings)
    ends = [
        dark_ends([bead for bead in beads if bead.found.stack == number])
        for number in range(len(fields))
    ]
    if any(any(end) for end in ends):
        shorter = _without_ends(stacks, ends, settings)
        again = calibrate_beads(*shorter[:2], progress=progress)
        return replace(again, warnings=[*shorter[2], *again.warnings])
    beads, unsteady = steady_beads(beads, settings, _named(fields))
    dropped += unsteady
    filled, uneven = [], []
    for number, field in enumerate(fields):
        of_it = [bead for bead in beads if bead.found.stack == number]
        here = _fill(field, of_it, settings)
        filled += here
        # A filled slice is neither a step nor a copy.
        if not here:
            uneven += warn_of_steps(field.stack, of_it, falling=settings.falling)
    if filled:
        beads = _cut(fields, [bead.found for bead in beads], half)
    progress(f"registering {len(beads)} of {len(beads) + len(dropped)} beads")
    beads, lost = _centred_windows(fields, align_beads(beads), half)
    places = [field.stack for field in fields]
    refuse_opposite(places, beads)
    model = build_model(beads)
    dropped += lost + [(bead.found, reason) for bead, reason in model.dropped]
    samples = sample_model(model, half, _focus_turned(settings, fields[0]))
    progress(f"fitting {len(model.beads)} beads with the PSF")
    result = report(places, model, samples, half, settings, dropped)
    return replace(
        result,
        notes=[*said, *result.notes],
        warnings=[*filled, *uneven, *result.warnings],
    )


def _one_frame_each(
    stacks: Sequence[BeadStack], settings: BeadSettings
) -> tuple[Sequence[BeadStack], BeadSettings, list[str]]:
    """Stacks with one frame per height, the given focus counted in them, and a line."""
    given = settings.frames_per_slice
    each = {given or frames_per_height(stack.pixels) for stack in stacks}
    if len(each) != 1 or (n := each.pop()) == 1:
        return stacks, settings, []
    for stack in stacks:
        if len(stack.pixels) % n:
            raise InputError(
                f"{stack.name}: {len(stack.pixels)} frames are no groups of {n}; give "
                f"the number at each height to --frames-per-slice, or cut the stack"
            )
    if not isinstance(settings.focus, str):
        settings = replace(settings, focus=settings.focus // n)
    why = "asked" if given else f"the frames come in groups of {n} that are alike"
    said = (
        f"{n} frames at each height were averaged, as {why}; the step of "
        f"{settings.dz_nm:g} nm is that between the groups"
    )
    # Averaged stacks have one each, whatever they look like.
    settings = replace(settings, frames_per_slice=1)
    return [averaged(stack, n) for stack in stacks], settings, [said]


def _without_ends(
    stacks: Sequence[BeadStack],
    ends: Sequence[tuple[int, int]],
    settings: BeadSettings,
) -> tuple[list[BeadStack], BeadSettings, list[str]]:
    """Stacks without the dark slices at their ends, and sentences on it."""
    kept, said = [], []
    for stack, (first, last) in zip(stacks, ends, strict=True):
        low, high = (last, first) if settings.falling else (first, last)
        stop = len(stack.pixels) - high
        kept.append(replace(stack, pixels=stack.pixels[low:stop]))
        named = [*range(low), *range(stop, len(stack.pixels))]
        if named:
            said.append(
                f"slice {', '.join(map(str, named))} of {stack.name} is dark and at "
                f"the end (a shutter that opens late, or closes early); it was left out"
            )
        if low and not isinstance(settings.focus, str):
            settings = replace(settings, focus=max(settings.focus - low, 0))
    # The frames were averaged before.
    return kept, replace(settings, frames_per_slice=1), said


def _turned(stack: BeadStack, settings: BeadSettings) -> BeadStack:
    """The stack with the focus going up, as the movies see it."""
    pixels = stack.pixels[::-1] if settings.falling else stack.pixels
    if settings.mirrored:
        pixels = pixels[:, :, ::-1]
    return replace(stack, pixels=pixels)


def _focus_turned(settings: BeadSettings, field: Field) -> BeadSettings:
    """Count the given focus from the other end for a stage that moved down."""
    if not settings.falling or isinstance(settings.focus, str):
        return settings
    return replace(settings, focus=len(field.photons) - 1 - settings.focus)


def _no_bead(fields: list[Field]) -> str:
    name = _named(fields)
    pixels = [field.stack.pixels for field in fields]
    low = min(float(part.min()) for part in pixels)
    high = max(float(part.max()) for part in pixels)
    if low == high:
        return (
            f"{name}: no bead found, every pixel is {low:g} ADU (a closed shutter, or "
            f"saturated all over); record a stack of beads that are bright but below "
            f"the limit of the camera"
        )
    return (
        f"{name}: no bead found, nothing stands out of the noise ({low:g} to {high:g} "
        f"ADU); check that it is the bead stack and in focus, and record brighter "
        f"beads on a dark background"
    )


def _choose(
    fields: list[Field], settings: BeadSettings
) -> tuple[list[Bead], list[tuple[Found, str]], int]:
    """Usable beads, with the largest window that leaves three of them (or any)."""
    strong = sum(
        int((field.sighting.response > _STRONG * field.sighting.response[0]).sum())
        for field in fields
        if len(field.sighting)
    )
    sizes = window_sizes(fields, settings.roi_px)
    tried = []
    for half in sizes:
        tried.append((*_select(fields, half, settings.roi_px is not None), half))
        if len(tried[-1][0]) >= min(3, strong):
            break
    if not any(found for found, _, _ in tried):
        for half in smaller_sizes(sizes[-1], tried[-1][1], settings.roi_px):
            tried.append((*_select(fields, half, given=False), half))
            if tried[-1][0]:
                break
    enough = [one for one in tried if len(one[0]) >= 3]
    some = [one for one in tried if one[0]]
    if not some:
        _look_closer(fields, tried[-1][1], settings)
        raise InputError(_none_usable(fields, *tried[-1][1:]))
    found, dropped, half = (enough or some)[0]
    beads = _cut(fields, found, half)
    return sorted(beads, key=lambda bead: -bead.found.response), dropped, half


def _cut(fields: list[Field], found: list[Found], half: int) -> list[Bead]:
    beads = []
    for number, field in enumerate(fields):
        beads += cut_beads(field, [one for one in found if one.stack == number], half)
    return beads


def _fill(field: Field, beads: list[Bead], settings: BeadSettings) -> list[str]:
    """Put the mean of its neighbours for a dark slice, in place, and say so."""
    said = []
    for k in dark_slices(beads):
        field.photons[k] = (field.photons[k - 1] + field.photons[k + 1]) / 2
        of = len(field.photons) - 1 - k if settings.falling else k
        said.append(
            f"slice {of} of {field.stack.name} is dark (a closed shutter, or a lost "
            f"frame); the mean of the slices beside it was taken: better record again"
        )
    return said


def _look_closer(
    fields: list[Field], dropped: list[tuple[Found, str]], settings: BeadSettings
) -> None:
    """Say that it is a movie before advice is given on how to record beads."""
    room = SMALLEST_HALF_PX + MARGIN_PX
    inside = []
    for one, _ in dropped:
        height, width = fields[one.stack].photons.shape[1:]
        edge = min(one.column, one.row, width - 1 - one.column, height - 1 - one.row)
        if edge >= room:
            inside.append(one)
    if inside:
        steady_beads(_cut(fields, inside, SMALLEST_HALF_PX), settings, _named(fields))


def _select(
    fields: list[Field], half: int, given: bool
) -> tuple[list[Found], list[tuple[Found, str]]]:
    """Beads of all stacks that can be used with a window, and the others."""
    found: list[Found] = []
    dropped: list[tuple[Found, str]] = []
    for number, field in enumerate(fields):
        if len(field.sighting):
            used, out = select_beads(field, number, half, given=given)
            found += used
            dropped += out
    return found, dropped


def _none_usable(
    fields: list[Field], dropped: list[tuple[Found, str]], half: int
) -> str:
    count = len(dropped)
    why = "; ".join(
        f"({one.column}, {one.row}) {reason}" for one, reason in dropped[:3]
    )
    more = f"; and {count - 3} more" if count > 3 else ""
    if all(reason.startswith("saturated") for _, reason in dropped):
        advice = "record again with less light or a shorter exposure"
    else:
        advice = (
            f"give a smaller window (--roi-px, now {2 * half + 1}), or record a "
            f"sparser sample with beads away from the border"
        )
    return (
        f"{_named(fields)}: {count} bead{'s' * (count != 1)} found, none can be used: "
        f"{why}{more}; {advice}"
    )


def _named(fields: list[Field]) -> str:
    return fields[0].stack.name if len(fields) == 1 else f"{len(fields)} stacks"


def _centred_windows(
    fields: list[Field], beads: list[Bead], half: int
) -> tuple[list[Bead], list[tuple[Found, str]]]:
    """Beads cut again where the registration says their centre is."""
    kept, lost = [beads[0]], []
    for bead in beads[1:]:
        field, old = fields[bead.found.stack], bead.found
        x, y = old.column + int(bead.shift[2]), old.row + int(bead.shift[1])
        moved = replace(old, column=x, row=y)
        height, width = field.photons.shape[1:]
        if any(_near(moved, one.found) for one in kept):
            lost.append((old, "a side lobe of another bead"))
        elif np.abs(bead.shift[1:]).max() <= 1:
            kept.append(bead)
        elif min(x, y, width - 1 - x, height - 1 - y) < half + MARGIN_PX:
            lost.append((old, "its centre lies too near the border"))
        else:
            again = cut_beads(field, [moved], half)[0]
            again.shift = np.array([bead.shift[0], 0.0, 0.0])
            kept.append(again)
    return kept, lost


def _near(one: Found, other: Found) -> bool:
    away = abs(one.column - other.column) + abs(one.row - other.row)
    return one.stack == other.stack and away < 3
