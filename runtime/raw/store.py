"""Writes a raw store: camera frames as OME-Zarr 0.5, readable while it grows.

The folders and their metadata are laid out by yaozarrs (BSD-3-Clause), the part of
ome-writers that knows OME-Zarr; the chunks are written whole, each by a file that is
renamed when it is complete, so a process that is killed leaves no torn one.

Design notes
------------
* Not the streams of ome-writers 0.3.2 or acquire-zarr 0.10.0, which were tried: the
  first cannot keep several frames per file when their number is unknown (IndexError),
  and with one per file wrote 40 frames/s of 64 x 64 px here; neither can write a chunk
  that is still open, or leave out frames without filling them.
* Knows neither threads nor queues nor why frames are missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.runtime.raw.layout import (
    COLUMNS,
    IMAGE,
    RAW_FRAME_DTYPE,
    RAW_KEY,
    RAW_UNITS,
    RAW_VERSION,
    chunk_frames,
)
from blinkloop.runtime.records import Gap, Roi
from blinkloop.runtime.report import jsonable
from blinkloop.runtime.sinks.growing import GrowingColumns, retry_refused
from blinkloop.runtime.sinks.layout import GAP_DTYPE

__all__ = ["RawStore"]

_MOST_REASONS = 1000
_OTHER = "see the log beside the localizations"


class RawStore:
    """One raw store being written. Used from one thread at a time.

    Parameters
    ----------
    path
        Folder to make; by custom its name ends in .ome.zarr.
    roi, dtype
        Of every frame.
    frames_per_chunk
        Frames per file; None = about 2 MiB.
    """

    def __init__(
        self,
        path: str | Path,
        roi: Roi,
        dtype: npt.DTypeLike,
        *,
        frames_per_chunk: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.roi = roi
        self.dtype = np.dtype(dtype)
        frame_bytes = roi.width * roi.height * self.dtype.itemsize
        self.frames_per_chunk = frames_per_chunk or chunk_frames(frame_bytes)
        self._root: Any = None
        self._image: Any = None
        self._columns: dict[str, GrowingColumns] = {}
        self._reasons: dict[str, list[str]] = {"gaps": [], "laser": []}
        self._attributes: dict[str, Any] = {}
        self._end = 0

    def __len__(self) -> int:
        """Frames written."""
        return len(self._columns["frames"]) if self._columns else 0

    def open(self, meta: Mapping[str, Any]) -> None:
        """Make the store.

        Parameters
        ----------
        meta
            Facts of the run. `pixel_size_nm` and the camera's `exposure_ms`, when
            there, become the scale of the image.

        Raises
        ------
        InputError
            The path exists already, or nothing can be written there.
        MissingExtraError
            A package of the extra "raw" is not installed.
        """
        zarr = require("zarr", "Keeping raw data", "raw")
        yao = require("yaozarrs", "Keeping raw data", "raw")
        write = require("yaozarrs.write.v05", "Keeping raw data", "raw")
        if self.path.exists():
            raise InputError(
                f"{self.path} exists already and raw data are never overwritten; "
                f"choose another name"
            )
        shape = (self.frames_per_chunk, self.roi.height, self.roi.width)
        self._attributes = {
            "version": RAW_VERSION,
            "finished": False,
            "roi_px": [self.roi.x, self.roi.y, self.roi.width, self.roi.height],
            "meta": jsonable(meta),
        }
        axes = _axes(yao.DimSpec, shape, meta)
        image = yao.v05.Image(multiscales=[yao.v05.Multiscale.from_dims(axes)])
        try:
            # From here on, or a folder above is missing for a reason that is ours.
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write.prepare_image(
                self.path,
                image,
                datasets=[(shape, self.dtype)],
                extra_attributes={RAW_KEY: self._attributes},
                writer="zarr",
                chunks=shape,
                compression="blosc-lz4",
            )
            self._root = zarr.open_group(str(self.path), mode="r+", zarr_format=3)
            # A chunk that is not there must mean that it was never written.
            self._image = self._root[IMAGE].with_config({"write_empty_chunks": True})
            for name, (dtype, chunk) in COLUMNS.items():
                group = self._root.create_group(name)
                self._columns[name] = GrowingColumns(
                    group, self.path / name, dtype, chunk, units=RAW_UNITS
                )
        except OSError as error:
            raise InputError(
                f"{self.path}: the raw data cannot be kept there ({error}); choose a "
                f"folder on a disk with room that you may write to"
            ) from error

    def write(
        self,
        chunk: int,
        pixels: npt.NDArray[Any],
        rows: npt.NDArray[np.void],
    ) -> None:
        """Write a chunk, whole or as far as it is filled, then its new rows.

        Parameters
        ----------
        chunk
            Its number; it holds frames chunk * n .. (chunk + 1) * n - 1.
        pixels
            (n, height, width) of the whole chunk; 0 where there is no frame.
        rows
            Of `RAW_FRAME_DTYPE`: frames of the chunk not told before.

        Raises
        ------
        OSError
            The disk is full, or the store is gone.
        """
        if not (self.path / "zarr.json").is_file():
            # Without this look, zarr would make the folders anew.
            raise FileNotFoundError("the store was moved or deleted during the run")
        n = self.frames_per_chunk
        start, stop = chunk * n, (chunk + 1) * n
        image = self._image
        if image.shape[0] < stop:
            size = (stop, self.roi.height, self.roi.width)
            retry_refused(partial(image.resize, size))
        retry_refused(partial(image.set_basic_selection, slice(start, stop), pixels))
        if len(rows):
            # A frame on the disk has the gaps before it there too.
            self._columns["gaps"].flush()
            self._columns["frames"].append(rows.astype(RAW_FRAME_DTYPE))
            self._end = max(self._end, int(rows["index"][-1]) + 1)

    def gap(self, gap: Gap) -> None:
        """Note frames that will never be here."""
        row = (gap.first, gap.count, self._reason("gaps", gap.reason))
        self._columns["gaps"].append(np.array([row], GAP_DTYPE))

    def laser(self, numbers: npt.NDArray[np.void], reasons: Sequence[str]) -> None:
        """Add rows of the laser log; the column `reason` is set from the words."""
        for row, words in zip(numbers, reasons, strict=True):
            row["reason"] = self._reason("laser", words)
        self._columns["laser"].append(numbers)

    def flush(self) -> None:
        """Write the rows that wait."""
        for columns in self._columns.values():
            columns.flush()

    def close(self, meta: Mapping[str, Any]) -> None:
        """Cut the arrays to their length and mark the store as finished."""
        if self._root is None:
            return
        for columns in self._columns.values():
            columns.finish()
        # Some readers refuse an image without a frame.
        length = self._end or self._image.shape[0]
        self._image.resize((length, self.roi.height, self.roi.width))
        self._attributes |= {"finished": True, "summary": jsonable(meta)}
        self._root.update_attributes({RAW_KEY: self._attributes})
        self._root = None

    def discard(self) -> None:
        """Undo `open`; only while no frame is in it."""
        if self._root is not None and len(self) == 0:
            self._root = None
            shutil.rmtree(self.path, ignore_errors=True)

    def _reason(self, group: str, words: str) -> int:
        known = self._reasons[group]
        if words in known:
            return known.index(words)
        if len(known) >= _MOST_REASONS:
            words = _OTHER
        if words not in known:
            known.append(words)
            self._root[group].update_attributes({"reasons": known})
        return known.index(words)


def _axes(dim: Any, shape: tuple[int, int, int], meta: Mapping[str, Any]) -> list[Any]:
    """Time in s and space in um where they are known, frames and px otherwise."""
    exposure_ms = (meta.get("camera") or {}).get("exposure_ms")
    pixel_nm = meta.get("pixel_size_nm")
    time: dict[str, Any] = {}
    if exposure_ms:
        time = {"unit": "second", "scale": float(exposure_ms) / 1000.0}
    space: dict[str, Any] = {}
    if pixel_nm:
        space = {"unit": "micrometer", "scale": float(pixel_nm) / 1000.0}
    return [
        dim(name="t", size=shape[0], type="time", **time),
        dim(name="y", size=shape[1], type="space", **space),
        dim(name="x", size=shape[2], type="space", **space),
    ]
