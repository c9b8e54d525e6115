"""Which format reads or writes which file.

Design notes
------------
A format is a row. Writers are chosen by the ending, readers by content: HDF5 tables of
Picasso and DECODE share their endings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.formats.decode import (
    is_decode,
    is_decode_csv,
    read_decode,
    read_decode_csv,
)
from blinkloop.integrations.formats.files import refuse_existing
from blinkloop.integrations.formats.further_programs import (
    is_smap,
    known_program,
    read_other_text,
    read_smap,
    read_smap_v5,
)
from blinkloop.integrations.formats.picasso import (
    is_picasso,
    picasso_files,
    read_picasso,
    write_picasso,
)
from blinkloop.integrations.formats.smappy import is_smappy, read_smappy
from blinkloop.integrations.formats.text_cells import is_text_table
from blinkloop.integrations.formats.thunderstorm import (
    read_thunderstorm,
    thunderstorm_files,
    write_thunderstorm,
)
from blinkloop.runtime.sinks import read_live_store
from blinkloop.schema import LocalizationTable

__all__ = [
    "TABLE_WRITERS",
    "TableWriter",
    "check_table_path",
    "read_table",
    "write_table",
]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_READABLE = (
    "a Picasso .hdf5, a ThunderSTORM .csv, a DECODE .h5 or .csv, a SMAP .mat or .csv, "
    "a SMAPpy .h5, a text table of the SMLM challenge, Elyra, Nanoimager or "
    "rapidSTORM, or a live store (a folder)"
)


@dataclass(frozen=True, slots=True)
class TableWriter:
    """One row of the table of writers.

    Parameters
    ----------
    name
        For messages.
    endings
        Lower-case endings it writes.
    write
        Writes a table and returns the files it made.
    files
        Those it would make, the table first; refuses a name that cannot be taken.
    """

    name: str
    endings: tuple[str, ...]
    write: Callable[..., tuple[Path, ...]]
    files: Callable[[Path], tuple[Path, ...]]


TABLE_WRITERS = (
    TableWriter("Picasso HDF5", (".hdf5", ".h5"), write_picasso, picasso_files),
    TableWriter("ThunderSTORM CSV", (".csv",), write_thunderstorm, thunderstorm_files),
)


def check_table_path(path: str | Path, *, overwrite: bool = False) -> None:
    """Find out before the work whether `write_table` could write there.

    Raises
    ------
    InputError
        As `write_table`.
    """
    path = Path(path)
    refuse_existing(_writer(path).files(path), overwrite=overwrite)


def write_table(
    table: LocalizationTable,
    path: str | Path,
    overwrite: bool = False,
    *,
    pixel_size_nm: float | None = None,
) -> tuple[Path, ...]:
    """Write a table in the format of the file's ending.

    Parameters
    ----------
    table
        Localizations; `meta["pixel_size_nm"]` is needed unless given here.
    path
        `.hdf5` or `.h5` (Picasso, with a `.yaml` beside it) or `.csv` (ThunderSTORM).
    overwrite
        Allow replacing files.
    pixel_size_nm
        In place of what the table says.

    Returns
    -------
    tuple of Path
        The files written, the table first.

    Raises
    ------
    InputError
        Unknown ending, existing file, unknown pixel size, a frame below 0, or a place
        that cannot be written. Nothing is left behind then.
    """
    path = Path(path)
    frames = table.data["frame"]
    if len(table) and frames.min() < 0:
        raise InputError(
            f"{path}: the table has a frame {frames.min()}, and no format has frames "
            f"below 0; take these rows out"
        )
    return _writer(path).write(
        table, path, pixel_size_nm=pixel_size_nm, overwrite=overwrite
    )


def read_table(
    path: str | Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read a table of localizations.

    Parameters
    ----------
    path
        Picasso HDF5, ThunderSTORM CSV, DECODE HDF5 and CSV, SMAP, SMAPpy, other text
        tables (see `further_programs`), or a live store.
    pixel_size_nm
        Needed for tables in nm that do not say it; overrules those that do.

    Raises
    ------
    InputError
        No such file, not such a table, or an unknown pixel size.
    """
    path = Path(path)
    if path.is_dir():
        table = read_live_store(path)
        if pixel_size_nm is not None:
            meta = {**table.meta, "pixel_size_nm": pixel_size_nm}
            table = LocalizationTable(table.data, meta)
        return table
    if not path.is_file():
        raise InputError(f"{path}: no such table; check the path")
    try:
        with path.open("rb") as file:
            head = file.read(512)
        if head.startswith((_HDF5, b"MATLAB 7.3")):
            return _read_hdf5(path, pixel_size_nm)
        if head.startswith(b"MATLAB 5.0"):
            return read_smap_v5(path, pixel_size_nm)
        if is_text_table(path, head):
            if is_decode_csv(head):
                return read_decode_csv(path, pixel_size_nm)
            if known_program(path) is not None:
                return read_other_text(path, pixel_size_nm)
            return read_thunderstorm(path, pixel_size_nm)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({' '.join(str(error).split())[:160]}); "
            f"is it complete?"
        ) from error
    raise InputError(f"{path} is not a table blinkloop can read; give {_READABLE}")


def _read_hdf5(path: Path, pixel_size_nm: float | None) -> LocalizationTable:
    h5py = require("h5py", "Reading HDF5 tables", "io")
    try:
        return _of_hdf5(h5py, path, pixel_size_nm)
    except (RuntimeError, KeyError, ValueError) as error:
        # h5py says of a damaged group or text one or the other.
        raise InputError(
            f"{path} is damaged ({' '.join(str(error).split())[:160]}); copy it again"
        ) from error


def _of_hdf5(h5py: Any, path: Path, pixel_size_nm: float | None) -> LocalizationTable:
    with h5py.File(path, "r") as file:
        if is_picasso(file):
            return read_picasso(file, path, pixel_size_nm)
        if is_decode(file):
            return read_decode(file, path, pixel_size_nm)
        if is_smap(file):
            return read_smap(file, path, pixel_size_nm)
        if is_smappy(file):
            return read_smappy(file, path, pixel_size_nm)
        inside = ", ".join(sorted(file)[:5]) or "nothing"
    raise InputError(
        f"{path} is an HDF5 file, but holds no table of Picasso, DECODE, SMAP or "
        f"SMAPpy (it holds {inside})"
    )


def _writer(path: Path) -> TableWriter:
    ending = path.suffix.lower()
    for writer in TABLE_WRITERS:
        if ending in writer.endings:
            return writer
    known = ", ".join(f"{w.endings[0]} ({w.name})" for w in TABLE_WRITERS)
    raise InputError(
        f"{path}: no table can be written as {ending or 'a file without ending'}; "
        f"use {known}"
    )
