"""Reads a live store: finished, still growing, or left behind by a crash.

Only rows and frames that were written completely are returned, so a reader beside a
running acquisition, and one after a power cut, see whole frames up to a moment.

Design notes: never writes, keeps no file open between calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError, MissingExtraError
from blinkloop.runtime.records import Gap
from blinkloop.runtime.sinks.layout import (
    FORMAT_KEY,
    FORMAT_VERSION,
    GROUPS,
    complete_prefix,
    fill_value,
)
from blinkloop.schema import LocalizationTable

__all__ = ["LiveStoreReader", "import_zarr", "is_live_store", "read_live_store"]


def import_zarr(feature: str) -> Any:
    """The package zarr; `MissingExtraError` when it is not installed."""
    try:
        import zarr
    except ImportError as error:
        raise MissingExtraError(feature, "zarr", "io") from error
    return zarr


def is_live_store(path: str | Path) -> bool:
    """Whether a folder is a live store of any version."""
    zarr = import_zarr("Reading a live store")
    try:
        group = zarr.open_group(str(path), mode="r", zarr_format=3)
    except Exception:
        # Whatever zarr cannot open is not a store; its errors differ by version.
        return False
    return FORMAT_KEY in group.attrs


class LiveStoreReader:
    """A view of a store at the moment it was made or last refreshed.

    Parameters
    ----------
    path
        Folder of the store.

    Raises
    ------
    InputError
        No such folder, not a live store, made by a newer version, or damaged.
    MissingExtraError
        zarr is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such live store (it is a folder)")
        if not is_live_store(self.path):
            raise InputError(
                f"{self.path} is not a live store of blinkloop; give the folder that "
                f"a run wrote"
            )
        self.refresh()

    def refresh(self) -> None:
        """See what has been written since."""
        zarr = import_zarr("Reading a live store")
        root = zarr.open_group(str(self.path), mode="r", zarr_format=3)
        attributes = dict(root.attrs)
        version = attributes[FORMAT_KEY]
        if version != FORMAT_VERSION:
            raise InputError(
                f"{self.path} has store format {version}, this program reads "
                f"{FORMAT_VERSION}; read it with the version that made it"
            )
        self.meta: dict[str, Any] = {
            **attributes.get("meta", {}),
            **attributes.get("summary", {}),
        }
        self.finished = bool(attributes.get("finished", False))
        try:
            self._groups = {name: root[name] for name in GROUPS}
            # Rows are written before the frames they belong to, so look at frames
            # first: their rows are there already.
            frames = self._complete("frames")
            rows = self._complete("localizations")
            self._gap_count = self._complete("gaps")
            self._frames = self._read("frames", 0, frames)
        except (KeyError, ValueError, OSError) as error:
            raise InputError(
                f"{self.path}: the store is damaged ({type(error).__name__}: {error}); "
                f"its arrays are Zarr v3 and may be read one by one"
            ) from error
        self._frames = self._frames[self._frames["rows_end"] <= rows]
        self._rows = int(self._frames["rows_end"][-1]) if len(self._frames) else 0

    def __len__(self) -> int:
        """Localizations of complete frames."""
        return self._rows

    def frames(self) -> npt.NDArray[np.void]:
        """(n,) of `FRAME_DTYPE`, in the order of the results."""
        return self._frames.copy()

    def gaps(self) -> tuple[Gap, ...]:
        """Frames without a result, as far as written."""
        reasons = list(self._groups["gaps"].attrs.get("reasons", []))
        return tuple(
            Gap(int(row["first"]), int(row["count"]), reasons[row["reason"]])
            for row in self._read("gaps", 0, self._gap_count)
            if row["reason"] < len(reasons)
        )

    def rows(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.void]:
        """Localizations `start .. stop` as a structured array."""
        start, stop, _ = slice(start, stop).indices(self._rows)
        return self._read("localizations", start, max(start, stop))

    def table(self) -> LocalizationTable:
        """All localizations with what is known of the run."""
        return LocalizationTable(self.rows(), self._table_meta())

    def tables(self, rows: int = 1_000_000) -> Iterator[LocalizationTable]:
        """The table in pieces of at most `rows`, for stores larger than memory."""
        if rows < 1:
            raise InputError(f"a piece has at least 1 row, got {rows}")
        for start in range(0, self._rows, rows):
            yield LocalizationTable(self.rows(start, start + rows), self._table_meta())

    def _table_meta(self) -> dict[str, Any]:
        return {**self.meta, "finished": self.finished}

    def _read(self, group: str, start: int, stop: int) -> npt.NDArray[np.void]:
        rows = np.empty(stop - start, GROUPS[group][0])
        for name in rows.dtype.names or ():
            rows[name] = self._groups[group][name][start:stop]
        return rows

    def _complete(self, group: str) -> int:
        """How many rows of a group are written completely.

        Full chunks are on the disk before the next one begins, so only the last ones
        need a look.
        """
        chunk = GROUPS[group][1]
        arrays = self._groups[group]
        names = GROUPS[group][0].names or ()
        length = min(int(arrays[name].shape[0]) for name in names)
        start = (length - 1) // chunk * chunk
        while start >= 0 and length > 0:
            try:
                found = self._complete_in(group, start, min(start + chunk, length))
            except Exception:
                # A chunk torn by a power loss: codecs differ in what they raise.
                found = 0
            if found:
                return start + found
            start -= chunk
        return 0

    def _complete_in(self, group: str, start: int, stop: int) -> int:
        """How many rows of a chunk are written completely."""
        # Arrays are lengthened by several chunks, so most are empty: one look will do.
        key = (GROUPS[group][0].names or ("",))[0]
        keys = self._groups[group][key][start:stop]
        if (keys == fill_value(keys.dtype)).all():
            return 0
        return complete_prefix(self._read(group, start, stop))


def read_live_store(path: str | Path) -> LocalizationTable:
    """All complete localizations of a live store; see `LiveStoreReader`."""
    return LiveStoreReader(path).table()
