"""ThunderSTORM CSV tables (doi:10.1093/bioinformatics/btu202).

Coordinates are nm from the outer corner of the first pixel: x_nm = (x_px + 0.5) p. The
frame counts from 1; a table with a frame 0 is taken to count from 0, and what Picasso
exports in this format has neither offset (`_by_picasso`). `sigma` is the
width of the PSF, `offset` the background per pixel, `bkgstd` its shot noise,
`uncertainty_xy` the precision of one lateral axis (root mean square of x and y). Beside
the table, `name.csv.json` keeps the settings that made it, with the pixel size, without
which a table in nm cannot be turned into px.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import (
    blank_rows,
    frames_from_zero,
    is_3d,
    pixel_meta,
    pixel_sizes_nm,
    plain_meta,
    psf_sigmas_px,
    refuse_blank,
)
from blinkloop.integrations.formats.files import whole_files
from blinkloop.integrations.formats.text_cells import find, numbers, text_head
from blinkloop.precision import precision_px
from blinkloop.schema import LocalizationTable

__all__ = [
    "HEADER_2D",
    "HEADER_3D",
    "is_thunderstorm",
    "read_thunderstorm",
    "thunderstorm_table",
    "write_thunderstorm",
]

HEADER_2D = (
    "id",
    "frame",
    "x [nm]",
    "y [nm]",
    "sigma [nm]",
    "intensity [photon]",
    "offset [photon]",
    "bkgstd [photon]",
    "uncertainty_xy [nm]",
    "probability",
)
"""ThunderSTORM's header of a 2D table, and `probability`."""

HEADER_3D = (
    "id",
    "frame",
    "x [nm]",
    "y [nm]",
    "z [nm]",
    "sigma1 [nm]",
    "sigma2 [nm]",
    "intensity [photon]",
    "offset [photon]",
    "bkgstd [photon]",
    "uncertainty_xy [nm]",
    "uncertainty_z [nm]",
    "probability",
)
"""ThunderSTORM's header of a 3D table, and `probability`."""

_BLOCK = 10_000
"""Rows written at once: as text, some 140 bytes each, they are there several times."""
_NAMES = {
    "photons": ("intensity [photon]", "intensity [photons]"),
    "background_photons": ("offset [photon]", "offset [photons]"),
    "prob": ("probability", "prob"),
}
_NM = {"nm": 1.0, "um": 1e3, "\N{MICRO SIGN}m": 1e3, "\N{GREEK SMALL LETTER MU}m": 1e3}
_PIXELS = "px"


def thunderstorm_files(path: Path) -> tuple[Path, Path]:
    """The table and the settings beside it."""
    return path, path.with_name(path.name + ".json")


