"""Text tables of further programs, and SMAP's .mat, read only.

A program is a row: which columns say that it is its table, what they are called, and
where its counting starts. Positions are in nm. SMAP (doi:10.1038/s41592-020-0938-1)
counts pixels as MATLAB does: the centre of the first pixel is at 1 px, the first frame
is 1. The others are taken from the outer corner of the first pixel, as the SMLM
challenge (doi:10.1038/s41592-019-0364-4) and ThunderSTORM do; of Elyra, Nanoimager and
rapidSTORM this is an assumption.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.formats.columns import (
    blank_rows,
    frames_from_zero,
    pixel_sizes_nm,
    refuse_blank,
)
from blinkloop.schema import LocalizationTable

__all__ = ["is_smap", "known_program", "read_other_text", "read_smap", "read_smap_v5"]

_FIELDS = {
    "frame": "frame",
    "z_nm": "z",
    "photons": "photons",
    "background_photons": "background",
    "z_sigma_nm": "z_sigma",
    "prob": "prob",
}


@dataclass(frozen=True, slots=True)
class _Program:
    """One row. `columns`: what we call it -> its name, lower case.

    `first_frame` and `first_px`: number of the first frame, and place of the centre of
    the first pixel in px.
    """

    name: str
    columns: Mapping[str, str]
    first_frame: int
    first_px: float


_SMAP = _Program(
    "SMAP",
    {
        "frame": "frame",
        "x": "xnm",
        "y": "ynm",
        "z": "znm",
        "photons": "phot",
        "background": "bg",
        "sigma": "locprecnm",
        "z_sigma": "locprecznm",
        "prob": "prob",
    },
    1,
    1.0,
)
_PROGRAMS = (
    _SMAP,
    _Program(
        "SMLM challenge",
        {
            "frame": "frame",
            "x": "xnano",
            "y": "ynano",
            "z": "znano",
            "photons": "intensity",
        },
        1,
        0.5,
    ),
    _Program(
        "Nanoimager",
        {
            "frame": "frame",
            "x": "x (nm)",
            "y": "y (nm)",
            "z": "z (nm)",
            "photons": "photons",
            "background": "background",
        },
        0,
        0.5,
    ),
    _Program(
        "Zeiss Elyra",
        {
            "frame": "first frame",
            "x": "position x [nm]",
            "y": "position y [nm]",
            "z": "position z [nm]",
            "photons": "number photons",
            "sigma": "precision [nm]",
        },
        1,
        0.5,
    ),
    _Program(
        "rapidSTORM",
        {
            "frame": "imagenumber-0-0",
            "x": "position-0-0",
            "y": "position-1-0",
            "z": "position-2-0",
        },
        0,
        0.5,
    ),
)


def known_program(path: Path) -> str | None:
    """Name of the program whose text table it is; None when none of these."""
    found = _recognise(path)
    return None if found is None else found[0].name


def read_other_text(
    path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read a text table for which `known_program` has a name.

    Raises
    ------
    InputError
        When rows do not fit the header, or the pixel size is not known.
    """
    found = _recognise(path)
    if found is None:
        raise InputError(f"{path.name} is not a table of a known program")
    program, names, delimiter = found
    rows: list[list[str]] = []
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter=delimiter)):
            cells = [cell for cell in row if cell] if delimiter == " " else row
            if not cells:
                continue
            # Elyra writes its settings below the table.
            if number and delimiter == "\t" and np.isnan(_number(cells[0])):
                break
            if number:
                rows.append(cells)
    wrong = next((i for i, row in enumerate(rows) if len(row) < len(names)), None)
    if wrong is not None:
        raise InputError(
            f"{path.name}: row {wrong + 2} has {len(rows[wrong])} cells, the header "
            f"names {len(names)}; the file is damaged"
        )
    columns: dict[str, npt.NDArray[np.float64]] = {}
    for ours, theirs in program.columns.items():
        if theirs in names:
            at = names.index(theirs)
            columns[ours] = np.array([_number(row[at]) for row in rows], np.float64)
    for ours in ("frame", "x", "y"):
        refuse_blank(columns[ours], program.columns[ours], path.name)
    return _table(path, program, columns, {}, pixel_size_nm)


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
        for ours, theirs in _SMAP.columns.items()
        if theirs in loc
    }
    meta: dict[str, Any] = {}
    try:
        size = file["saveloc"]["file"]["info"]["cam_pixelsize_um"][...]
        meta = _pixel_meta(np.asarray(size, np.float64).ravel())
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # several files, or an old version: the person says it
    return _table(path, _SMAP, columns, meta, pixel_size_nm)


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
        for ours, theirs in _SMAP.columns.items()
        if hasattr(loc, theirs)
    }
    meta: dict[str, Any] = {}
    try:
        first = np.atleast_1d(inside["saveloc"].file)[0]
        meta = _pixel_meta(np.atleast_1d(first.info.cam_pixelsize_um))
    except (AttributeError, TypeError, ValueError, IndexError):
        pass
    return _table(path, _SMAP, columns, meta, pixel_size_nm)


