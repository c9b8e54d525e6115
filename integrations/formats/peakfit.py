"""Text tables of PeakFit, the fitting program of GDSC SMLM for ImageJ, read only.

Lines with a # come before: the first says "Localisation Results File", one the version
("Text.D0.E0.V3"), one the calibration (XML, from version 3 on JSON), the last names the
columns. Since version 3 these say their units, "X (px)"; before, positions are px and
`Signal` counts, of which the calibration's gain makes one photon. With deviations (D1)
a column "+/-" follows each fitted one. Half a pixel is the centre of the first, and
frames count from 1 (PeakFit's own code, github.com/aherbert/gdsc-smlm).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import pixel_sizes_nm, refuse_blank
from blinkloop.integrations.formats.programs import Program, table_of
from blinkloop.integrations.formats.text_cells import number, open_text
from blinkloop.schema import LocalizationTable

__all__ = ["is_peakfit", "read_peakfit"]

_START = b"#Localisation Results File"
_PIXELS = ("px", "pixel", "")
_NM = {"nm": 1.0, "\N{GREEK SMALL LETTER MU}m": 1e3, "\N{MICRO SIGN}m": 1e3, "um": 1e3}
_PHOTONS = ("photon", "photons")
_UNIT = re.compile(r"(.*?)\s*(?:\(([^)]*)\))?")
_PEAKFIT = Program("PeakFit", {"frame": "Frame", "x": "X", "y": "Y"}, 1, 0.5, (), True)
_WANTED = {
    "frame": ("frame", "frames"),
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "photons": ("intensity", "signal"),
    "background": ("background",),
    "sigma": ("precision",),
}
Floats = npt.NDArray[np.float64]


def is_peakfit(head: bytes) -> bool:
    """Whether a file starts as PeakFit writes it."""
    return head.removeprefix(b"\xef\xbb\xbf").startswith(_START)


def read_peakfit(path: Path, pixel_size_nm: float | None = None) -> LocalizationTable:
    """Read a table.

    Raises
    ------
    InputError
        When columns are missing or damaged, a length has an unknown unit, or the pixel
        size is needed and not known.
    """
    comments, lines = _lines(path)
    names, units = _header(comments, path)
    values = _values(lines, len(names), path)
    about = "\n".join(comments)
    size_nm = pixel_size_nm or _said(about, "nmPerPixel") or None
    gain = _said(about, "countPerPhoton") or _said(about, "gain")
    columns: dict[str, Floats] = {}
    for ours, wanted in _WANTED.items():
        at = next((names.index(name) for name in wanted if name in names), None)
        if at is None:
            continue
        found = values[:, at]
        if ours in ("photons", "background"):
            if units[at] not in _PHOTONS and not gain > 0:
                continue  # counts, and nobody says how many make a photon
            columns[ours] = found if units[at] in _PHOTONS else found / gain
        elif ours in ("x", "y"):
            refuse_blank(found, wanted[0].upper(), path.name)
            columns[ours] = _length_px(found, units[at], size_nm, path)
            if names[at + 1 : at + 2] == ["+/-"]:
                deviation = _length_px(values[:, at + 1], units[at], size_nm, path)
                columns[f"{ours}_sigma"] = np.where(deviation > 0, deviation, np.nan)
        elif ours == "z":
            columns[ours] = _length_nm(found, units[at], size_nm, path)
        elif ours == "sigma":
            # Its unit is nm in all versions; 0 where it was not computed.
            unit = units[at] or "nm"
            precision = _length_px(found, unit, size_nm, path) if size_nm else None
            if precision is not None:
                columns[ours] = np.where(precision > 0, precision, np.nan)
        else:
            refuse_blank(found, "Frame", path.name)
            columns[ours] = found
    if "x_sigma" in columns:
        columns.pop("sigma", None)
    if "z" in columns and not np.any(columns["z"]):
        del columns["z"]  # a fit in two dimensions
    return table_of(path.name, _PEAKFIT, columns, {}, size_nm)


def _lines(path: Path) -> tuple[list[str], list[str]]:
    """The comments without #, and the rows."""
    comments, rows = [], []
    with open_text(path, errors="replace") as file:
        for line in file.read().splitlines():
            if line.startswith("#"):
                comments.append(line[1:])
            elif line.strip():
                rows.append(line)
    return comments, rows


def _header(comments: list[str], path: Path) -> tuple[list[str], list[str]]:
    """Names of the columns in lower case, and their units, "" where none is said."""
    named = [line for line in comments if line.lower().startswith(("frame", "id\t"))]
    named += [line for line in comments if "\torigX\t" in line]
    if not named:
        raise InputError(
            f"{path.name}: the table of PeakFit has no line that names its columns; "
            f"save it as text again (Results Manager, File format: Text)"
        )
    cells = [_UNIT.fullmatch(cell.strip()) for cell in named[-1].split("\t")]
    names = [(cell[1] if cell else "").lower() for cell in cells]
    missing = [key for key in ("frame", "x", "y") if not {*_WANTED[key]} & {*names}]
    if missing:
        raise InputError(
            f"{path.name}: the table of PeakFit has no column {missing[0].title()}"
        )
    return names, [(cell[2] or "" if cell else "") for cell in cells]


def _values(lines: list[str], columns: int, path: Path) -> Floats:
    rows = []
    for count, line in enumerate(lines, 1):
        cells = line.split("\t")
        if len(cells) < columns:
            raise InputError(
                f"{path.name}: the header names {columns} columns, row {count} has "
                f"{len(cells)}; the file is damaged"
            )
        # A star marks a precision that was computed when the table was saved.
        rows.append([number(cell.rstrip("*")) for cell in cells[:columns]])
    return np.array(rows, np.float64).reshape(len(rows), columns)


def _said(about: str, key: str) -> float:
    """A number of the calibration, XML or JSON; 0 when it is not there."""
    found = re.search(rf'\b{key}"?\s*[>:]\s*"?([-+.\deE]+)', about)
    value: float = number(found[1]) if found else 0.0
    return value if 0 < value < float("inf") else 0.0


def _length_px(values: Floats, unit: str, size_nm: float | None, path: Path) -> Floats:
    if unit in _PIXELS:
        return values
    size, _ = pixel_sizes_nm({}, size_nm, path.name)
    return _length_nm(values, unit, size_nm, path) / size


def _length_nm(values: Floats, unit: str, size_nm: float | None, path: Path) -> Floats:
    if unit in _NM:
        return values * _NM[unit]
    if unit not in _PIXELS:
        raise InputError(
            f"{path.name}: lengths in {unit!r} are not known; save the table in px or "
            f"nm"
        )
    if not np.any(values):
        return values
    size, _ = pixel_sizes_nm({}, size_nm, path.name)
    return values * size
