"""SMAP's localization files (`_sml.mat`), read and written.

SMAP (doi:10.1038/s41592-020-0938-1) keeps a struct `saveloc` with `loc`, columns of
localizations in nm, and `file`, of which `info` says the pixel size in um. Written is
MATLAB's v7.3, which is HDF5: of what SMAP opens it is the one that asks nothing. Its
import of other HDF5 and of CSV asks for the names of the columns and the pixel size,
and takes a Picasso file to have pixels of 100 nm.

SMAP drops localizations whose `locprecnm` is not known or above 250 nm when it opens a
file; where it is not known, the theoretical precision stands in. SMAP ignores the
variable `blinkloop`, which keeps the settings that made the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import blinkloop
from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.formats.columns import (
    extent_px,
    is_3d,
    kept_meta,
    pixel_meta,
    pixel_sizes_nm,
    plain_meta,
    psf_sigmas_px,
    with_bound,
)
from blinkloop.integrations.formats.files import whole_files
from blinkloop.integrations.formats.programs import SMAP, table_of
from blinkloop.schema import LocalizationTable

__all__ = ["is_smap", "read_smap", "read_smap_v5", "write_smap"]

_OURS = "blinkloop"
_HEADER = 512
"""Bytes before the HDF5 part of a v7.3 file; its first 128 say what it is."""


def is_smap(file: Any) -> bool:
    """Whether an open HDF5 file is a localization file of SMAP (`_sml.mat`, v7.3)."""
    return "saveloc" in file and "loc" in file["saveloc"]


def read_smap(
    file: Any, path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read SMAP's localizations from an open HDF5 file.

    Raises
    ------
    InputError
        When they have no positions, or the pixel size is not known.
    """
    loc = file["saveloc"]["loc"]
    columns = {
        ours: np.asarray(loc[theirs][...], np.float64).ravel()
        for ours, theirs in SMAP.columns.items()
        # An empty array is kept as its size, which would be taken for values.
        if theirs in loc and "MATLAB_empty" not in loc[theirs].attrs
    }
    if "MATLAB_empty" in getattr(loc.get("frame"), "attrs", {}):
        columns = {ours: np.zeros(0) for ours in ("frame", "x", "y")}
    meta: dict[str, Any] = {}
    try:
        size = file["saveloc"]["file"]["info"]["cam_pixelsize_um"][...]
        meta = _meta_of_um(np.asarray(size, np.float64).ravel())
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # several files, or an old version: the person says it
    table = table_of(path.name, SMAP, columns, meta, pixel_size_nm)
    if _OURS not in file:
        return table
    text = "".join(map(chr, np.asarray(file[_OURS][...]).ravel()))
    return kept_meta(table, text, pixel_size_nm)


def read_smap_v5(path: Path, pixel_size_nm: float | None = None) -> LocalizationTable:
    """Read SMAP's localizations from a .mat file older than v7.3.

    Raises
    ------
    InputError
        When it is another .mat file, or as `read_smap`.
    """
    scipy_io = require("scipy.io", "Reading MATLAB files", "train")
    try:
        inside = scipy_io.loadmat(path, squeeze_me=True, struct_as_record=False)
        loc = inside["saveloc"].loc
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise InputError(
            f"{path.name} holds no localizations of SMAP (a struct saveloc.loc); give "
            f"a file that SMAP saved (_sml.mat)"
        ) from error
    columns = {
        ours: np.atleast_1d(np.asarray(getattr(loc, theirs), np.float64))
        for ours, theirs in SMAP.columns.items()
        if hasattr(loc, theirs)
    }
    meta: dict[str, Any] = {}
    try:
        first = np.atleast_1d(inside["saveloc"].file)[0]
        meta = _meta_of_um(np.atleast_1d(first.info.cam_pixelsize_um))
    except (AttributeError, TypeError, ValueError, IndexError):
        pass
    return table_of(path.name, SMAP, columns, meta, pixel_size_nm)


