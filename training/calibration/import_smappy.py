"""SMAPpy's own spline calibrations, `.h5` (github.com/ries-lab/SMAPpy, 0.4).

What is read: the attributes `format` (smappy-spline-calibration, version 1; or
smappy-dual-color-calibration with the groups main and secondary), `dz` in nm, `z0`,
`em_mirror`, and `coeff` (64, z, y, x) with index 16 pz + 4 py + px. Its fitter puts the
emitter at voxel n // 2 of each lateral axis and z = -(index - z0) dz; `x0` is not used,
because it counts from 1 or from 0 depending on where the calibration came from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._import import Choice, finish, pick, pixel_size

__all__ = ["is_smappy", "read_smappy"]

_SINGLE = "smappy-spline-calibration"
_DUAL = "smappy-dual-color-calibration"


def is_smappy(file: Any) -> bool:
    """Whether an open HDF5 file is a calibration of SMAPpy."""
    return _text(file.attrs.get("format", "")) in (_SINGLE, _DUAL)


def read_smappy(path: Path, choice: Choice) -> PsfCalibration:
    """Read a calibration of SMAPpy.

    Raises
    ------
    InputError
        When it is of another version, or incomplete.
    """
    h5py = extras.require("h5py", "Reading SMAPpy files", "train")
    notes: list[str] = []
    with h5py.File(path, "r") as file:
        version = file.attrs.get("version")
        if version != 1:
            raise InputError(
                f"{path}: SMAPpy calibration of version {version}, this program reads "
                "1; update blinkloop"
            )
        groups = [file]
        if _text(file.attrs["format"]) == _DUAL:
            groups = [file[name] for name in ("main", "secondary") if name in file]
        group = pick(path, groups, choice.channel, "channel", notes)
        if "coeff" not in group or "dz" not in group.attrs or "z0" not in group.attrs:
            raise InputError(
                f"{path}: SMAPpy calibration without coeff, dz or z0; calibrate again"
            )
        stored = np.asarray(group["coeff"][()])
        dz, z0 = float(group.attrs["dz"]), float(group.attrs["z0"])
        mirrored = bool(group.attrs.get("em_mirror", False))
        known = _pixel_nm(group)
    if stored.ndim != 4 or stored.shape[0] != 64:
        raise InputError(
            f"{path}: coeff has the shape {stored.shape}, not (64, z, y, x); calibrate "
            "again"
        )
    ours = np.ascontiguousarray(stored.transpose(3, 2, 1, 0), np.float32)
    x, y, slices, _ = ours.shape
    psf = PsfCalibration(
        coefficients=ours,
        reference=(float(x // 2), float(y // 2), z0),
        dz_nm=dz,
        pixel_size_nm=pixel_size(path, choice.pixel_size_nm, *known),
        z_range_nm=((z0 - slices) * dz, z0 * dz),
    )
    return finish(path, psf, choice, program="SMAPpy", mirrored=mirrored, notes=notes)


def _pixel_nm(group: Any) -> list[float]:
    """Of a PSF that SMAPpy took from uiPSF: parameters.pixel_size_um {x, y, z}."""
    if "parameters_json" not in group:
        return []
    parameters = json.loads(_text(group["parameters_json"][()]))
    sizes = parameters.get("pixel_size_um") if isinstance(parameters, dict) else None
    if not isinstance(sizes, dict):
        return []
    return [1000.0 * float(sizes[name]) for name in ("x", "y") if name in sizes]


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
