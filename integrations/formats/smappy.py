"""SMAPpy's HDF5 tables (github.com/ries-lab/SMAPpy), read only.

A file with the attribute `format` = smappy-localizations, version 1: a group `locs` of
columns in nm, and in the attribute `metadata` (JSON) `pixelsize_nm`, one number or x
and y. 0 nm is the centre of the chip's first pixel, frames count from 0, as ours
(tried: SMAPpy 0.4.1 on drawn spots). A table that SMAPpy read from another program
keeps that one's origin.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import (
    blank_rows,
    frames_from_zero,
    pixel_meta,
    pixel_sizes_nm,
    refuse_blank,
    text_of,
)
from blinkloop.schema import LocalizationTable

__all__ = ["is_smappy", "read_smappy"]

_FORMAT, _VERSION = "smappy-localizations", 1
_COLUMNS = {
    "z_nm": "z_nm",
    "photons": "photons",
    "photons_sigma": "photons_err",
    "background_photons": "background",
    "z_sigma_nm": "z_err_nm",
}


def is_smappy(file: Any) -> bool:
    """Whether an open HDF5 file holds a table of SMAPpy."""
    return text_of(file.attrs.get("format", "")) == _FORMAT


def read_smappy(
    file: Any, path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read a table from an open HDF5 file.

    Raises
    ------
    InputError
        When it is of another version, lacks columns, or the pixel size is not known.
    """
    version = file.attrs.get("format_version")
    if version != _VERSION:
        raise InputError(
            f"{path.name}: a table of SMAPpy of version {version}, this program reads "
            f"{_VERSION}; update blinkloop, or export it as .csv"
        )
    columns = {
        name: np.asarray(values[...], np.float64)
        for name, values in file.get("locs", {}).items()
    }
    if not columns and not file.attrs.get("n_localizations"):
        # Nothing was found: SMAPpy makes columns with the first localization.
        columns = {name: np.zeros(0) for name in ("frame", "x_nm", "y_nm")}
    for name in ("frame", "x_nm", "y_nm"):
        if name not in columns:
            raise InputError(
                f"{path.name}: the table of SMAPpy has no column {name} (it has "
                f"{', '.join(columns)[:200] or 'none'})"
            )
        refuse_blank(columns[name], name, path.name)
    count = len(columns["frame"])
    short = next((name for name, v in columns.items() if v.shape != (count,)), None)
    if short is not None:
        raise InputError(
            f"{path.name}: the column {short} is not as long as the others; was SMAPpy "
            f"stopped while it wrote? Fit again"
        )
    size = _facts(file).get("pixelsize_nm")
    said = {"pixel_size_xy_nm" if isinstance(size, list) else "pixel_size_nm": size}
    pixel = pixel_sizes_nm(said, pixel_size_nm, path.name)
    rows = blank_rows(count)
    rows["frame"] = frames_from_zero(columns["frame"], 0, path.name)
    for axis, nm in zip("xy", pixel, strict=True):
        rows[f"{axis}_px"] = columns[f"{axis}_nm"] / nm
        for name in ("xy_err_nm", f"{axis}_err_nm"):
            if name in columns:
                rows[f"{axis}_sigma_px"] = columns[name] / nm
    for ours, theirs in _COLUMNS.items():
        if theirs in columns:
            rows[ours] = columns[theirs]
    meta = {**pixel_meta(*pixel), "generated_by": "SMAPpy"}
    meta["three_dimensional"] = "z_nm" in columns
    return LocalizationTable(rows, meta)


def _facts(file: Any) -> dict[str, Any]:
    try:
        found = json.loads(text_of(file.attrs.get("metadata", "{}")))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
