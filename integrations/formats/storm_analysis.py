"""Molecule lists of the Zhuang lab, read only: storm-analysis `.hdf5`, Insight3 `.bin`.

HDF5: attributes `sa_type`, `version` and `pixel_size` (nm); a group `fr_N` for each
frame, from 0, with columns in px, z in um, photo-electrons, and the drift of the frame
(`dx, dy, dz`), which is added, as storm-analysis does. 0 is the centre of a pixel.

Insight3 (N-STORM writes it, too): "M425", 1, a status (6: complete), the number of
molecules (int32), then 72 bytes each: x, y, and both corrected for drift, height, area,
width, angle, aspect, background, sum (float32), category, iterations, frame, length,
link (int32), z and z corrected, nm (float32). 1 is the centre of the first pixel, and
the first frame is 1. storm-analysis may write its settings behind, with the pixel size.

All of it as documented by storm-analysis (doc/source/output_files.rst), and tried with
its own test files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.formats.columns import refuse_blank
from blinkloop.integrations.formats.programs import Program, table_of
from blinkloop.schema import LocalizationTable

__all__ = ["is_insight3", "is_storm_analysis", "read_insight3", "read_storm_analysis"]

_NAMES = {"frame": "frame", "x": "x", "y": "y", "z": "z"}
_STORM = Program("storm-analysis", _NAMES, 0, 0.0, in_px=True)
_INSIGHT = Program("Insight3", _NAMES, 1, 1.0, in_px=True)
_COLUMNS = {"x": "x", "y": "y", "z": "z", "photons": "sum", "background": "background"}
_GROUP = re.compile(r"fr_(\d+)")
_MARK, _HEADER_BYTES, _COMPLETE = b"M425", 16, 6
_REAL = ("x", "y", "xc", "yc", "h", "a", "w", "phi", "ax", "bg", "i")
_WHOLE = ("c", "fi", "fr", "tl", "lk")
_MOLECULE = np.dtype(
    [(name, "<f4") for name in _REAL]
    + [(name, "<i4") for name in _WHOLE]
    + [("z", "<f4"), ("zc", "<f4")]
)


def is_storm_analysis(file: Any) -> bool:
    """Whether an open HDF5 file is one of storm-analysis."""
    return "sa_type" in file.attrs and "version" in file.attrs


def read_storm_analysis(
    file: Any, path: Path, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """Read the localizations of an open HDF5 file, not the tracks made of them.

    Raises
    ------
    InputError
        When a frame's columns are missing or of several lengths.
    """
    groups = sorted(
        (int(name[1]), file[name[0]]) for name in map(_GROUP.fullmatch, file) if name
    )
    parts: dict[str, list[npt.NDArray[np.float64]]] = {"frame": [], "x": [], "y": []}
    for frame, group in groups:
        count = int(group.attrs.get("n_locs", 0))
        if not count:
            continue
        parts["frame"].append(np.full(count, frame, np.float64))
        for ours, theirs in _COLUMNS.items():
            values = np.full(count, np.nan)
            if theirs in group:
                values = np.asarray(group[theirs][...], np.float64)
            elif ours in "xy":
                raise InputError(
                    f"{path.name}: frame {frame} has no column {theirs}; was the "
                    f"analysis stopped? Run it again"
                )
            values = values + float(group.attrs.get(f"d{ours}", 0.0))
            parts.setdefault(ours, []).append(1e3 * values if ours == "z" else values)
    columns = {
        ours: np.concatenate(found) if found else np.zeros(0)
        for ours, found in parts.items()
    }
    size = pixel_size_nm or float(file.attrs.get("pixel_size", 0)) or None
    return table_of(path.name, _STORM, columns, {}, size)


def is_insight3(head: bytes) -> bool:
    """Whether a file starts as Insight3 writes it."""
    return head.startswith(_MARK)


def read_insight3(path: Path, pixel_size_nm: float | None = None) -> LocalizationTable:
    """Read a molecule list, corrected for drift; intensities are counts, left out.

    Raises
    ------
    InputError
        When it was not completed or is cut.
    """
    data = path.read_bytes()
    head = data[len(_MARK) : _HEADER_BYTES].ljust(_HEADER_BYTES - len(_MARK), b"\0")
    _, status, count = np.frombuffer(head, "<i4").tolist()
    if len(data) < _HEADER_BYTES or status != _COMPLETE or count < 0:
        raise InputError(
            f"{path.name}: the molecule list was not completed (its status is not "
            f"{_COMPLETE}); save it again"
        )
    end = _HEADER_BYTES + count * _MOLECULE.itemsize
    if len(data) < end:
        raise InputError(
            f"{path.name}: holds {(len(data) - _HEADER_BYTES) // _MOLECULE.itemsize} "
            f"of {count} molecules; copy it again"
        )
    rows = np.frombuffer(data, _MOLECULE, count=count, offset=_HEADER_BYTES)
    theirs = {"frame": "fr", "x": "xc", "y": "yc", "z": "zc"}
    columns = {ours: rows[name].astype(np.float64) for ours, name in theirs.items()}
    for axis in "xy":
        refuse_blank(columns[axis], f"{axis}c", path.name)
    said = re.search(rb"<pixel_size[^>]*>\s*([\d.]+)\s*<", data[end:])
    size = pixel_size_nm or (float(said[1]) if said else 0.0) or None
    return table_of(path.name, _INSIGHT, columns, {}, size)
