"""Text tables of further programs, and SMAP's .mat, read only.

A program is a row: which columns say that it is its table, what they are called, and
where its counting starts. Positions are in nm. SMAP (doi:10.1038/s41592-020-0938-1)
counts pixels as MATLAB does: the centre of the first pixel is at 1 px, the first frame
is 1. The others are taken from the outer corner of the first pixel, as the SMLM
challenge (doi:10.1038/s41592-019-0364-4) and ThunderSTORM do; of Elyra and Nanoimager
this is an assumption. rapidSTORM (doi:10.1038/nmeth.2224) has 0 nm at the
centre of the first pixel: its manual says where pixels are (doc/input-options.xml), and
its files end at (width - 1) pixels. The unit of its columns is in its header.
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
from blinkloop.integrations.formats.text_cells import number, open_text, text_head
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
_LENGTHS = ("x", "y", "z", "sigma", "x_sigma", "y_sigma", "z_sigma")
_UNITS_NM = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}
"""Of rapidSTORM's header."""


@dataclass(frozen=True, slots=True)
class _Program:
    """One row. `columns`: what we call it -> its name, lower case.

    `first_frame` and `first_px`: number of the first frame, and place of the centre of
    the first pixel in px. `marks`: columns that tell its tables from those of people,
    whose frames may count from elsewhere.
    """

    name: str
    columns: Mapping[str, str]
    first_frame: int
    first_px: float
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A program's table in a file: its columns, and how many lines are before them."""

    program: _Program
    names: list[str]
    delimiter: str
    lines: int
    unit: str = "nanometer"


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
        "x_sigma": "xnmerr",
        "y_sigma": "ynmerr",
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
            "x_sigma": "x precision (nm)",
            "y_sigma": "y precision (nm)",
            # Of newer versions; they tell the pixel size, too.
            "x_pixels": "x (pix)",
            "y_pixels": "y (pix)",
        },
        0,
        0.5,
        ("channel",),
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
            "x_sigma": "position-0-0-uncertainty",
            "y_sigma": "position-1-0-uncertainty",
            "z_sigma": "position-2-0-uncertainty",
        },
        0,
        0.0,
    ),
)


def known_program(path: Path) -> str | None:
    """Name of the program whose text table it is; None when none of these."""
    found = _recognise(path)
    return None if found is None else found.program.name


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
    program, names = found.program, found.names
    if found.unit not in _UNITS_NM:
        raise InputError(
            f"{path.name}: the positions are in {found.unit!r}, which is no length; "
            f"export them in nanometer"
        )
    rows = _rows(path, found)
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
            columns[ours] = np.array([number(row[at]) for row in rows], np.float64)
            if ours in _LENGTHS:
                columns[ours] *= _UNITS_NM[found.unit]
    for ours in ("frame", "x", "y"):
        refuse_blank(columns[ours], program.columns[ours], path.name)
    return _table(path, program, columns, _pixel_of(columns), pixel_size_nm)


def _rows(path: Path, found: _Found) -> list[list[str]]:
    rows: list[list[str]] = []
    with open_text(path, errors="replace") as file:
        for _ in range(found.lines):
            file.readline()
        for row in csv.reader(file, delimiter=found.delimiter):
            cells = [cell for cell in row if cell] if found.delimiter == " " else row
            if not any(cell.strip() for cell in cells) and len(cells) < 2:
                continue
            # Elyra writes its settings below the table.
            if found.delimiter == "\t" and np.isnan(number(cells[0])):
                break
            rows.append(cells)
    return rows


def _pixel_of(columns: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, Any]:
    """The pixel size of a table that has its positions in nm and in pixels."""
    sizes = []
    for axis in "xy":
        pixels, nm = columns.get(f"{axis}_pixels", np.zeros(0)), columns[axis]
        if not len(pixels) or not np.sum(pixels) > 0:
            return {}
        size = float(np.sum(nm) / np.sum(pixels))
        # Positions from another origin are not in one ratio.
        if not np.all(np.abs(nm - size * pixels) < 0.1 * size):
            return {}
        sizes.append(round(size, 2))
    # They are rounded in the file: nearly square is square.
    if abs(sizes[0] - sizes[1]) < 1e-3 * sizes[0]:
        sizes = sizes[:1]
    return _pixel_meta(np.array(sizes) / 1e3)


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
        # An empty array is kept as its size, which would be taken for values.
        if theirs in loc and "MATLAB_empty" not in loc[theirs].attrs
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


def _recognise(path: Path) -> _Found | None:
    try:
        head = text_head(path, errors="replace")
    except OSError:
        return None
    first = head.comments[0] if head.comments else ""
    if "<localizations" in first:
        # Of a track, the localizations it is made of follow in the same row.
        own = first.split("<localizations")[1]
        fields = re.findall(r'identifier="([^"]+)"([^>]*)', own)
        names = [name.lower() for name, _ in fields]
        units = [re.search(r'unit="([^"]*)"', more) for _, more in fields]
        program = _named(names)
        if program is None:
            return None
        said = units[names.index(program.columns["x"])]
        unit = said[1] if said else "nanometer"
        return _Found(program, names, " ", len(head.comments), unit)
    names = [name.lower() for name in head.names]
    program = _named(names)
    if program is None:
        return None
    return _Found(program, names, head.delimiter, head.lines)


def _named(names: Sequence[str]) -> _Program | None:
    for program in _PROGRAMS:
        needed = [program.columns[ours] for ours in ("frame", "x", "y")]
        if {*needed, *program.marks} <= set(names):
            return program
    return None


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
        for name in ("sigma", f"{axis}_sigma"):
            if name in columns:
                rows[f"{axis}_sigma_px"] = columns[name] / size
    meta = {"pixel_size_nm": pixel[0], "generated_by": program.name}
    if pixel[0] != pixel[1]:
        meta["pixel_size_xy_nm"] = list(pixel)
    meta["three_dimensional"] = bool(np.any(columns.get("z", np.zeros(1)) != 0))
    return LocalizationTable(rows, meta)
