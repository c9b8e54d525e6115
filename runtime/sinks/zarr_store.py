"""The live store: Zarr v3 on disk, append-only, readable while it grows.

    store/                 attributes: format version, meta, finished, summary
      localizations/<col>  one array per column of `LOCALIZATION_DTYPE`
      frames/<col>         one array per column of `FRAME_DTYPE`
      gaps/<col>           first, count, reason; attribute `reasons` holds the words

While a store grows, each array ends in cells that hold the fill value (-1 or -inf):
drop them, or use `read_live_store`. A finished store has none.

Design notes: knows results and the store's layout; threads, queues and the meaning of
`meta` are others' business.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blinkloop.errors import InputError
from blinkloop.runtime.records import FrameResult, Gap
from blinkloop.runtime.report import jsonable
from blinkloop.runtime.sinks.growing import GrowingColumns
from blinkloop.runtime.sinks.layout import (
    FORMAT_KEY,
    FORMAT_VERSION,
    GAP_DTYPE,
    GROUPS,
    UNITS,
    frame_records,
)
from blinkloop.runtime.sinks.store_reader import (
    LiveStoreReader,
    import_zarr,
    is_live_store,
)

__all__ = ["LiveStore"]


class LiveStore:
    """Sink that writes a live store.

    Parameters
    ----------
    path
        Folder to make.
    if_exists
        When the folder is there already: "fail"; "overwrite" a live store (nothing
        else is ever deleted); "resume" appends to it.
    resume_at
        With "resume": frame to go on with. What the store holds of it, of later frames
        and of the gaps is dropped; frames before it must be there without a gap.
    flush_s
        Results are on disk, for readers and after a kill, after about this time.
    pause_s
        Rest between the columns of a flush. A live run asks for it: 20 columns in a row
        are 14 ms of work, for which the next frame would wait. In a run, a rest lasts
        until the next results come (`rest_with`).

    Raises
    ------
    InputError
        From `open`: the path exists, cannot be written, or is no live store.
    MissingExtraError
        From `open`: zarr is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        if_exists: Literal["fail", "overwrite", "resume"] = "fail",
        resume_at: int | None = None,
        flush_s: float = 1.0,
        pause_s: float = 0.0,
    ) -> None:
        if if_exists not in ("fail", "overwrite", "resume"):
            raise InputError(
                f'if_exists is "fail", "overwrite" or "resume", got {if_exists!r}'
            )
        self.path = Path(path)
        self._if_exists = if_exists
        self._resume_at = resume_at
        self._flush_s = flush_s
        self._rest: Callable[[], None] | None = None
        if pause_s > 0:
            self._rest = partial(time.sleep, pause_s)
        self._columns: dict[str, GrowingColumns] = {}
        self._root: Any = None
        self._made = False
        self._reasons: list[str] = []
        self._flushed_s = 0.0

    def rest_with(self, rest: Callable[[], None]) -> None:
        """Rest so between columns, if at all. Before `open`."""
        if self._rest is not None:
            self._rest = rest

    def open(self, meta: Mapping[str, Any]) -> None:
        """Make the store, or open it to go on."""
        zarr = import_zarr("The live store")
        resumed = self._prepare()
        self._made = resumed is None
        try:
            self._root = zarr.open_group(
                str(self.path), mode="w-" if resumed is None else "r+", zarr_format=3
            )
            attributes: dict[str, Any] = {
                FORMAT_KEY: FORMAT_VERSION,
                "finished": False,
                "meta": jsonable(meta),
            }
            if resumed is not None:
                attributes["meta"] = {**resumed.meta, **attributes["meta"]}
            self._root.update_attributes(attributes)
            for name, (dtype, chunk) in GROUPS.items():
                group = (
                    self._root.create_group(name)
                    if resumed is None
                    else self._root[name]
                )
                self._columns[name] = GrowingColumns(
                    group,
                    self.path / name,
                    dtype,
                    chunk,
                    units=UNITS,
                    rest=self._rest,
                    **self._kept(resumed, name, chunk),
                )
        except OSError as error:
            raise InputError(
                f"{self.path}: the live store cannot be made ({error}); choose a "
                f"folder on a disk with room that you may write to"
            ) from error
        self._flushed_s = time.monotonic()

    def write(self, results: Sequence[FrameResult]) -> None:
        """Buffer results; whole chunks are written at once."""
        before = len(self._columns["localizations"])
        # Rows before frames: a frame on disk has its rows on disk.
        rows = [result.localizations for result in results]
        if rows:
            self._columns["localizations"].append(np.concatenate(rows))
            self._columns["frames"].append(frame_records(results, before))
        self.tick()

    def gap(self, gap: Gap) -> None:
        """Buffer a gap."""
        if gap.reason not in self._reasons:
            self._reasons.append(gap.reason)
            self._root["gaps"].update_attributes({"reasons": self._reasons})
        row = (gap.first, gap.count, self._reasons.index(gap.reason))
        self._columns["gaps"].append(np.array([row], GAP_DTYPE))
        self.tick()

    def tick(self) -> None:
        """Write what has waited for `flush_s`."""
        if time.monotonic() - self._flushed_s >= self._flush_s:
            self.flush()

    def flush(self) -> None:
        """Write all that is buffered."""
        for columns in self._columns.values():
            columns.flush()
        self._flushed_s = time.monotonic()

    def close(self, meta: Mapping[str, Any]) -> Mapping[str, str]:
        """Write the rest, cut the arrays to length and mark the store as finished."""
        if self._root is None:
            return {}
        for columns in self._columns.values():
            columns.finish()
        self._root.update_attributes({"summary": jsonable(meta), "finished": True})
        self._root = None
        self._columns.clear()
        return {"zarr": str(self.path)}

    def discard(self) -> None:
        """Undo `open`, so that the name is free again; only while nothing is in it."""
        empty = not any(len(columns) for columns in self._columns.values())
        if self._root is not None and empty and self._made:
            self._root = None
            self._columns.clear()
            shutil.rmtree(self.path)
            return
        self.close({"failure": "the run did not begin"})

    def _prepare(self) -> LiveStoreReader | None:
        """Clear the way for a new store, or look at the one to go on with."""
        if not self.path.exists():
            return None
        if self._if_exists == "resume":
            return LiveStoreReader(self.path)
        if self._if_exists == "fail":
            raise InputError(
                f"{self.path} exists already and would be lost; choose another name, "
                f"or ask to overwrite or to resume it"
            )
        if not is_live_store(self.path):
            raise InputError(
                f"{self.path} is not a live store, so it is not overwritten; choose "
                f"another name"
            )
        try:
            shutil.rmtree(self.path)
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be replaced ({error}); close what has it open"
            ) from error
        return None

    def _kept(
        self, resumed: LiveStoreReader | None, name: str, chunk: int
    ) -> dict[str, Any]:
        """What to go on with: the number of rows and those of the open chunk."""
        if resumed is None:
            return {}
        frames = resumed.frames()
        if self._resume_at is not None:
            frames = frames[frames["index"] < self._resume_at]
        if name == "localizations":
            count = int(frames["rows_end"][-1]) if len(frames) else 0
            return {"kept": count, "tail": resumed.rows(count // chunk * chunk, count)}
        if name == "frames":
            rows = frames
        elif self._resume_at is not None:
            rows = np.empty(0, GAP_DTYPE)
        else:
            self._reasons = list(self._root["gaps"].attrs.get("reasons", []))
            rows = np.array(
                [
                    (g.first, g.count, self._reasons.index(g.reason))
                    for g in resumed.gaps()
                ],
                GAP_DTYPE,
            )
        return {"kept": len(rows), "tail": rows[len(rows) // chunk * chunk :]}
