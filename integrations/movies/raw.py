"""The raw data of a live run as a movie; see `blinkloop.runtime.raw`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.movie import MovieBase
from blinkloop.runtime.raw import RawStoreReader
from blinkloop.schema import CameraSettings

__all__ = ["RawMovie"]


class RawMovie(MovieBase):
    """Frames by their number; what was lost or not kept is a hole.

    Parameters
    ----------
    path
        Folder of the raw store; it may have been left by a kill.

    Raises
    ------
    InputError
        No raw store, or no frame in it.
    """

    def __init__(self, path: Path) -> None:
        self._store = RawStoreReader(path)
        rows = self._store.frames()
        self._numbers = rows["index"]
        self._times = rows["timestamp_s"]
        if not len(rows):
            raise InputError(f"{path}: no frame was kept before the run ended")
        n = int(self._numbers[-1]) + 1
        image = self._store.image
        super().__init__(path.name, (n, *image.shape[1:]), np.dtype(image.dtype))
        self._chunk = int(image.chunks[0])

    @property
    def store(self) -> RawStoreReader:
        """What else is kept there."""
        return self._store

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """(n,) numbers of the frames that are there, rising."""
        numbers: npt.NDArray[np.int64] = self._numbers.copy()
        return numbers

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip of the first pixel."""
        return self._store.roi.x, self._store.roi.y

    @property
    def holes(self) -> list[tuple[int, int]]:
        """(first, count) of frames that are not there."""
        edges = np.concatenate(([-1], self._numbers))
        after = np.flatnonzero(np.diff(edges) > 1)
        return [(int(edges[i]) + 1, int(edges[i + 1] - edges[i]) - 1) for i in after]

    def facts(self) -> Mapping[str, Any]:
        """Camera facts of the run, but for those only its model's card knew."""
        camera = self._store.meta.get("camera") or {}
        origin = self._store.meta.get("camera_origin") or {}
        return {
            key: camera[key]
            for key in CameraSettings.model_fields
            if key in camera and origin.get(key) != "model card"
        }

    def time_s(self, index: int) -> float:
        """When a frame came, s since the start of the acquisition."""
        row = int(np.searchsorted(self._numbers, index))
        return float(self._times[row])

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._read(start, stop, slice(None))

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        return self._read(start, stop, slice(top, bottom))

    def _read(self, start: int, stop: int, rows: slice) -> npt.NDArray[Any]:
        for chunk in range(start // self._chunk, (stop - 1) // self._chunk + 1):
            if not self._store.has_chunk(chunk) and self._wants(chunk):
                frame = max(chunk * self._chunk, start)
                raise self._broken(frame, "its file is missing, taken by a power cut")
        try:
            return np.asarray(self._store.image[start:stop, rows])
        except Exception as error:  # codecs differ in what they raise
            raise self._broken(start, f"{type(error).__name__}: {error}") from error

    def _wants(self, chunk: int) -> bool:
        """Whether a chunk should hold frames."""
        first, last = np.searchsorted(
            self._numbers, (chunk * self._chunk, (chunk + 1) * self._chunk)
        )
        return bool(last > first)
