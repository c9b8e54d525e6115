"""DECODE tables (doi:10.1038/s41592-021-01236-x): HDF5, and CSV, which is read only.

HDF5 has the groups `data` (columns), `meta` (attributes `xy_unit`: px or nm, `px_size`:
nm, first and second image axis) and `decode` (version). CSV has the same facts in two
comment lines of JSON, version and meta, and columns of one axis each. Its x is the
first image axis, the rows, so x and y change places here; its origin is the centre of
the first pixel, frames count from 0, as ours. A column not used is an empty dataset, or
empty cells.

Written is what `EmitterSet.load` of DECODE 0.10 takes, in single precision as its own:
nothing but `xy_unit` and `px_size` in `meta`, in this order, by which SMAP finds them.
The settings that made the table are a dataset `blinkloop` beside the groups, which
DECODE does not look at. A table without heights has z = 0 there, as DECODE has in 2D.
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
    blank_rows,
    is_3d,
    kept_meta,
    pixel_meta,
    pixel_sizes_nm,
    plain_meta,
    refuse_blank,
    text_of,
)
from blinkloop.integrations.formats.files import whole_files
from blinkloop.integrations.formats.text_cells import numbers, text_head
from blinkloop.schema import LocalizationTable

__all__ = [
    "is_decode",
    "is_decode_csv",
    "read_decode",
    "read_decode_csv",
    "write_decode",
]

_Columns = dict[str, npt.NDArray[Any] | None]
_OURS = "blinkloop"
_CSV = {
    "frame": "frame_ix",
    "x_px": "y",
    "y_px": "x",
    "z_nm": "z",
    "photons": "phot",
    "background_photons": "bg",
    "photons_sigma": "phot_sig",
    "prob": "prob",
    "x_sigma_px": "y_sig",
    "y_sigma_px": "x_sig",
    "z_sigma_nm": "z_sig",
}


def is_decode(file: Any) -> bool:
    """Whether an open HDF5 file holds a DECODE table."""
    return "data" in file and "xyz" in file["data"]


def is_decode_csv(head: bytes) -> bool:
    """Whether a file starts as DECODE writes its CSV tables."""
    return head.removeprefix(b"\xef\xbb\xbf").startswith(b"# DECODE EmitterSet")


def read_decode(
    file: Any, path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read a table from an open HDF5 file.

    Raises
    ------
    InputError
        When columns are missing or differ in length, or positions are in nm and the
        pixel size is not known.
    """
    data = file["data"]
    attributes = dict(file["meta"].attrs) if "meta" in file else {}
    xyz = _column(data, "xyz")
    frame = _column(data, "frame_ix")
    if xyz is None or frame is None or xyz.ndim != 2 or xyz.shape[1] != 3:
        raise InputError(
            f"{path.name}: the DECODE table has no usable columns xyz and frame_ix"
        )
    columns: _Columns = {
        "frame": frame,
        "x_px": xyz[:, 1],
        "y_px": xyz[:, 0],
        "z_nm": xyz[:, 2],
        "photons": _column(data, "phot"),
        "background_photons": _column(data, "bg"),
        "photons_sigma": _column(data, "phot_sig"),
        "prob": _column(data, "prob"),
    }
    sigma = _column(data, "xyz_sig")
    if sigma is not None and sigma.ndim == 2 and sigma.shape[1] == 3:
        columns |= {
            "x_sigma_px": sigma[:, 1],
            "y_sigma_px": sigma[:, 0],
            "z_sigma_nm": sigma[:, 2],
        }
    made = file["decode"].attrs.get("version", "") if "decode" in file else None
    table = _table(path, columns, attributes, pixel_size_nm, made)
    if _OURS not in file:
        return table
    table = kept_meta(table, file[_OURS][()], pixel_size_nm)
    if table.meta.get("three_dimensional") is False:
        table.data["z_nm"] = np.nan
    return table


