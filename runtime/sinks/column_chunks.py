"""Writes whole chunks of a one-dimensional Zarr array on disk, past zarr itself.

Zarr hands every chunk through an event loop and three threads: 2 to 3 ms of Python for
one column, 20 columns every second. That Python is taken from the camera's and the
analysis's thread, so of arrays whose codecs are those zarr chooses by itself ("bytes",
little endian, then "zstd") the chunks are encoded and written here. Any other array is
left to zarr.

Source: Zarr v3 core specification (https://zarr-specs.readthedocs.io: chunk key
encoding "default", codecs "bytes" and "zstd"). A file is replaced as a whole, as zarr
does it.

Design notes: knows one array and its folder; no columns, no order, no retries.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ColumnChunks"]

_KEYS = {"name": "default", "configuration": {"separator": "/"}}
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


class ColumnChunks:
    """The chunks of one array.

    Parameters
    ----------
    array
        A `zarr.Array` of one dimension.
    folder
        Where it lies on disk.
    """

    def __init__(self, array: Any, folder: Path) -> None:
        self._array = array
        self._folder = folder / "c"
        self._cells = int(array.chunks[0])
        self._compressor = _compressor(array.metadata.to_dict())

    @property
    def direct(self) -> bool:
        """Whether chunks are written here, and not by zarr."""
        return self._compressor is not None

    def write(self, chunk: int, cells: npt.NDArray[Any]) -> None:
        """Replace a chunk.

        Parameters
        ----------
        chunk
            Its number.
        cells
            All of its cells, those beyond the end of the data included; may be kept
            until the call is over, no longer.

        Raises
        ------
        OSError
            The disk is full, or the folder is gone.
        """
        if self._compressor is None:
            first = chunk * self._cells
            self._array.set_basic_selection(slice(first, first + self._cells), cells)
            return
        little = np.ascontiguousarray(cells, cells.dtype.newbyteorder("<"))
        packed = self._compressor.encode(little.view(np.uint8))
        # Not its parents: who removed the store does not want a part of it back.
        self._folder.mkdir(exist_ok=True)
        part = self._folder / f"{chunk}.partial"
        try:
            part.write_bytes(packed)
            part.replace(self._folder / str(chunk))
        except OSError:
            part.unlink(missing_ok=True)
            raise


def _compressor(metadata: dict[str, Any]) -> Any:
    """What encodes the array's chunks; None where only zarr knows."""
    codecs = metadata.get("codecs", ())
    if (
        len(codecs) != 2
        or codecs[0] not in (_BYTES, {"name": "bytes"})
        or codecs[1].get("name") != "zstd"
        or metadata.get("chunk_key_encoding") != _KEYS
        or metadata.get("storage_transformers")
    ):
        return None
    try:
        numcodecs: Any = import_module("numcodecs")  # zarr brings it
    except ImportError:
        return None
    return numcodecs.Zstd(**codecs[1].get("configuration", {}))
