"""Text tables of further programs (`programs` says which), read only."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import pixel_meta, refuse_blank
from blinkloop.integrations.formats.programs import (
    LENGTHS,
    Program,
    program_of,
    table_of,
)
from blinkloop.integrations.formats.text_cells import number, open_text, text_head
from blinkloop.schema import LocalizationTable

__all__ = ["known_program", "read_other_text"]

_UNITS_NM = {"nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "meter": 1e9}
"""Of rapidSTORM's header."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A program's table in a file: its columns, and how many lines are before them."""

    program: Program
    names: list[str]
    delimiter: str
    lines: int
    unit: str = "nanometer"


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
            if ours in LENGTHS:
                columns[ours] *= _UNITS_NM[found.unit]
    for ours in ("frame", "x", "y"):
        refuse_blank(columns[ours], program.columns[ours], path.name)
    return table_of(path.name, program, columns, _pixel_of(columns), pixel_size_nm)


def _rows(path: Path, found: _Found) -> list[list[str]]:
    rows: list[list[str]] = []
    with open_text(path, errors="replace") as file:
        for _ in range(found.lines):
            file.readline()
        for row in csv.reader(file, delimiter=found.delimiter):
            cells = [cell for cell in row if cell] if found.delimiter == " " else row
            if not any(cell.strip() for cell in cells) and len(cells) < 2:
                continue
            if found.program.settings_below and np.isnan(number(cells[0])):
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
    return pixel_meta(sizes[0], sizes[-1])


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
        program = program_of(names)
        if program is None:
            return None
        said = units[names.index(program.columns["x"])]
        unit = said[1] if said else "nanometer"
        return _Found(program, names, " ", len(head.comments), unit)
    if "frameID" in first:
        # Leica's header is a comment, with the type of each column behind its name.
        names = [cell.partition("(")[0].strip().lower() for cell in first.split(",")]
        delimiter, lines = ",", len(head.comments)
    else:
        names = [name.lower() for name in head.names]
        delimiter, lines = head.delimiter, head.lines
    while names and not names[-1]:
        names.pop()  # something stood behind the last name, which rows need not have
    program = program_of(names)
    return None if program is None else _Found(program, names, delimiter, lines)
