"""MATLAB files of either kind as plain Python values.

Up to v7.2 through SciPy; v7.3, which is HDF5 with reversed axes and references, through
h5py. Structs become lists of dicts (MATLAB's structs are arrays, column-major), cells
lists, numbers arrays in MATLAB's axis order, texts strings; anything else (objects,
function handles) None.

The HDF5 layout: MathWorks, "MAT-File Versions" (v7.3 is HDF5 based); a cell is a
dataset of references with the attribute MATLAB_class = cell; a struct array is a group
whose fields are datasets of references without that attribute; an empty array is marked
with MATLAB_empty.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop import extras
from blinkloop.errors import InputError

__all__ = ["is_matlab", "number", "read_variables"]

_FEATURE = "Reading MATLAB calibrations"
_HEADER = b"MATLAB 5.0 MAT-file"
_HEADER_73 = b"MATLAB 7.3 MAT-file"


def is_matlab(path: Path) -> bool:
    """Whether the file begins as MATLAB's files (v5 to v7.3) do."""
    with path.open("rb") as file:
        return file.read(19) in (_HEADER, _HEADER_73)


def read_variables(path: Path, names: Collection[str]) -> dict[str, Any]:
    """Those of the named variables that the file holds.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    h5py = extras.require("h5py", _FEATURE, "train")
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return {n: _from_hdf5(h5py, file, file[n]) for n in names if n in file}
        io = extras.require("scipy.io", _FEATURE, "train")
        found = io.loadmat(path, variable_names=list(names))
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise InputError(
            f"{path}: the MATLAB file cannot be read ({error}); save it again, with "
            "-v7 or -v7.3"
        ) from None
    return {name: _from_scipy(found[name]) for name in names if name in found}


def number(value: object) -> float | None:
    """The one number of a MATLAB array or of a cell that holds one; None if none."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, np.ndarray) and value.size == 1:
        return float(value.reshape(-1)[0])
    return None


def _from_scipy(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return None
    if type(value) is not np.ndarray:  # objects and function handles
        return None
    if value.dtype.names is not None:
        return [
            {name: _from_scipy(entry[name]) for name in value.dtype.names}
            for entry in value.ravel(order="F")
        ]
    if value.dtype == object:
        return [_from_scipy(entry) for entry in value.ravel(order="F")]
    if value.dtype.kind in "US":
        return "".join(str(part) for part in value.ravel())
    return value if value.dtype.kind in "biuf" else None


def _from_hdf5(h5py: Any, file: Any, node: Any) -> Any:
    kind = _class(node)
    if isinstance(node, h5py.Group):
        if kind not in ("", "struct"):
            return None
        return _structs(h5py, file, node)
    if node.attrs.get("MATLAB_empty", 0):
        return [] if kind in ("cell", "struct") else np.zeros((0, 0))
    if kind == "cell":
        return [_from_hdf5(h5py, file, file[r]) for r in _references(node)]
    if kind == "char":
        return "".join(chr(code) for code in node[()].T.ravel(order="F"))
    return np.asarray(node[()]).T if node.dtype.kind in "biuf" else None


def _structs(h5py: Any, file: Any, group: Any) -> list[dict[str, Any]]:
    """A struct, or a struct array when all its fields are plain reference sets."""
    fields = dict(group.items())
    reference = h5py.ref_dtype
    if fields and all(
        isinstance(node, h5py.Dataset)
        and node.dtype == reference
        and _class(node) != "cell"
        for node in fields.values()
    ):
        columns = {
            name: [_from_hdf5(h5py, file, file[r]) for r in _references(node)]
            for name, node in fields.items()
        }
        count = min(len(values) for values in columns.values())
        return [{n: values[i] for n, values in columns.items()} for i in range(count)]
    return [{name: _from_hdf5(h5py, file, node) for name, node in fields.items()}]


def _references(node: Any) -> list[Any]:
    # HDF5 shows the axes reversed, so C order here is MATLAB's column-major order.
    return list(np.asarray(node[()]).ravel())


def _class(node: Any) -> str:
    name = node.attrs.get("MATLAB_class", b"")
    return name.decode() if isinstance(name, bytes) else str(name)
