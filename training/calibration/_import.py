"""What the readers of other programs' calibrations share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration, file_sha256

__all__ = ["Choice", "finish", "light_in_focus", "pick", "pixel_size"]

T = TypeVar("T")

_THINNEST_NM = 1.0
_LIGHT = (0.01, 10.0)
"""About 1, but a second channel is in shares of the first one's light."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the person asks for.

    Parameters
    ----------
    pixel_size_nm
        None: what the file says.
    region, channel
        Which of several regions of the field and channels, from 0.
    em_mirrored
        Whether the beads had been mirrored left to right; None: what the file says.
    keep_mirrored
        Leave mirrored coefficients as they are, for frames that are mirrored too.
    """

    pixel_size_nm: float | None = None
    region: int = 0
    channel: int = 0
    em_mirrored: bool | None = None
    keep_mirrored: bool = False


def pick(path: Path, items: Sequence[T], index: int, what: str, notes: list[str]) -> T:
    """One of several; says so in `notes` when there was a choice.

    Raises
    ------
    InputError
        When there is none with that index.
    """
    if not 0 <= index < len(items):
        last = len(items) - 1
        raise InputError(
            f"{path}: holds {what}s 0 to {last}, not {index}; choose one of these"
            if last
            else f"{path}: holds one {what} (0), not {index}; leave the choice out"
        )
    if len(items) > 1:
        notes.append(f"{what} {index} of {len(items)} (counted from 0)")
    return items[index]


def pixel_size(path: Path, asked: float | None, *known: float) -> float | None:
    """The pixel size in nm from what the person says and what the file says.

    Raises
    ------
    InputError
        When both contradict each other, or the pixels are not square and the person
        said nothing.
    """
    if not known:
        return asked
    square = all(math.isclose(size, known[0], rel_tol=0.01) for size in known)
    if asked is None and not square:
        sizes = " x ".join(f"{size:g}" for size in known)
        raise InputError(
            f"{path}: pixels of {sizes} nm are not square, and positions are counted "
            "in one pixel size; say which (pixel_size_nm)"
        )
    if asked is None:
        return float(np.mean(known))
    if square and not math.isclose(asked, known[0], rel_tol=0.01):
        raise InputError(
            f"{path}: the calibration was made with pixels of {known[0]:g} nm, not "
            f"{asked:g} nm; a PSF cannot be carried over: calibrate at that pixel size"
        )
    return asked


def light_in_focus(calibration: PsfCalibration) -> float:
    """Sum over the pixels of an emitter at z = 0, x = y = 0."""
    zero, one = np.zeros(1), np.ones(1)
    return float(calibration.psf().roi(zero, zero, zero, one)[0].sum())


def finish(
    path: Path,
    calibration: PsfCalibration,
    choice: Choice,
    *,
    program: str,
    mirrored: bool = False,
    notes: Sequence[str] = (),
) -> PsfCalibration:
    """Undo the EM mirror unless told not to, and write down where all came from.

    Raises
    ------
    InputError
        When the heights or the light cannot be in nm and in shares of an emitter's.
    """
    if calibration.dz_nm < _THINNEST_NM:
        raise InputError(
            f"{path}: slices of {calibration.dz_nm:g} nm are thinner than any stage "
            f"steps, so the unit is another one; put the step in nm into the file"
        )
    if choice.em_mirrored is not None:
        mirrored = choice.em_mirrored
    notes = list(notes)
    result = replace(calibration, em_mirrored=mirrored)
    if mirrored and not choice.keep_mirrored:
        result = result.mirrored()
        notes.append("beads had been mirrored left to right for EM gain: undone")
    source = {"program": program, "file": path.name, "sha256": file_sha256(path)}
    if notes:
        source["notes"] = "; ".join(notes)
    light = light_in_focus(result)
    if not _LIGHT[0] < light < _LIGHT[1]:
        raise InputError(
            f"{path}: an emitter in focus has {light:.3g} times its light in this PSF, "
            f"and photons would be wrong by that; scale the coefficients to a sum of "
            f"about 1 in focus, or calibrate the beads again"
        )
    quality = {"light_in_focus": light}
    return replace(
        result,
        source={**source, **calibration.source},
        quality={**calibration.quality, **quality},
    )
