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

import csv
import json
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import (
    blank_rows,
    frames_from_zero,
    is_3d,
    pixel_sizes_nm,
    plain_meta,
    psf_sigmas_px,
    refuse_blank,
)
from blinkloop.integrations.formats.files import whole_files
from blinkloop.precision import precision_px
from blinkloop.schema import LocalizationTable

__all__ = [
    "HEADER_2D",
    "HEADER_3D",
    "is_csv",
    "read_thunderstorm",
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

_BLOCK = 100_000
_NAMES = {
    "z": ("z [nm]", "z_nm"),
    "photons": ("intensity [photon]", "intensity [photons]"),
    "background_photons": ("offset [photon]", "offset [photons]"),
    "z_sigma_nm": ("uncertainty_z [nm]",),
    "prob": ("probability", "prob"),
}


def is_csv(path: Path, head: bytes) -> bool:
    """Whether it is text whose ending is that of a table."""
    return path.suffix.lower() in (".csv", ".txt") and b"\0" not in head


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
    integers = ("id", "frame")
    form = ["%d" if name in integers else "%.5g" for name in header]
    for i, name in enumerate(header):
        if name.startswith(("x", "y", "z")):
            form[i] = "%.3f"
        elif name.endswith("[photon]"):
            form[i] = "%.6g"
    meta = {**table.meta, "pixel_size_nm": pixel[0]}
    if pixel[0] != pixel[1]:
        meta["pixel_size_xy_nm"] = list(pixel)
    beside = path.with_name(path.name + ".json")
    with whole_files((path, beside), overwrite=overwrite) as (data, text):
        with data.open("w", encoding="utf-8", newline="\n") as file:
            file.write(",".join(f'"{name}"' for name in header) + "\n")
            for start in range(0, len(table), _BLOCK):
                part = slice(start, start + _BLOCK)
                block = _columns(
                    table.data[part], start, (widths[0][part], widths[1][part]), pixel
                )
                np.savetxt(
                    file,
                    np.column_stack([block[name] for name in header]),
                    fmt=",".join(form),
                )
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
        Needed unless `name.csv.json` beside it says it.

    Raises
    ------
    InputError
        When it is not such a table, or the pixel size is not known.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = _header(file.readline())
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name} is not a text file; is it a table?") from error
    frame, x, y = (_find(names, (name,)) for name in ("frame", "x [nm]", "y [nm]"))
    if frame is None or x is None or y is None:
        raise InputError(
            f"{path.name} is not a ThunderSTORM table: it needs the columns frame, "
            f"x [nm], y [nm] and has {', '.join(names) or 'none'}"
        )
    meta = _beside(path)
    pixel_x, pixel_y = pixel_sizes_nm(meta, pixel_size_nm, path.name)
    values = _numbers(path, len(names))
    for at in (frame, x, y):
        refuse_blank(values[:, at], names[at], path.name)
    rows = blank_rows(values.shape[0])
    first, corner = (0, 0.0) if _by_picasso(names, values) else (1, 0.5)
    rows["frame"] = frames_from_zero(values[:, frame], first, path.name)
    rows["x_px"] = values[:, x] / pixel_x - corner
    rows["y_px"] = values[:, y] / pixel_y - corner
    for ours, theirs in _NAMES.items():
        column = _find(names, theirs)
        if column is not None:
            rows["z_nm" if ours == "z" else ours] = values[:, column]
    # Older versions of ThunderSTORM call it "uncertainty".
    lateral = _find(names, ("uncertainty_xy [nm]", "uncertainty [nm]"))
    if lateral is not None:
        rows["x_sigma_px"] = values[:, lateral] / pixel_x
        rows["y_sigma_px"] = values[:, lateral] / pixel_y
    meta["pixel_size_nm"] = pixel_x
    if pixel_x != pixel_y:
        meta["pixel_size_xy_nm"] = [pixel_x, pixel_y]
    meta["three_dimensional"] = _find(names, _NAMES["z"]) is not None
    return LocalizationTable(rows, meta)


def _by_picasso(names: Sequence[str], values: npt.NDArray[np.float64]) -> bool:
    """Whether Picasso exported the table.

    It writes its own numbers under ThunderSTORM's header: ids and frames from 0,
    positions from the centre of the first pixel, and `bkgstd` is 0 in every row.
    """
    number, noise = (_find(names, (name,)) for name in ("id", "bkgstd [photon]"))
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


def _header(line: str) -> list[str]:
    """Names of a header line; some programs quote the whole line once more."""
    cells = next(csv.reader([line.strip()]), [])
    if len(cells) == 1 and "," in cells[0]:
        cells = next(csv.reader([cells[0]]))
    return [re.sub(r"\s+", " ", cell.strip().strip('"')) for cell in cells]


def _find(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    lower = [name.lower() for name in names]
    return next((lower.index(name) for name in wanted if name in lower), None)


def _numbers(path: Path, columns: int) -> npt.NDArray[np.float64]:
    """(rows, columns) of the file; an empty cell is NaN."""
    options: dict[str, Any] = {"delimiter": ",", "skiprows": 1, "ndmin": 2}
    with warnings.catch_warnings():
        # An empty table is a table, not a reason to warn.
        warnings.simplefilter("ignore", UserWarning)
        try:
            values = np.loadtxt(path, encoding="utf-8-sig", quotechar='"', **options)
        except ValueError:
            try:
                values = np.genfromtxt(
                    path, delimiter=",", skip_header=1, encoding="utf-8-sig", ndmin=2
                )
            except ValueError as error:
                raise InputError(
                    f"{path.name}: a row has not {columns} cells "
                    f"({' '.join(str(error).split())[:120]}); the file is damaged"
                ) from error
    if values.size == 0:
        return np.empty((0, columns))
    if values.shape[1] != columns:
        raise InputError(
            f"{path.name}: the header names {columns} columns, the rows have "
            f"{values.shape[1]}; the file is damaged or not comma-separated"
        )
    return np.asarray(values, np.float64)


def _beside(path: Path) -> dict[str, Any]:
    beside = path.with_name(path.name + ".json")
    if not beside.is_file():
        return {}
    try:
        meta = json.loads(beside.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}
