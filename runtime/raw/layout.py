"""Layout of a raw store: an OME-Zarr 0.5 image with what is known of every frame.

    store/            attributes: `ome` (0.5), `blinkloop_raw` (version, finished, meta)
      0/              (frame number, row, column), ADU; one file per chunk of frames
      frames/<col>    one row per frame that is on the disk
      gaps/<col>      frames that are not; attribute `reasons` holds the words
      laser/<col>     the laser log; attribute `reasons` holds the words

A frame lies where its number says, so time is right in any viewer; positions of missing
frames hold 0 and have no row in `frames`. A row is written after the pixels.

Design notes: names, types and sizes only; reads and writes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from blinkloop.runtime.sinks.layout import CHUNK_FRAMES, CHUNK_GAPS, GAP_DTYPE

__all__ = [
    "COLUMNS",
    "IMAGE",
    "LASER_DTYPE",
    "RAW_FRAME_DTYPE",
    "RAW_KEY",
    "RAW_UNITS",
    "RAW_VERSION",
    "chunk_frames",
    "is_raw_store",
]

RAW_KEY = "blinkloop_raw"
RAW_VERSION = 1
IMAGE = "0"
"""Path of the only resolution level."""

RAW_FRAME_DTYPE = np.dtype([("index", "<i8"), ("timestamp_s", "<f8")])

LASER_DTYPE = np.dtype(
    [
        ("timestamp_s", "<f8"),
        ("frame", "<f8"),
        ("requested", "<f8"),
        ("written", "<f8"),
        ("read_back", "<f8"),
        ("smoothed_per_um2", "<f8"),
        ("target_per_um2", "<f8"),
        ("dose", "<f8"),
        ("reason", "<i4"),
    ]
)
"""One command; NaN = none. `frame`: the one whose estimate caused it."""

COLUMNS = {
    "frames": (RAW_FRAME_DTYPE, CHUNK_FRAMES),
    "gaps": (GAP_DTYPE, CHUNK_GAPS),
    "laser": (LASER_DTYPE, CHUNK_GAPS),
}
"""Group name -> type of its rows and rows per chunk."""

RAW_UNITS = {
    "timestamp_s": "s",
    "smoothed_per_um2": "um^-2",
    "target_per_um2": "um^-2",
    "requested": "unit of the laser property",
    "written": "unit of the laser property",
    "read_back": "unit of the laser property",
    "dose": "unit of the laser property times s",
}

_CHUNK_BYTES = 2 * 2**20
_MOST_FRAMES = 256


def chunk_frames(frame_bytes: int) -> int:
    """Frames per file: about 2 MiB of pixels, 1 to 256 frames."""
    return min(max(_CHUNK_BYTES // max(frame_bytes, 1), 1), _MOST_FRAMES)


def is_raw_store(path: Path) -> bool:
    """Whether a folder is a raw store of any version; never raises."""
    try:
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return RAW_KEY in root["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
