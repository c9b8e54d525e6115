"""Reads a raw store: finished, still growing, or left behind by a kill.

Design notes: never writes. A frame is there when its row is; its pixels were on the
disk before. Only the newest rows can be torn, and those end the list.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.runtime.raw.layout import (
    COLUMNS,
    IMAGE,
    RAW_KEY,
    RAW_VERSION,
    is_raw_store,
)
from blinkloop.runtime.records import Gap, Roi
from blinkloop.runtime.sinks.layout import complete_prefix

__all__ = ["RawStoreReader"]


class RawStoreReader:
    """A view of a raw store at the moment it was made.

    Parameters
    ----------
    path
        Folder of the store.

    Raises
    ------
    InputError
        No raw store, made by a newer version, or damaged.
    MissingExtraError
        zarr is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not is_raw_store(self.path):
            raise InputError(
                f"{self.path} holds no raw data of blinkloop; give the folder that "
                f"'blinkloop run --raw' wrote"
            )
        zarr = require("zarr", "Reading raw data", "io")
        try:
            root = zarr.open_group(str(self.path), mode="r", zarr_format=3)
            about = dict(root.attrs[RAW_KEY])
            self._check_version(about)
            self.roi = Roi(*about["roi_px"])
            self.meta: dict[str, Any] = dict(about["meta"])
            self.summary: dict[str, Any] = dict(about.get("summary", {}))
            self.finished = bool(about["finished"])
            self._image = root[IMAGE]
            self._rows = {name: self._complete(root, name) for name in COLUMNS}
            self._reasons = {
                name: list(root[name].attrs.get("reasons", []))
                for name in ("gaps", "laser")
                if name in root
            }
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(
                f"{self.path}: the raw data are damaged ({type(error).__name__}: "
                f"{error}); its array {IMAGE!r} is Zarr v3 and may be read by itself"
            ) from error

    @property
    def image(self) -> Any:
        """The Zarr array (frame number, row, column)."""
        return self._image

    def frames(self) -> npt.NDArray[np.void]:
        """(n,) of `RAW_FRAME_DTYPE`: the frames that are there, numbers rising."""
        return self._rows["frames"].copy()

    def gaps(self) -> tuple[Gap, ...]:
        """Frames that are not there, as far as written."""
        reasons = self._reasons.get("gaps", [])
        return tuple(
            Gap(int(row["first"]), int(row["count"]), reasons[row["reason"]])
            for row in self._rows["gaps"]
            if row["reason"] < len(reasons)
        )

    def laser(self) -> tuple[npt.NDArray[np.void], list[str]]:
        """Rows of `LASER_DTYPE`, and the reason of each in words."""
        reasons = self._reasons.get("laser", [])
        rows = self._rows["laser"]
        rows = rows[rows["reason"] < len(reasons)]
        return rows.copy(), [reasons[number] for number in rows["reason"]]

    def has_chunk(self, number: int) -> bool:
        """Whether the file of a chunk is there; a power cut may have taken it."""
        key = self._image.metadata.encode_chunk_key((number, 0, 0))
        return bool((self.path / IMAGE / key).is_file())

    def _check_version(self, about: dict[str, Any]) -> None:
        if about["version"] != RAW_VERSION:
            raise InputError(
                f"{self.path} has raw data of version {about['version']}, this program "
                f"reads {RAW_VERSION}; read it with the version that made it"
            )

    @staticmethod
    def _complete(root: Any, name: str) -> npt.NDArray[np.void]:
        """The rows of a group that were written completely."""
        dtype, chunk = COLUMNS[name]
        names = dtype.names or ()
        if name not in root or any(column not in root[name] for column in names):
            return np.empty(0, dtype)  # killed while it was being made
        group = root[name]
        length = min(int(group[column].shape[0]) for column in names)
        rows = np.empty(length, dtype)
        for column in names:
            rows[column] = _readable(group[column], length, chunk, rows[column])
        return rows[: complete_prefix(rows)]


def _readable(
    array: Any, length: int, chunk: int, like: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """The cells of a column; those of a last chunk torn by a power cut as unwritten."""
    try:
        return np.asarray(array[:length])
    except Exception:  # codecs differ in what they raise
        cells = np.full(length, array.fill_value, like.dtype)
        whole = (length - 1) // chunk * chunk
        cells[:whole] = array[:whole]
        return cells
