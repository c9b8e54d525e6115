"""PSFs learnt by uiPSF, `.h5` (Liu et al. 2024, doi:10.1038/s41592-024-02282-x).

What is read (github.com/ries-lab/uiPSF, psflearning/psflearninglib.py and its
"Description of output parameters"): the attribute `params` (JSON: pixel_size in um,
PSFtype, channeltype, swapxy, dual.mirrortype), `res/I_model` (z, y, x) or
`res/channelN/I_model`, and where that is missing `locres/coeff` (64, z, y, x).

The samples are splined here: negative values are set to 0 and the brightest plane to a
sum of 1. z counts from the middle slice. Planes of an `insitu` model run upwards, those
of beads downwards in the emitter's z, so the former are reversed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError
from blinkloop.psf_file import PsfCalibration
from blinkloop.training.calibration._axes import flip_columns, flip_rows, transposed
from blinkloop.training.calibration._import import Choice, finish, pick, pixel_size
from blinkloop.training.calibration.spline_fit import spline_coefficients

__all__ = ["is_uipsf", "read_uipsf"]


def is_uipsf(file: Any) -> bool:
    """Whether an open HDF5 file is a result of uiPSF."""
    return "params" in file.attrs and ("res" in file or "locres" in file)


def read_uipsf(path: Path, choice: Choice) -> PsfCalibration:
    """Read a result of uiPSF.

    Raises
    ------
    InputError
        When the file holds no PSF of a single emitter, e.g. a 4Pi one.
    """
    h5py = extras.require("h5py", "Reading uiPSF files", "train")
    notes: list[str] = []
    with h5py.File(path, "r") as file:
        params = _params(path, file)
        if params.get("channeltype") == "4pi":
            raise InputError(
                f"{path}: a 4Pi model, whose PSF depends on an interference phase; "
                "blinkloop draws single-objective PSFs only"
            )
        coefficients, reference = _model(path, file, choice, params, notes)
    sizes = params.get("pixel_size", {})
    if "z" not in sizes:
        raise InputError(
            f"{path}: the attribute params has no pixel_size.z, so heights are "
            "unknown; learn the PSF again"
        )
    dz = 1000.0 * float(sizes["z"])
    slices = coefficients.shape[2]
    known = [1000.0 * float(sizes[name]) for name in ("x", "y") if name in sizes]
    psf = PsfCalibration(
        coefficients=coefficients,
        reference=reference,
        dz_nm=dz,
        pixel_size_nm=pixel_size(path, choice.pixel_size_nm, *known),
        z_range_nm=((reference[2] - slices) * dz, reference[2] * dz),
        source={"psf_type": str(params.get("PSFtype", ""))},
    )
    if params.get("swapxy"):
        psf = transposed(psf)
        notes.append("learnt on transposed frames (swapxy): turned back")
    if choice.channel:
        kind = (params.get("dual") or {}).get("mirrortype")
        turn = {"up-down": flip_rows, "left-right": flip_columns}.get(str(kind))
        psf = psf if turn is None else turn(psf)
    return finish(path, psf, choice, program="uiPSF", notes=notes)


def _params(path: Path, file: Any) -> dict[str, Any]:
    text = file.attrs["params"]
    try:
        params = json.loads(text.decode() if isinstance(text, bytes) else str(text))
    except ValueError:
        params = None
    if not isinstance(params, dict):
        raise InputError(
            f"{path}: the attribute params is not uiPSF's JSON; learn the PSF again"
        )
    return params


def _model(
    path: Path, file: Any, choice: Choice, params: dict[str, Any], notes: list[str]
) -> tuple[npt.NDArray[np.float32], tuple[float, float, float]]:
    """Coefficients (X, Y, Z, 64), and the reference."""
    insitu = "insitu" in str(params.get("PSFtype", ""))
    result = file.get("res", {})
    names = sorted((n for n in result if n.startswith("channel")), key=_place)
    if names:
        chosen = pick(path, names, choice.channel, "channel", notes)
        models = [result[chosen]["I_model"]] if "I_model" in result[chosen] else []
    else:
        pick(path, ["res"], choice.channel, "channel", notes)
        models = [result["I_model"]] if "I_model" in result else []
    if models:
        samples = np.asarray(models[0][()])
        if samples.ndim != 3 or np.iscomplexobj(samples):
            raise InputError(
                f"{path}: I_model has the shape {samples.shape} ({samples.dtype}), not "
                "(z, y, x) real numbers; only models of one PSF can be read"
            )
        return _spline(path, samples[::-1] if insitu else samples)
    if "locres" in file and "coeff" in file["locres"]:
        stored = np.asarray(file["locres"]["coeff"][()])
        if stored.ndim == 5:
            stored = stored[choice.channel]
        if stored.ndim == 4 and stored.shape[0] == 64 and not insitu:
            notes.append("no I_model in the file: its own coefficients taken")
            ours = np.ascontiguousarray(stored.transpose(3, 2, 1, 0), np.float32)
            x, y, z, _ = ours.shape
            return ours, (x / 2, y / 2, z / 2)
    raise InputError(
        f"{path}: neither res/I_model nor locres/coeff of a single PSF in this file; "
        "choose the .h5 that uiPSF wrote at the end of learning"
    )


def _place(name: str) -> tuple[int, str]:
    digits = name.removeprefix("channel")
    return (int(digits) if digits.isdigit() else 1 << 30, name)


def _spline(
    path: Path, samples_ZYX: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float32], tuple[float, float, float]]:
    samples = np.maximum(samples_ZYX.astype(np.float64), 0.0)
    brightest = float(samples.sum(axis=(1, 2)).max(initial=0.0))
    if not (np.isfinite(brightest) and brightest > 0):
        raise InputError(f"{path}: I_model holds no light; learn the PSF again")
    ours = spline_coefficients((samples / brightest).transpose(2, 1, 0), closed=True)
    z, y, x = samples.shape
    return ours.astype(np.float32), ((x - 1) / 2, (y - 1) / 2, (z - 1) / 2)
