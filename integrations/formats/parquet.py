"""Tables in Parquet: our own, and those of Picasso, ThunderSTORM and others kept in it.

Ours has the columns and types of `LOCALIZATION_DTYPE`, so nothing is lost, and the
facts of the table as JSON in the file's metadata (key `blinkloop`). Of others the
names of the columns say whose they are; `x` and `y` alone say no unit, so Picasso's
need one of its other columns beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.formats.columns import (
    blank_rows,
    kept_meta,
    pixel_meta,
    pixel_sizes_nm,
    plain_meta,
    refuse_blank,
)
from blinkloop.integrations.formats.files import whole_files
from blinkloop.integrations.formats.picasso import picasso_rows
from blinkloop.integrations.formats.programs import program_of, table_of
from blinkloop.integrations.formats.thunderstorm import (
    is_thunderstorm,
    thunderstorm_table,
)
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

__all__ = ["read_parquet", "write_parquet"]

_Columns = dict[str, npt.NDArray[Any]]
_OURS = "blinkloop"
_PICASSO = ({"lpx", "lpy"}, {"sx", "sy"})


def write_parquet(
    table: LocalizationTable,
    path: Path,
    *,
    pixel_size_nm: float | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a table; returns the file written.

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
    arrow = require("pyarrow", "Parquet tables", "parquet")
    parquet = require("pyarrow.parquet", "Parquet tables", "parquet")
    pixel = pixel_sizes_nm(table.meta, pixel_size_nm, path.name)
    text = json.dumps(plain_meta({**table.meta, **pixel_meta(*pixel)}))
    columns = {name: table.data[name] for name in table.data.dtype.names or ()}
    inside = arrow.table(columns).replace_schema_metadata({_OURS: text})
    with whole_files((path,), overwrite=overwrite) as (target,):
        parquet.write_table(inside, target)
    return (path,)


def read_parquet(path: Path, pixel_size_nm: float | None = None) -> LocalizationTable:
    """Read a table.

    Raises
    ------
    InputError
        When the file is damaged, its columns are not known, cells of frames or
        positions are blank, or the pixel size is needed and not known.
    """
    arrow = require("pyarrow", "Parquet tables", "parquet")
    parquet = require("pyarrow.parquet", "Parquet tables", "parquet")
    try:
        with parquet.ParquetFile(path) as file:
            inside = file.read()
        columns = {
            name: inside.column(name).to_numpy()
            for name, kind in zip(inside.schema.names, inside.schema.types, strict=True)
            if arrow.types.is_integer(kind) or arrow.types.is_floating(kind)
        }
    except (arrow.ArrowException, KeyError) as error:
        raise InputError(
            f"{path.name} cannot be read as Parquet "
            f"({' '.join(str(error).split())[:160]}); copy it again"
        ) from error
    table = _table(path.name, columns, pixel_size_nm)
    kept = (inside.schema.metadata or {}).get(_OURS.encode())
    return table if kept is None else kept_meta(table, kept, pixel_size_nm)


def _table(
    what: str, columns: _Columns, pixel_size_nm: float | None
) -> LocalizationTable:
    names = set(columns)
    said = {} if pixel_size_nm is None else {"pixel_size_nm": pixel_size_nm}
    if {"frame", "x_px", "y_px"} <= names:
        for name in ("frame", "x_px", "y_px"):
            refuse_blank(columns[name].astype(np.float64), name, what)
        rows = blank_rows(len(columns["frame"]))
        for name in names & set(LOCALIZATION_DTYPE.names or ()):
            rows[name] = columns[name]
        return LocalizationTable(rows, said)
    if {"frame", "x", "y"} <= names and any(marks <= names for marks in _PICASSO):
        meta: dict[str, Any] = {**said, "three_dimensional": "z" in names}
        return LocalizationTable(picasso_rows(what, columns), meta)
    numbers = {name.lower(): v.astype(np.float64) for name, v in columns.items()}
    program = program_of(list(numbers))
    if program is not None:
        theirs = {
            ours: numbers[name]
            for ours, name in program.columns.items()
            if name in numbers
        }
        for ours in ("frame", "x", "y"):
            refuse_blank(theirs[ours], program.columns[ours], what)
        return table_of(what, program, theirs, {}, pixel_size_nm)
    if is_thunderstorm(list(numbers)):
        values = np.column_stack(list(numbers.values()))
        return thunderstorm_table(what, list(numbers), values, {}, pixel_size_nm)
    raise InputError(
        f"{what}: of these columns it is not known in which unit and from where they "
        f"count ({', '.join(sorted(names))[:200] or 'none has numbers'}); name them "
        f"frame, x_px, y_px (px from the centre of the first pixel, frames from 0) or "
        f"frame, x [nm], y [nm], as ThunderSTORM does"
    )