def write_thunderstorm(
    table: LocalizationTable,
    path: Path,
    *,
    pixel_size_nm: float | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a table; returns the files written. What is not known is written as NaN.

    Parameters
    ----------
    table
        Localizations.
    path
        File to write.
    pixel_size_nm
        In place of what the table says.
    overwrite
        Allow replacing the files.

    Raises
    ------
    InputError
        When a file exists or the pixel size is not known.
    """
    pixel = pixel_sizes_nm(table.meta, pixel_size_nm, path.name)
    header = HEADER_3D if is_3d(table) else HEADER_2D
    widths = psf_sigmas_px(table)
    if widths is None:
        unknown = np.full(len(table), np.nan)
        widths = unknown, unknown
    digits = {"id": 0, "frame": 0, "probability": 6}
    form = ",".join(f"%.{digits.get(name, 3)}f" for name in header)
    meta = {**table.meta, **pixel_meta(*pixel)}
    path, beside = thunderstorm_files(path)
    with whole_files((path, beside), overwrite=overwrite) as (data, text):
        with data.open("w", encoding="utf-8", newline="\n") as file:
            file.write(",".join(f'"{name}"' for name in header) + "\n")
            for start in range(0, len(table), _BLOCK):
                part = slice(start, start + _BLOCK)
                block = _columns(
                    table.data[part], start, (widths[0][part], widths[1][part]), pixel
                )
                rows = StringIO()
                np.savetxt(rows, np.column_stack([block[n] for n in header]), fmt=form)
                # As Java reads it: ThunderSTORM skips a row with "nan", and takes
                # 1e+06 for 1, which is why no cell has an exponent.
                text_rows = rows.getvalue().replace("nan", "NaN")
                file.write(text_rows.replace("inf", "Infinity"))
        text.write_text(json.dumps(plain_meta(meta), indent=1), encoding="utf-8")
    return path, beside


def read_thunderstorm(
    path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read a table; columns in any order, unknown ones are ignored.

    Parameters
    ----------
    path
        The CSV file.
    pixel_size_nm
        Needed unless `name.csv.json` beside it says it, or all lateral lengths are in
        px.

    Raises
    ------
    InputError
        When it is not such a table, or the pixel size is not known.
    """
    head = text_head(path)
    if not is_thunderstorm(head.names):
        raise InputError(
            f"{path.name} is not a table that blinkloop knows: it needs the columns "
            f"frame, x [nm], y [nm], as ThunderSTORM calls them, and has "
            f"{', '.join(head.names)[:300] or 'none'}; name them so, or export the "
            f"table from its program in that format"
        )
    return thunderstorm_table(
        path.name, head.names, numbers(path, head), _beside(path), pixel_size_nm
    )


def is_thunderstorm(names: Sequence[str]) -> bool:
    """Whether columns are called as ThunderSTORM calls those that a table needs."""
    return find(names, ("frame",)) is not None and all(
        _length(names, axis) is not None for axis in "xy"
    )


def thunderstorm_table(
    what: str,
    names: Sequence[str],
    values: npt.NDArray[np.float64],
    meta: Mapping[str, Any],
    pixel_size_nm: float | None = None,
) -> LocalizationTable:
    """Our table of columns for which `is_thunderstorm` holds.

    Parameters
    ----------
    what
        Names the file in messages.
    names
        Of the columns.
    values
        (rows, columns).
    meta
        What is known beside them, the pixel size among it.
    pixel_size_nm
        What a person said; it comes first.

    Raises
    ------
    InputError
        When cells of frames or positions are blank, or the pixel size is not known.
    """
    frame, x, y = find(names, ("frame",)), _length(names, "x"), _length(names, "y")
    if frame is None or x is None or y is None:
        raise InputError(f"{what} is not a table of ThunderSTORM")
    # Older versions of ThunderSTORM call it "uncertainty".
    lateral = _length(names, "uncertainty_xy") or _length(names, "uncertainty")
    meta = dict(meta)
    said = pixel_size_nm, meta.get("pixel_size_nm"), meta.get("pixel_size_xy_nm")
    lengths = [length for length in (x, y, lateral) if length is not None]
    pixel_x = pixel_y = float("nan")
    known = any(value is not None for value in said)
    if known or any(unit != _PIXELS for _, unit in lengths):
        pixel_x, pixel_y = pixel_sizes_nm(meta, pixel_size_nm, what)
        meta |= pixel_meta(pixel_x, pixel_y)
    for at in (frame, x[0], y[0]):
        refuse_blank(values[:, at], names[at], what)
    rows = blank_rows(values.shape[0])
    first, corner = (0, 0.0) if _by_picasso(names, values) else (1, 0.5)
    rows["frame"] = frames_from_zero(values[:, frame], first, what)
    rows["x_px"] = _in_px(values, x, pixel_x) - corner
    rows["y_px"] = _in_px(values, y, pixel_y) - corner
    for ours, theirs in _NAMES.items():
        column = find(names, theirs)
        if column is not None:
            rows[ours] = values[:, column]
    meta["three_dimensional"] = False
    for field, name in (("z_nm", "z"), ("z_sigma_nm", "uncertainty_z")):
        length = _length(names, name)
        # A height in pixels is none: nobody knows of which axis.
        if length is not None and length[1] in _NM:
            rows[field] = values[:, length[0]] * _NM[length[1]]
            meta["three_dimensional"] |= field == "z_nm"
    if lateral is not None:
        rows["x_sigma_px"] = _in_px(values, lateral, pixel_x)
        rows["y_sigma_px"] = _in_px(values, lateral, pixel_y)
    return LocalizationTable(rows, meta)


def _length(names: Sequence[str], name: str) -> tuple[int, str] | None:
    """Place and unit of a column with lengths; None without one in a known unit."""
    for unit in (*_NM, _PIXELS):
        at = find(names, (f"{name} [{unit}]",))
        if at is not None:
            return at, unit
    plain = find(names, ("z_nm",)) if name == "z" else None
    return None if plain is None else (plain, "nm")


def _in_px(
    values: npt.NDArray[np.float64], length: tuple[int, str], pixel_nm: float
) -> npt.NDArray[np.float64]:
    column, unit = length
    found: npt.NDArray[np.float64] = values[:, column]
    return found if unit == _PIXELS else found * _NM[unit] / pixel_nm


def _by_picasso(names: Sequence[str], values: npt.NDArray[np.float64]) -> bool:
    """Whether Picasso exported the table.

    It writes its own numbers under ThunderSTORM's header: ids and frames from 0,
    positions from the centre of the first pixel, and `bkgstd` is 0 in every row.
    """
    number, noise = (find(names, (name,)) for name in ("id", "bkgstd [photon]"))
    if number is None or noise is None or not len(values):
        return False
    return bool(values[0, number] == 0 and np.all(values[:, noise] == 0))


def _columns(
    rows: npt.NDArray[np.void],
    start: int,
    widths: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    pixel: tuple[float, float],
) -> dict[str, npt.NDArray[Any]]:
    photons = rows["photons"].astype(np.float64)
    background = rows["background_photons"].astype(np.float64)
    lateral = np.hypot(
        rows["x_sigma_px"] * pixel[0], rows["y_sigma_px"] * pixel[1]
    ) / np.sqrt(2)
    unknown = ~np.isfinite(lateral)
    if unknown.any():
        bound = precision_px(widths[0], photons, background) * pixel[0]
        lateral = np.where(unknown, bound, lateral)
    return {
        "id": np.arange(start + 1, start + 1 + len(rows)),
        "frame": rows["frame"] + 1,
        "x [nm]": (rows["x_px"] + 0.5) * pixel[0],
        "y [nm]": (rows["y_px"] + 0.5) * pixel[1],
        "z [nm]": rows["z_nm"],
        "sigma [nm]": np.sqrt(widths[0] * pixel[0] * widths[1] * pixel[1]),
        "sigma1 [nm]": widths[0] * pixel[0],
        "sigma2 [nm]": widths[1] * pixel[1],
        "intensity [photon]": photons,
        "offset [photon]": background,
        "bkgstd [photon]": np.sqrt(np.maximum(background, 0)),
        "uncertainty_xy [nm]": lateral,
        "uncertainty_z [nm]": rows["z_sigma_nm"],
        "probability": rows["prob"],
    }


def _beside(path: Path) -> dict[str, Any]:
    _, beside = thunderstorm_files(path)
    if not beside.is_file():
        return {}
    try:
        meta = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}