def write_decode(
    table: LocalizationTable,
    path: Path,
    *,
    pixel_size_nm: float | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a table as DECODE's HDF5; returns the file written.

    Parameters
    ----------
    table
        Localizations.
    path
        File to write.
    pixel_size_nm
        In place of what the table says.
    overwrite
        Allow replacing the file.

    Raises
    ------
    InputError
        When the file exists or the pixel size is not known.
    """
    h5py = require("h5py", "DECODE tables", "io")
    pixel_x, pixel_y = pixel_sizes_nm(table.meta, pixel_size_nm, path.name)
    rows = table.data
    three = is_3d(table)
    z = rows["z_nm"] if three else np.zeros(len(rows))
    sigmas = [rows[name] for name in ("y_sigma_px", "x_sigma_px", "z_sigma_nm")]
    data = {
        "xyz": np.column_stack([rows["y_px"], rows["x_px"], z]),
        "xyz_sig": np.column_stack(sigmas),
        "phot": rows["photons"],
        "phot_sig": rows["photons_sigma"],
        "prob": rows["prob"],
        "bg": rows["background_photons"],
        **dict.fromkeys(("xyz_cr", "phot_cr", "bg_cr", "bg_sig"), np.full(1, np.nan)),
    }
    meta = {**table.meta, **pixel_meta(pixel_x, pixel_y), "three_dimensional": three}
    with (
        whole_files((path,), overwrite=overwrite) as (target,),
        h5py.File(target, "w") as file,
    ):
        kept = file.create_group("data")
        kept["frame_ix"] = rows["frame"].astype(np.int64)
        kept["id"] = np.full(len(rows), -1, np.int64)
        for name, values in data.items():
            # DECODE asks for photons, and takes a stand-in for what is empty.
            empty = name != "phot" and values.size and np.isnan(values).all()
            kept[name] = h5py.Empty("f4") if empty else values.astype(np.float32)
        facts = file.create_group("meta").attrs
        facts["xy_unit"] = "px"
        facts["px_size"] = np.array([pixel_y, pixel_x], np.float32)
        made = f"blinkloop {blinkloop.__version__}, as DECODE 0.10.0"
        file.create_group("decode").attrs["version"] = made
        file[_OURS] = json.dumps(plain_meta(meta))
    return (path,)


def read_decode_csv(
    path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read a CSV table for which `is_decode_csv` holds.

    Raises
    ------
    InputError
        As `read_decode`.
    """
    head = text_head(path)
    missing = [name for name in ("frame_ix", "x", "y", "z") if name not in head.names]
    if missing:
        raise InputError(
            f"{path.name}: the DECODE table has no column {missing[0]} (it has "
            f"{', '.join(head.names)})"
        )
    values = numbers(path, head)
    for name in ("frame_ix", "x", "y"):
        refuse_blank(values[:, head.names.index(name)], name, path.name)
    columns: _Columns = {
        ours: values[:, head.names.index(theirs)]
        for ours, theirs in _CSV.items()
        if theirs in head.names
    }
    version, meta = (_facts(head.comments, line) for line in (1, 2))
    return _table(path, columns, meta, pixel_size_nm, version.get("version", ""))


def _facts(comments: tuple[str, ...], line: int) -> dict[str, Any]:
    try:
        found = json.loads(comments[line])
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _table(
    path: Path,
    columns: _Columns,
    attributes: Mapping[str, Any],
    pixel_size_nm: float | None,
    version: Any,
) -> LocalizationTable:
    """Our table of columns in DECODE's unit; `version` is None when it is not said."""
    meta: dict[str, Any] = {}
    size = attributes.get("px_size")
    if size is not None and np.size(size) == 2 and np.all(np.isfinite(size)):
        first, second = (float(value) for value in np.asarray(size).ravel())
        meta = pixel_meta(second, first)  # x is along the columns
    if pixel_size_nm is not None:
        meta = {"pixel_size_nm": pixel_size_nm}
    x = columns["x_px"]
    count = 0 if x is None else len(x)
    rows = blank_rows(count)
    for name, values in columns.items():
        if values is None:
            continue
        if values.shape != (count,):
            raise InputError(
                f"{path.name}: the column for {name} has {values.shape} values, the "
                f"positions are {count}; the file is damaged"
            )
        rows[name] = values
    if text_of(attributes.get("xy_unit") or "px") == "nm":
        pixel_x, pixel_y = pixel_sizes_nm(meta, pixel_size_nm, path.name)
        for name, pixel in (("x", pixel_x), ("y", pixel_y)):
            rows[f"{name}_px"] /= pixel
            rows[f"{name}_sigma_px"] /= pixel
    if version is not None:
        meta["generated_by"] = f"DECODE {text_of(version)}".strip()
    return LocalizationTable(rows, meta)


def _column(data: Any, name: str) -> npt.NDArray[Any] | None:
    """Values of a column; None when it is absent or an empty dataset."""
    if name not in data or data[name].shape is None:
        return None
    return np.asarray(data[name][...])
