"""Layout of the live store: what is kept per localization, per frame and per gap.

Every column is a 1D array of a Zarr v3 group. Arrays grow a chunk at a time; cells not
yet written hold the fill value, which no real cell holds: -1 for whole numbers, -inf
for the others. So a row is complete when none of its cells is a fill value, and a
reader needs no other sign that it may take it.

Design notes: names, types and conversions only; reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.records import FrameResult
from blinkloop.schema import LOCALIZATION_DTYPE

__all__ = [
    "CHUNK_FRAMES",
    "CHUNK_GAPS",
    "CHUNK_ROWS",
    "FORMAT_KEY",
    "FORMAT_VERSION",
    "FRAME_DTYPE",
    "GAP_DTYPE",
    "GROUPS",
    "UNITS",
    "complete_prefix",
    "fill_value",
    "frame_records",
]

FORMAT_KEY = "blinkloop_live_store"
FORMAT_VERSION = 1
CHUNK_ROWS = 32768
CHUNK_FRAMES = 4096
CHUNK_GAPS = 1024

FRAME_DTYPE = np.dtype(
    [
        ("index", "<i8"),
        ("timestamp_s", "<f8"),
        ("segment", "<i8"),
        ("localizations", "<i8"),
        ("rows_end", "<i8"),
        ("table_full", "<i2"),
        ("count_mean", "<f8"),
        ("count_variance", "<f8"),
    ]
)
"""One frame with a result. `rows_end`: localizations stored up to and with it."""

GAP_DTYPE = np.dtype([("first", "<i8"), ("count", "<i8"), ("reason", "<i4")])
"""One gap; `reason` is a position in the group attribute `reasons`."""

GROUPS = {
    "localizations": (LOCALIZATION_DTYPE, CHUNK_ROWS),
    "frames": (FRAME_DTYPE, CHUNK_FRAMES),
    "gaps": (GAP_DTYPE, CHUNK_GAPS),
}
"""Group name -> type of its rows and rows per chunk."""

UNITS = {
    "x_px": "px of the camera chip",
    "y_px": "px of the camera chip",
    "z_nm": "nm",
    "photons": "photons per frame",
    "background_photons": "photons per pixel and frame",
    "x_sigma_px": "px",
    "y_sigma_px": "px",
    "z_sigma_nm": "nm",
    "photons_sigma": "photons",
    "prob": "probability",
    "timestamp_s": "s since the start of the acquisition",
    "count_mean": "emitters per frame",
    "count_variance": "emitters^2",
}
"""Unit of every column that has one."""


def fill_value(dtype: np.dtype[np.generic]) -> float | int:
    """What a cell holds until it is written."""
    return -1 if dtype.kind == "i" else -np.inf


def complete_prefix(rows: npt.NDArray[np.void]) -> int:
    """How many rows at the front have every cell written."""
    complete = np.ones(len(rows), bool)
    for name in rows.dtype.names or ():
        complete &= rows[name] != fill_value(rows.dtype[name])
    return len(rows) if complete.all() else int(np.argmin(complete))


def frame_records(
    results: Sequence[FrameResult], rows_before: int
) -> npt.NDArray[np.void]:
    """(n,) of `FRAME_DTYPE` for results that follow `rows_before` stored rows."""
    records = np.empty(len(results), FRAME_DTYPE)
    counts = np.array([len(result.localizations) for result in results], np.int64)
    records["localizations"] = counts
    records["rows_end"] = rows_before + np.cumsum(counts)
    for name in (
        "index",
        "timestamp_s",
        "segment",
        "table_full",
        "count_mean",
        "count_variance",
    ):
        records[name] = [getattr(result, name) for result in results]
    return records
