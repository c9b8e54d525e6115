"""ThunderSTORM's astigmatic 3D calibrations, YAML (github.com/zitmen/thunderstorm).

What is read (its package `calibration`, 1.0 to 1.3): a document tagged
`PolynomialCalibration`, widths b + a (z - c)^2 + d (z - c)^3, or `DaostormCalibration`,
w0 / 2 sqrt(1 + t^2 + a t^3 + b t^4) with t = (z - c) / d; `a1` ... `d1`, `w01` of the
axis at `angle` (radians), `a2` ... across it. Widths are SD in px of a Gaussian sampled
in the middle of the pixels, z in nm counts up with the slices, 0 where the curves
cross. The calibrated range is not in the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._import import Choice, pick
from blinkloop.training.calibration._widths import (
    Curve,
    Widths,
    defocused,
    gaussian_psf,
    sensible_range,
)

__all__ = ["is_thunderstorm", "read_thunderstorm"]

_TAG = "ThunderSTORM.calibration."
_POLYNOMIAL, _ROOT = "PolynomialCalibration", "DaostormCalibration"
_LARGEST_TEXT = 1 << 20
_LEAST_NM = 200.0


def is_thunderstorm(path: Path) -> bool:
    """Whether a file is one of ThunderSTORM's calibrations."""
    with path.open("rb") as file:
        return _TAG.encode() in file.read(4096)


def read_thunderstorm(path: Path, choice: Choice) -> PsfCalibration:
    """Read a 3D calibration of ThunderSTORM.

    Raises
    ------
    InputError
        When a field is missing or the curves describe no PSF.
    """
    planes = _planes(path)
    notes: list[str] = []
    model, values = pick(path, planes, choice.channel, "channel", notes)
    first, second = (_curve(path, model, values, axis) for axis in "12")
    widths = Widths(first, second, angle=_number(path, values, "angle"))
    # Its own estimates reach as far on both sides as the two foci lie apart.
    reach = abs(_number(path, values, "c1")) + abs(_number(path, values, "c2"))
    reach = max(reach, _LEAST_NM)
    low, high = sensible_range(path, widths, -reach, reach)
    notes.append(
        f"the file does not say which heights were calibrated: {low:.0f} to {high:.0f} "
        f"nm are taken, the distance of the two foci on both sides"
    )
    return gaussian_psf(
        path, widths, (low, high), choice, program="ThunderSTORM", notes=notes
    )


def _planes(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Model and fields of each plane: two documents for a biplane microscope.

    Tags name Java classes. They are read as text; nothing is constructed from them.
    """
    yaml = extras.require("yaml", "Reading ThunderSTORM calibrations", "train")
    documents = []
    if path.stat().st_size <= _LARGEST_TEXT:
        try:
            text = path.read_text(encoding="utf-8")
            documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            first = str(error).splitlines()[0]
            raise InputError(
                f"{path}: a calibration of ThunderSTORM that cannot be read as YAML "
                f"({first}); copy it again"
            ) from error
    planes = []
    for node in documents:
        model = str(getattr(node, "tag", "")).rpartition(".")[2]
        if model in (_POLYNOMIAL, _ROOT) and isinstance(node.value, list):
            fields = {str(key.value): item.value for key, item in node.value}
            planes.append((model, fields))
    if not planes:
        raise InputError(
            f"{path}: a file of ThunderSTORM without a {_POLYNOMIAL} or a {_ROOT}, of "
            f"which a PSF could be made; give its 3D calibration, or "
            f"give the bead stack"
        )
    return planes


def _curve(path: Path, model: str, values: dict[str, Any], axis: str) -> Curve:
    """SD in px along axis "1" or "2"."""
    a, b, c = (_number(path, values, name + axis) for name in "abc")
    if model == _POLYNOMIAL:
        # Files of version 1.0 have no third power.
        d = _number(path, values, f"d{axis}", 0.0)

        def parabola(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return b + a * (z - c) ** 2 + d * (z - c) ** 3

        return parabola
    d, w = _number(path, values, f"d{axis}"), _number(path, values, f"w0{axis}")
    if d == 0:
        raise InputError(
            f"{path}: d{axis} is 0, and z is divided by it; calibrate again"
        )
    return lambda z: w / 2 * defocused(z, c, d, a, b)


def _number(
    path: Path, values: dict[str, Any], name: str, missing: float | None = None
) -> float:
    text = values.get(name)
    if text is None and missing is not None:
        return missing
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = float("nan")
    if not np.isfinite(number):
        raise InputError(
            f"{path}: {name!r} must be a number, got {text!r}; calibrate again in "
            f"ThunderSTORM"
        )
    return number
