"""Programs whose tables are columns of numbers: what they call them, and where 0 is.

A program is a row: which columns say that it is its table, what they are called, and
where its counting starts. SMAP (doi:10.1038/s41592-020-0938-1)
counts pixels as MATLAB does: the centre of the first pixel is at 1 px, the first frame
is 1. The others are taken from the outer corner of the first pixel, as the SMLM
challenge (doi:10.1038/s41592-019-0364-4) and ThunderSTORM do; of Elyra, Nanoimager and
Vutara this is an assumption, and so it is of N-STORM, whose X and Y the ChriSTORM
scripts hand to ThunderSTORM as they are. Leica's GSD counts frames from 0, and from
where pixels is not said: 43 real tables (github.com/andronovl/SharpViSu) lie between
5.8 and 174.6 px on chips of 180, as far from one edge as from the other when 0 is the
corner. rapidSTORM (doi:10.1038/nmeth.2224) has 0 nm at the
centre of the first pixel: its manual says where pixels are (doc/input-options.xml), and
its files end at (width - 1) pixels; so has QuickPALM, which averages numbers of pixels.

Design notes
------------
Knows columns, no files: text, MATLAB, Parquet and `.smlm` files hand them over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import (
    blank_rows,
    frames_from_zero,
    pixel_meta,
    pixel_sizes_nm,
)
from blinkloop.schema import LocalizationTable

__all__ = ["LENGTHS", "SMAP", "Program", "program_of", "table_of"]

_FIELDS = {
    "frame": "frame",
    "z_nm": "z",
    "photons": "photons",
    "background_photons": "background",
    "z_sigma_nm": "z_sigma",
    "photons_sigma": "photons_sigma",
    "prob": "prob",
}
LENGTHS = ("x", "y", "z", "sigma", "x_sigma", "y_sigma", "z_sigma")
_NO_HEIGHT_NM = 1e9
"""Leica writes 1e36 where it found no height."""


@dataclass(frozen=True, slots=True)
class Program:
    """One row. `columns`: what we call it -> its name, lower case.

    `first_frame` and `first_px`: number of the first frame, and place of the centre of
    the first pixel in px. `marks`: columns that tell its tables from those of people,
    whose frames may count from elsewhere. `in_px`: x and y are in px, not in nm.
    `settings_below`: lines without numbers end the table.
    """

    name: str
    columns: Mapping[str, str]
    first_frame: int
    first_px: float
    marks: tuple[str, ...] = ()
    in_px: bool = False
    settings_below: bool = False


SMAP = Program(
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
        "photons_sigma": "photerr",
        "prob": "prob",
    },
    1,
    1.0,
)
_GSD = Program(
    "Leica GSD",
    {
        "frame": "frameid",
        "x": "x0",
        "y": "y0",
        "z": "z0",
        "photons": "photon_count0",
    },
    0,
    0.5,
    ("eventid", "photon_count0"),
    in_px=True,
)
_PROGRAMS = (
    SMAP,
    Program(
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
    Program(
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
    Program(
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
        settings_below=True,
    ),
    Program(
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
    Program(
        "N-STORM",
        {
            # Corrected for drift; X, Y and Z are not. BG and I are no photons.
            "frame": "frame",
            "x": "xc",
            "y": "yc",
            "z": "zc",
            "photons": "photons",
            "sigma": "lateral localization accuracy",
        },
        1,
        0.5,
        # Insight3's tables have the same columns in px, and another first one.
        ("channel name", "link", "valid"),
    ),
    Program(
        "QuickPALM",
        {
            # Intensity is a mean of counts.
            "frame": "frame number",
            "x": "x (nm)",
            "y": "y (nm)",
            "z": "z (nm)",
            "x_pixels": "x (px)",
            "y_pixels": "y (px)",
        },
        1,
        0.0,
        ("width minus height (px)",),
    ),
    Program(
        "Vutara SRX",
        {
            # "frame" starts anew in each cycle.
            "frame": "image-id",
            "x": "x",
            "y": "y",
            "z": "z",
            "photons": "photon-count",
            "x_sigma": "precisionx",
            "y_sigma": "precisiony",
            "z_sigma": "precisionz",
        },
        0,
        0.5,
        ("photon-count", "z-step"),
    ),
    _GSD,
    replace(
        _GSD,
        columns={**_GSD.columns, "photons": "photon_count"},
        marks=("eventid", "photon_count"),
    ),
)


def program_of(names: Sequence[str]) -> Program | None:
    """The program whose columns these are (names in lower case); None without one."""
    for program in _PROGRAMS:
        needed = [program.columns[ours] for ours in ("frame", "x", "y")]
        if {*needed, *program.marks} <= set(names):
            return program
    return None


def table_of(
    what: str,
    program: Program,
    columns: Mapping[str, npt.NDArray[np.float64]],
    meta: Mapping[str, Any],
    pixel_size_nm: float | None,
) -> LocalizationTable:
    """Our table of a program's columns, under the names we call them.

    Parameters
    ----------
    what
        Names the file in messages.
    program
        Whose they are.
    columns
        Lengths in nm, x and y in px where the program has them so.
    meta
        What the file says of the pixel size.
    pixel_size_nm
        What a person said; it comes first.

    Raises
    ------
    InputError
        When columns are missing, damaged or of several lengths, or the pixel size is
        needed and not known.
    """
    missing = [ours for ours in ("frame", "x", "y") if ours not in columns]
    if missing:
        raise InputError(
            f"{what}: the table of {program.name} has no column "
            f"{program.columns[missing[0]]}"
        )
    count = len(columns["frame"])
    short = [ours for ours, values in columns.items() if len(values) != count]
    if short or not np.all(np.isfinite(columns["frame"])):
        wrong = program.columns[short[0] if short else "frame"]
        raise InputError(
            f"{what}: the column {wrong} has cells without a number, or is shorter "
            f"than the others; the file is damaged"
        )
    rows = blank_rows(count)
    for field, ours in _FIELDS.items():
        if ours in columns:
            rows[field] = columns[ours]
    rows["z_nm"][np.abs(rows["z_nm"]) > _NO_HEIGHT_NM] = np.nan
    rows["frame"] = frames_from_zero(columns["frame"], program.first_frame, what)
    out: dict[str, Any] = {"generated_by": program.name}
    pixel = 1.0, 1.0
    if not program.in_px:
        pixel = pixel_sizes_nm(meta, pixel_size_nm, what)
        out |= pixel_meta(*pixel)
    elif pixel_size_nm is not None:
        out |= pixel_meta(*pixel_sizes_nm({}, pixel_size_nm, what))
    for axis, size in zip("xy", pixel, strict=True):
        rows[f"{axis}_px"] = columns[axis] / size - program.first_px
        for name in ("sigma", f"{axis}_sigma"):
            if name in columns:
                rows[f"{axis}_sigma_px"] = columns[name] / size
    z = rows["z_nm"]
    out["three_dimensional"] = bool(np.any(np.isfinite(z) & (z != 0)))
    return LocalizationTable(rows, out)
