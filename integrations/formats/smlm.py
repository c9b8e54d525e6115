"""The `.smlm` files of ShareLoc, ZOLA and a plug-in of ThunderSTORM, read only.

A zip archive with `manifest.json`, which says of each table its columns, their types,
units and offsets (what is added to the stored numbers), and files of these columns, row
by row, least byte first (github.com/imodpasteur/smlm-file-format, 0.2). A length
without a unit is in nm; an intensity without one may be anything, and is left out.
The specification does not say where 0 is and which number the first frame has; assumed
are the outer corner of the first pixel and 1 (0 when there is a frame 0), as in
ThunderSTORM, whose plug-in writes its numbers there as they are.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import refuse_blank
from blinkloop.integrations.formats.programs import LENGTHS, Program, table_of
from blinkloop.schema import LocalizationTable

__all__ = ["is_zip", "read_smlm"]

_MANIFEST = "manifest.json"
_VERSION = "0.2"
_TYPES = {
    f"{kind}{bits}": f"<{kind[0]}{bits // 8}"
    for kind in ("int", "uint", "float")
    for bits in (8, 16, 32, 64)
    if (kind, bits) not in (("float", 8), ("float", 16))
}
_NAMES = {
    # The specification's, those of ThunderSTORM's plug-in, and Locan's.
    "frame": ("frame",),
    "x": ("x", "position_x"),
    "y": ("y", "position_y"),
    "z": ("z", "position_z"),
    "photons": ("intensity",),
    "background": ("background", "offset", "local_background"),
    "sigma": ("uncertainty_xy", "uncertainty", "uncertainty [nm]"),
    "x_sigma": ("x_precision", "uncertainty_x"),
    "y_sigma": ("y_precision", "uncertainty_y"),
    "z_sigma": ("z_precision", "uncertainty_z"),
}
_SMLM = Program(
    "a .smlm file", {ours: name[0] for ours, name in _NAMES.items()}, 1, 0.5
)
_NM = {"nm": 1.0, "um": 1e3, "\N{MICRO SIGN}m": 1e3, "mm": 1e6, "m": 1e9}
_PHOTONS = ("photon", "photons")


def is_zip(head: bytes) -> bool:
    """Whether a file starts as a zip archive does."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def read_smlm(path: Path, pixel_size_nm: float | None = None) -> LocalizationTable:
    """Read the table of a `.smlm` file.

    Raises
    ------
    InputError
        When it is another archive, damaged, of another version, holds no table or
        several, or facts are missing: the pixel size, frames, units of length.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, path.name, pixel_size_nm)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path.name} is damaged ({error}); copy it again") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path.name}: its manifest lacks or misspells what the format asks for "
            f"({type(error).__name__}: {error}); export the table as .csv"
        ) from error


def _read(
    archive: zipfile.ZipFile, what: str, pixel_size_nm: float | None
) -> LocalizationTable:
    names = archive.namelist()
    if _MANIFEST not in names:
        excel = any(name.startswith("xl/") for name in names)
        kind = "a workbook of Excel" if excel else "an archive without a table of .smlm"
        how = "save it as CSV" if excel else "unpack it and give the table in it"
        raise InputError(f"{what} is {kind}; {how}")
    manifest = json.loads(archive.read(_MANIFEST))
    if str(manifest["format_version"]) != _VERSION:
        raise InputError(
            f"{what}: a .smlm file of version {manifest['format_version']}, this "
            f"program reads {_VERSION}; export the table as .csv"
        )
    tables = [entry for entry in manifest["files"] if entry["type"] == "table"]
    if len(tables) != 1:
        raise InputError(
            f"{what} holds {len(tables)} tables "
            f"({', '.join(str(entry['name']) for entry in tables)[:200] or 'none'}); "
            f"give a file with one"
        )
    form = manifest["formats"][tables[0]["format"]]
    if form["mode"] != "binary":
        raise InputError(
            f"{what}: its table is text; unpack the archive and give "
            f"{tables[0]['name']}"
        )
    columns = _columns(archive, what, tables[0], form)
    found, left_out = _ours(what, columns, form)
    for ours in ("frame", "x", "y"):
        if ours not in found:
            raise InputError(
                f"{what}: the table has no column {ours} (it has "
                f"{', '.join(columns)[:200]}), which blinkloop needs"
            )
        refuse_blank(found[ours], ours, what)
    table = table_of(what, _SMLM, found, {}, pixel_size_nm)
    meta = {**table.meta, "generated_by": f".smlm {_VERSION}"}
    if left_out:
        meta["columns_left_out"] = left_out
    return LocalizationTable(table.data, meta)


def _columns(
    archive: zipfile.ZipFile,
    what: str,
    entry: Mapping[str, Any],
    form: Mapping[str, Any],
) -> dict[str, npt.NDArray[np.float64]]:
    """Columns by their names, offsets added."""
    headers, kinds, shapes = form["headers"], form["dtype"], form["shape"]
    fields = [
        # A shape is a number or a list; numbers may be text.
        (f"c{i}", _TYPES[kind], tuple(int(n) for n in np.atleast_1d(shape)))
        for i, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))
    ]
    row = np.dtype(fields)
    raw = archive.read(entry["name"])
    count = int(entry["rows"])
    if len(raw) != count * row.itemsize:
        raise InputError(
            f"{what}: {entry['name']} has {len(raw)} bytes, {count} rows of "
            f"{row.itemsize} are {count * row.itemsize}; the file is damaged"
        )
    rows = np.frombuffer(raw, row)
    offsets = entry.get("offset") or {}
    return {
        str(name): rows[field][:, 0].astype(np.float64) + float(offsets.get(name, 0))
        for name, (field, _, shape) in zip(headers, fields, strict=True)
        if shape == (1,)
    }


def _ours(
    what: str,
    columns: Mapping[str, npt.NDArray[np.float64]],
    form: Mapping[str, Any],
) -> tuple[dict[str, npt.NDArray[np.float64]], list[str]]:
    """Columns as `Program` calls them, in nm and photons; names of those left out."""
    units = dict(zip(form["headers"], form.get("units") or [], strict=False))
    found: dict[str, npt.NDArray[np.float64]] = {}
    for ours, names in _NAMES.items():
        name = next((name for name in names if name in columns), None)
        if name is None:
            continue
        unit = str(units.get(name) or "")
        if ours in LENGTHS:
            if unit and unit not in _NM:
                raise InputError(
                    f"{what}: the column {name} is in {unit!r}; export it in nm"
                )
            found[ours] = columns[name] * _NM[unit or "nm"]
        elif ours == "frame" or unit in _PHOTONS:
            found[ours] = columns[name]
    used = {name for ours in found for name in _NAMES[ours]}
    return found, [name for name in form["headers"] if name not in used]