def write_smap(
    table: LocalizationTable,
    path: Path,
    *,
    pixel_size_nm: float | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a table as SMAP saves one; returns the file written.

    Parameters
    ----------
    table
        Localizations. A 2D table gets no heights.
    path
        File to write; SMAP is surest of names that end in `_sml.mat`.
    pixel_size_nm
        In place of what the table says.
    overwrite
        Allow replacing the file.

    Raises
    ------
    InputError
        When the file exists or the pixel size is not known.
    """
    h5py = require("h5py", "Tables for SMAP", "io")
    pixel = pixel_sizes_nm(table.meta, pixel_size_nm, path.name)
    width, height = extent_px(table)
    frames = table.meta.get("frames") or (
        int(table.data["frame"].max()) + 1 if len(table) else 0
    )
    file = {
        "info": {
            "Width": float(width),
            "Height": float(height),
            "roi": np.array([0.0, 0.0, width, height]),
            "cam_pixelsize_um": np.array(pixel) / 1e3,
            "numberOfFrames": float(frames),
            "filename": path.name,
            "comment": f"written by blinkloop {blinkloop.__version__}",
        },
        "average": np.zeros((0, 0)),
        "name": path.name,
        "number": 1.0,
        "numberOfTif": 0.0,
        "tif": {"image": np.zeros((0, 0)), "info": np.zeros((0, 0))},
        "raw": {"image": np.zeros((0, 0)), "frame": np.zeros((0, 0))},
    }
    meta = plain_meta({**table.meta, **pixel_meta(*pixel)})
    variables = {
        "saveloc": {"loc": _columns(table, pixel), "file": file},
        _OURS: json.dumps(meta),
    }
    with whole_files((path,), overwrite=overwrite) as (target,):
        with h5py.File(target, "w", userblock_size=_HEADER) as out:
            for name, value in variables.items():
                _put(out, name, value)
        text = b"MATLAB 7.3 MAT-file, written by blinkloop, HDF5 schema 1.00 ."
        with target.open("r+b") as raw:
            # Then where a subsystem is (nowhere), the version, the order of bytes.
            raw.write(text.ljust(116) + bytes(8) + b"\x00\x02IM")
    return (path,)


def _columns(
    table: LocalizationTable, pixel: tuple[float, float]
) -> dict[str, npt.NDArray[Any]]:
    """SMAP's columns; single precision and frames in double, as SMAP keeps them."""
    data, count = table.data, len(table)
    widths = psf_sigmas_px(table)
    sigmas = [
        with_bound(
            data[f"{axis}_sigma_px"],
            np.ones(count) if widths is None else widths[i],
            np.nan_to_num(data["photons"].astype(np.float64)),
            np.nan_to_num(data["background_photons"].astype(np.float64)),
        )[0]
        * pixel[i]
        for i, axis in enumerate("xy")
    ]
    columns = {
        "xnm": (data["x_px"] + SMAP.first_px) * pixel[0],
        "ynm": (data["y_px"] + SMAP.first_px) * pixel[1],
        "phot": data["photons"],
        "photerr": data["photons_sigma"],
        "bg": data["background_photons"],
        "locprecnm": np.hypot(*sigmas) / np.sqrt(2),
        "xnmerr": data["x_sigma_px"] * pixel[0],
        "ynmerr": data["y_sigma_px"] * pixel[1],
        "prob": data["prob"],
        "filenumber": np.ones(count),
        "channel": np.zeros(count),
    }
    if is_3d(table):
        columns |= {"znm": data["z_nm"], "locprecznm": data["z_sigma_nm"]}
    if widths is not None:
        columns |= {"PSFxnm": widths[0] * pixel[0], "PSFynm": widths[1] * pixel[1]}
    single = {name: values.astype(np.float32) for name, values in columns.items()}
    # Of an (n, 1) array of MATLAB HDF5 sees the transpose.
    frames = (data["frame"] + SMAP.first_frame).astype(np.float64)
    return {name: v[None, :] for name, v in {"frame": frames, **single}.items()}


def _put(group: Any, name: str, value: Any) -> None:
    """Keep a value as MATLAB does: its class beside it, text as numbers of letters."""
    kind = "double"
    if isinstance(value, Mapping):
        inside = group.create_group(name)
        inside.attrs["MATLAB_class"] = np.bytes_("struct")
        for key, part in value.items():
            _put(inside, key, part)
        return
    if isinstance(value, str):
        kind, value = "char", np.frombuffer(value.encode("utf-16-le"), "<u2")[:, None]
    value = np.atleast_1d(value)
    if value.ndim == 1:
        value = value[:, None]
    if value.dtype == np.float32:
        kind = "single"
    if value.size:
        stored = group.create_dataset(name, data=value)
    else:
        # Of an empty array its size is kept, as MATLAB counts axes.
        stored = group.create_dataset(name, data=np.array(value.shape[::-1], "<u8"))
        stored.attrs["MATLAB_empty"] = np.uint8(1)
    stored.attrs["MATLAB_class"] = np.bytes_(kind)
    if kind == "char":
        stored.attrs["MATLAB_int_decode"] = np.int32(2)


def _meta_of_um(size_um: npt.NDArray[np.float64]) -> dict[str, Any]:
    x, y = float(size_um[0]) * 1e3, float(size_um[-1]) * 1e3
    return pixel_meta(x, y) if 0 < x < 1e5 and 0 < y < 1e5 else {}