def _pixel_meta(size_um: npt.NDArray[np.float64]) -> dict[str, Any]:
    x, y = float(size_um[0]) * 1e3, float(size_um[-1]) * 1e3
    if not (0 < x < 1e5 and 0 < y < 1e5):
        return {}
    meta: dict[str, Any] = {"pixel_size_nm": x}
    return meta if x == y else meta | {"pixel_size_xy_nm": [x, y]}


def _recognise(path: Path) -> tuple[_Program, list[str], str] | None:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            line = file.readline(65536).strip()
    except OSError:
        return None
    if line.startswith("#") and "<localizations" in line:
        return _named(re.findall(r'identifier="([^"]+)"', line), " ")
    for delimiter in (",", "\t", ";"):
        cells = next(csv.reader([line], delimiter=delimiter), [])
        if (found := _named(cells, delimiter)) is not None:
            return found
    return None


def _named(
    cells: Sequence[str], delimiter: str
) -> tuple[_Program, list[str], str] | None:
    names = [cell.strip().strip('"').lower() for cell in cells]
    for program in _PROGRAMS:
        if all(program.columns[ours] in names for ours in ("frame", "x", "y")):
            return program, names, delimiter
    return None


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def _table(
    path: Path,
    program: _Program,
    columns: Mapping[str, npt.NDArray[np.float64]],
    meta: dict[str, Any],
    pixel_size_nm: float | None,
) -> LocalizationTable:
    missing = [ours for ours in ("frame", "x", "y") if ours not in columns]
    if missing:
        raise InputError(
            f"{path.name}: the table of {program.name} has no column "
            f"{program.columns[missing[0]]}"
        )
    count = len(columns["frame"])
    short = [ours for ours, values in columns.items() if len(values) != count]
    if short or not np.all(np.isfinite(columns["frame"])):
        what = program.columns[short[0] if short else "frame"]
        raise InputError(
            f"{path.name}: the column {what} has cells without a number, or is shorter "
            f"than the others; the file is damaged"
        )
    pixel = pixel_sizes_nm(meta, pixel_size_nm, path.name)
    rows = blank_rows(count)
    for field, ours in _FIELDS.items():
        if ours in columns:
            rows[field] = columns[ours]
    rows["frame"] = frames_from_zero(columns["frame"], program.first_frame, path.name)
    for axis, size in zip("xy", pixel, strict=True):
        rows[f"{axis}_px"] = columns[axis] / size - program.first_px
        if "sigma" in columns:
            rows[f"{axis}_sigma_px"] = columns["sigma"] / size
    meta = {"pixel_size_nm": pixel[0], "generated_by": program.name}
    if pixel[0] != pixel[1]:
        meta["pixel_size_xy_nm"] = list(pixel)
    meta["three_dimensional"] = bool(np.any(columns.get("z", np.zeros(1)) != 0))
    return LocalizationTable(rows, meta)
