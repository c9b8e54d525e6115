"""Raw camera frames on disk, beside the localizations: OME-Zarr 0.5.

Writing needs the extra "raw", reading the extra "io"; importing this package neither.
"""

from __future__ import annotations

from blinkloop.runtime.raw.completing import (
    frames_to_fit,
    gaps_of,
    merge_stores,
    runs_with_context,
)
from blinkloop.runtime.raw.layout import LASER_DTYPE, RAW_FRAME_DTYPE, is_raw_store
from blinkloop.runtime.raw.reader import RawStoreReader
from blinkloop.runtime.raw.recorder import DISK_BEHIND, RawRecorder
from blinkloop.runtime.raw.store import RawStore

__all__ = [
    "DISK_BEHIND",
    "LASER_DTYPE",
    "RAW_FRAME_DTYPE",
    "RawRecorder",
    "RawStore",
    "RawStoreReader",
    "frames_to_fit",
    "gaps_of",
    "is_raw_store",
    "merge_stores",
    "runs_with_context",
]
