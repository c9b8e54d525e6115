"""3D-DAOSTORM's z curves, XML (github.com/ZhuangLab/storm-analysis).

What is read of a settings file, or of the part that its calibration prints: `wx_wo`,
`wx_c`, `wx_d`, `wxA` ... `wxD` and `wy...`: width = wo sqrt(1 + t^2 + A t^3 + B t^4 +
C t^5 + D t^6) in nm with t = (z - c) / d, z in nm. A width is twice the SD of a
Gaussian sampled in the middle of the pixels. `pixel_size` in nm; `min_z`, `max_z` in um
(-0.5 and 0.5 when left out).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._import import Choice, pick, pixel_size
from blinkloop.training.calibration._widths import (
    Curve,
    Widths,
    defocused,
    gaussian_psf,
    sensible_range,
)

__all__ = ["is_storm_analysis", "read_storm_analysis"]

_FIRST = "wx_wo"
_MARKUP = (b"<!ENTITY", b"<!DOCTYPE")


def is_storm_analysis(path: Path) -> bool:
    """Whether a file holds the z curves of 3D-DAOSTORM."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<") and (
        b"<" + _FIRST.encode() in head
    )


def read_storm_analysis(path: Path, choice: Choice) -> PsfCalibration:
    """Read the z curves of 3D-DAOSTORM.

    Raises
    ------
    InputError
        When a value is missing, the pixel size is not known, or the curves describe no
        PSF.
    """
    data = path.read_bytes()
    if any(word in data for word in _MARKUP):
        raise InputError(
            f"{path}: XML with definitions of its own, which storm-analysis does not "
            f"write and which are not read; take the DOCTYPE out"
        )
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise InputError(
            f"{path}: settings of storm-analysis that cannot be read as XML ({error}); "
            f"copy the file again"
        ) from error
    pick(path, [root], choice.channel, "channel", [])
    said = root.findtext("pixel_size")
    sizes = [] if said is None else [_number(path, root, "pixel_size")]
    pixel = pixel_size(path, choice.pixel_size_nm, *sizes)
    if pixel is None or not pixel > 0:
        raise InputError(
            f"{path}: widths are in nm and the file says no pixel size; give it with "
            f"--pixel-size-nm (camera pixel / magnification, e.g. 160)"
        )
    first, second = (_curve(path, root, name, pixel) for name in ("wx", "wy"))
    widths = Widths(first, second)
    low, high = (
        1000 * _number(path, root, name, missing)
        for name, missing in (("min_z", -0.5), ("max_z", 0.5))
    )
    return gaussian_psf(
        path,
        widths,
        sensible_range(path, widths, low, high),
        choice,
        program="storm-analysis",
        sizes_nm=sizes,
    )


def _curve(path: Path, root: ElementTree.Element, name: str, pixel: float) -> Curve:
    """SD in px."""
    width, focus, depth = (_number(path, root, f"{name}_{part}") for part in _PARTS)
    terms = [_number(path, root, name + letter, 0.0) for letter in "ABCD"]
    if depth == 0:
        raise InputError(f"{path}: {name}_d is 0, and z is divided by it; correct it")
    return lambda z: width / 2 / pixel * defocused(z, focus, depth, *terms)


_PARTS = ("wo", "c", "d")


def _number(
    path: Path, root: ElementTree.Element, name: str, missing: float | None = None
) -> float:
    text = root.findtext(name)
    if text is None and missing is not None:
        return missing
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise InputError(
            f"{path}: {name} must be a number, got {text!r}; run the calibration of "
            f"storm-analysis again, or add it"
        )
    return number
