"""Which format reads or writes which file.

Design notes
------------
A format is a row. Writers are chosen by the ending, readers by content: HDF5 tables of
Picasso and DECODE share their endings. DECODE opens .h5 only, which is Picasso's here,
so its tables are told by what comes before: `.decode.h5`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blinkloop.errors import InputError, MissingExtraError
from blinkloop.extras import installed, require
from blinkloop.integrations.formats.decode import (
    is_decode,
    is_decode_csv,
    read_decode,
    read_decode_csv,
    write_decode,
)
from blinkloop.integrations.formats.files import refuse_existing
from blinkloop.integrations.formats.further_programs import (
    known_program,
    read_other_text,
)
from blinkloop.integrations.formats.parquet import read_parquet, write_parquet
from blinkloop.integrations.formats.peakfit import is_peakfit, read_peakfit
from blinkloop.integrations.formats.picasso import (
    is_picasso,
    picasso_files,
    read_picasso,
    write_picasso,
)
from blinkloop.integrations.formats.smap import (
    is_smap,
    read_smap,
    read_smap_v5,
    write_smap,
)
from blinkloop.integrations.formats.smappy import is_smappy, read_smappy
from blinkloop.integrations.formats.smlm import is_zip, read_smlm
from blinkloop.integrations.formats.storm_analysis import (
    is_insight3,
    is_storm_analysis,
    read_insight3,
    read_storm_analysis,
)
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
    "has_table_ending",
    "read_table",
    "table_endings",
    "write_table",
]

_PARQUET = b"PAR1"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_READABLE = (
    "a Picasso .hdf5, a ThunderSTORM .csv, a DECODE .h5 or .csv, a SMAP .mat or .csv, "
    "a SMAPpy .h5, a .smlm, a .parquet, a storm-analysis .hdf5, an Insight3 .bin, a "
    "text table of the SMLM challenge, Elyra, Nanoimager, N-STORM, Leica GSD, PeakFit, "
    "QuickPALM, Vutara or rapidSTORM, or a live store (a folder)"
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
    module, extra
        What it needs, and which extra of blinkloop brings that.
    files
        Those it would make, the table first; refuses a name that cannot be taken.
    """

    name: str
    endings: tuple[str, ...]
    write: Callable[..., tuple[Path, ...]]
    module: str = ""
    extra: str = ""
    files: Callable[[Path], tuple[Path, ...]] = lambda path: (path,)


TABLE_WRITERS = (
    TableWriter("DECODE", (".decode.h5",), write_decode, "h5py", "io"),
    TableWriter(
        "Picasso HDF5", (".hdf5", ".h5"), write_picasso, "h5py", "io", picasso_files
    ),
    TableWriter(
        "ThunderSTORM CSV", (".csv",), write_thunderstorm, files=thunderstorm_files
    ),
    TableWriter("SMAP", (".mat",), write_smap, "h5py", "io"),
    TableWriter("Parquet", (".parquet",), write_parquet, "pyarrow", "parquet"),
)
"""Of several endings that fit a name the first counts."""


def check_table_path(path: str | Path, *, overwrite: bool = False) -> None:
    """Find out before the work whether `write_table` could write there.

    Raises
    ------
    InputError
        As `write_table`, and when a package is missing.
    """
    path = Path(path)
    writer = _writer(path)
    if writer.module and not installed(writer.module):
        raise MissingExtraError(f"Writing {writer.name}", writer.module, writer.extra)
    refuse_existing(writer.files(path), overwrite=overwrite)


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
        `.hdf5` or `.h5` (Picasso, with a `.yaml` beside it), `.csv` (ThunderSTORM),
        `.decode.h5` (DECODE), `.mat` (SMAP) or `.parquet`.
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
        Picasso HDF5, ThunderSTORM CSV, DECODE HDF5 and CSV, SMAP, SMAPpy, `.smlm`,
        Parquet, storm-analysis, Insight3, PeakFit, other text tables (see `programs`),
        or a live store.
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
        if head.startswith(_PARQUET):
            return read_parquet(path, pixel_size_nm)
        if is_zip(head):
            return read_smlm(path, pixel_size_nm)
        if is_insight3(head):
            return read_insight3(path, pixel_size_nm)
        if is_peakfit(head):
            return read_peakfit(path, pixel_size_nm)
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
        if is_storm_analysis(file):
            return read_storm_analysis(file, path, pixel_size_nm)
        inside = ", ".join(sorted(file)[:5]) or "nothing"
    raise InputError(
        f"{path} is an HDF5 file, but holds no table of Picasso, DECODE, SMAP, SMAPpy "
        f"or storm-analysis (it holds {inside})"
    )


def has_table_ending(path: str | Path) -> bool:
    """Whether a file of that name would be written as a table of some format."""
    return _writer_of(Path(path)) is not None


def table_endings() -> str:
    """The endings tables are written with, and whose they are, for messages."""
    return ", ".join(f"{w.endings[0]} ({w.name})" for w in TABLE_WRITERS)


def _writer_of(path: Path) -> TableWriter | None:
    name = path.name.lower()
    fits = (writer for writer in TABLE_WRITERS if name.endswith(writer.endings))
    return next(fits, None)


def _writer(path: Path) -> TableWriter:
    writer = _writer_of(path)
    if writer is None:
        ending = path.suffix.lower() or "a file without ending"
        raise InputError(
            f"{path}: no table can be written as {ending}; use {table_endings()}"
        )
    return writer
