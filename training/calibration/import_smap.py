"""SMAP's cubic-spline calibrations, `*_3dcal.mat`.

What is read, as SMAP writes it (github.com/jries/SMAP, fit3Dcspline/calibrate3D_g.m)
and official DECODE reads it (decode/utils/calibration_io.py): `SXY`, an array of
structs (regions of the field of view), of each `cspline` {coeff, dz, x0, z0, mirror,
normf, isEM} and `EMon`; or `cspline` / `cspline_psf_model` alone; and of `parameters`
`emmirror` and `pixelsize`.

The first axis of `coeff` is the first image axis, i.e. rows. x0 and z0 count from 1,
but SMAP's fitter and DECODE use z0 as a coordinate from 0 and so does this reader: the
z of an imported calibration is official DECODE's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._axes import flip_columns, flip_rows, swap_xy
from blinkloop.training.calibration._import import Choice, finish, pick, pixel_size
from blinkloop.training.calibration._matlab import number, read_variables

__all__ = ["read_smap"]

_NAMES = ("SXY", "cspline", "cspline_psf_model", "parameters")


def read_smap(path: Path, choice: Choice) -> PsfCalibration:
    """Read a `*_3dcal.mat`.

    Raises
    ------
    InputError
        When the file holds no such calibration, or not the one asked for.
    """
    found = read_variables(path, _NAMES)
    notes: list[str] = []
    entry, spline = _spline(path, found, choice, notes)
    channels = _coefficient_arrays(path, spline.get("coeff"))
    raw = pick(path, channels, choice.channel, "channel", notes)
    n = _square(path, raw)
    dz, x0, z0 = (number(spline.get(name)) for name in ("dz", "x0", "z0"))
    if dz is None or z0 is None:
        raise InputError(
            f"{path}: cspline has no single number dz and z0 (fields: "
            f"{', '.join(sorted(spline))}); calibrate the beads again"
        )
    if x0 is None:
        # Where SMAP's fitter puts the emitter when nobody says.
        x0 = float(n // 2 + 1)
        notes.append(f"no x0 in the file: {x0:g} (the middle) taken")
    parameters = _one(found.get("parameters"))
    flipped = _em_flipped(entry, spline, parameters)
    psf = PsfCalibration(
        coefficients=swap_xy(raw),
        reference=(x0 - 1, x0 - 1, z0),
        dz_nm=dz,
        pixel_size_nm=pixel_size(path, choice.pixel_size_nm, *_pixel_nm(parameters)),
        z_range_nm=((z0 - raw.shape[2]) * dz, z0 * dz),
    )
    if choice.channel:
        # SMAP turns the other channels as the first one is: back to the camera's way.
        mirror = number(spline.get("mirror")) or 0
        psf = {0: _same, 1: flip_columns, 2: flip_rows}.get(int(mirror), _same)(psf)
    return finish(path, psf, choice, program="SMAP", mirrored=flipped, notes=notes)


def _same(calibration: PsfCalibration) -> PsfCalibration:
    return calibration


def _spline(
    path: Path, found: dict[str, Any], choice: Choice, notes: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(SXY entry or nothing, cspline)."""
    if isinstance(found.get("SXY"), list):
        # A struct array, or a cell of structs.
        entries = [
            item if isinstance(item, dict) else _one(item) for item in found["SXY"]
        ]
        regions = [entry for entry in entries if _one(entry.get("cspline"))]
        if regions:
            entry: dict[str, Any] = pick(path, regions, choice.region, "region", notes)
            return entry, _one(entry["cspline"])
    for name in ("cspline", "cspline_psf_model"):
        if _one(found.get(name)):
            return {}, _one(found[name])
    raise InputError(
        f"{path}: no cubic spline in this MATLAB file (neither SXY.cspline nor "
        "cspline); choose the *_3dcal.mat that SMAP's bead calibration wrote"
    )


def _one(value: Any) -> dict[str, Any]:
    """The first struct of a struct array, or nothing."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return value[0]
    return {}


def _coefficient_arrays(path: Path, value: Any) -> list[npt.NDArray[Any]]:
    """The array, or those of a cell."""
    arrays = value if isinstance(value, list) else [value]
    good = [a for a in arrays if isinstance(a, np.ndarray) and a.size]
    if not good or len(good) != len(arrays):
        raise InputError(
            f"{path}: cspline.coeff is neither an array nor a cell of arrays; "
            "calibrate the beads again"
        )
    return good


def _square(path: Path, coefficients: npt.NDArray[Any]) -> int:
    shape = coefficients.shape
    if len(shape) == 3 and shape[2] == 64:
        raise InputError(
            f"{path}: cspline.coeff has the shape {shape}: one slice only; a PSF needs "
            "a z stack of beads"
        )
    if len(shape) != 4 or shape[3] != 64:
        raise InputError(
            f"{path}: cspline.coeff has the shape {shape}, not (n, n, slices, 64); "
            "calibrate the beads again"
        )
    if shape[0] != shape[1]:
        raise InputError(
            f"{path}: cspline.coeff has the shape {shape}, but one x0 places the "
            "emitter on both axes, so they must be equally long; calibrate with "
            "a square ROI"
        )
    return int(shape[0])


def _em_flipped(
    entry: dict[str, Any], spline: dict[str, Any], parameters: dict[str, Any]
) -> bool:
    """Whether the beads were mirrored left to right before the spline was made.

    `readbeadimages.m` mirrors for parameters.emmirror = 3, and for 1 when the metadata
    say EM gain; 0 and 2 never. What it did is saved as SXY.EMon. Without emmirror
    nothing was mirrored, unless an old cspline says isEM.
    """
    asked, done = number(parameters.get("emmirror")), number(entry.get("EMon"))
    if asked is None:
        return bool(number(spline.get("isEM")) or 0)
    return asked in (1, 3) if done is None else bool(done)


def _pixel_nm(parameters: dict[str, Any]) -> tuple[float, ...]:
    """parameters.pixelsize, in um (a cell of one array per file), as (x, y) in nm."""
    value = parameters.get("pixelsize")
    while isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, np.ndarray) or value.size not in (1, 2):
        return ()
    sizes = [float(size) for size in value.ravel()]
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        return ()
    # Nobody's pixel is 10 um in the sample: larger numbers are nm already.
    return tuple(size * 1000.0 if size < 10 else size for size in sizes)
