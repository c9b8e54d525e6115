"""Ground truth of a virtual acquisition, kept in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.schema import EMITTER_DTYPE, empty_emitters

__all__ = ["TRUTH_FRAME_DTYPE", "TruthLog"]

TRUTH_FRAME_DTYPE = np.dtype(
    [
        ("frame", "<i8"),
        ("time_s", "<f8"),
        ("power_mw", "<f8"),
        ("emitters", "<i8"),
        ("detectable", "<i8"),
        ("on_mean", "<f8"),
        ("dark", "<i8"),
        ("bleached", "<i8"),
        ("background_photons", "<f8"),
        ("exposure_ms", "<f8"),
        ("drift_x_nm", "<f8"),
        ("drift_y_nm", "<f8"),
        ("drift_z_nm", "<f8"),
    ]
)
"""One frame: its start in simulated time, the laser power in force, emitters that gave
light from within the field (the ROI), those of them with at least 50 photons, emitters
on averaged over the frame (whole sample), emitters left dark and bleached (whole
sample), mean background per pixel, exposure, and how far the sample has drifted (the
emitters' positions contain it)."""

_CHUNK_FRAMES = 256


class TruthLog:
    """Collects true emitters and per-frame facts; thread-safe.

    Frames are joined to chunks as they come, and the oldest chunks are dropped when
    more than `rows_max` emitter rows are held.

    Parameters
    ----------
    rows_max
        Emitter rows kept.
    """

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._chunks: deque[tuple[npt.NDArray[np.void], npt.NDArray[np.void]]] = deque()
        self._rows = 0
        self._open_emitters: list[npt.NDArray[np.void]] = []
        self._open_frames: list[npt.NDArray[np.void]] = []

    def clear(self) -> None:
        """Forget everything: a new acquisition starts."""
        with self._lock:
            self._clear()

    def add(
        self, emitters: npt.NDArray[np.void], frame_row: npt.NDArray[np.void]
    ) -> None:
        """Take the (n,) emitters of one frame and its (1,) row."""
        with self._lock:
            self._open_emitters.append(emitters)
            self._open_frames.append(frame_row)
            self._rows += emitters.size
            if len(self._open_frames) < _CHUNK_FRAMES:
                return
            self._chunks.append(
                (
                    np.concatenate(self._open_emitters),
                    np.concatenate(self._open_frames),
                )
            )
            self._open_emitters, self._open_frames = [], []
            while self._rows > self._rows_max and self._chunks:
                self._rows -= self._chunks.popleft()[0].size

    def tables(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Emitters (`EMITTER_DTYPE`) and frames (`TRUTH_FRAME_DTYPE`) so far."""
        with self._lock:
            emitters = [c[0] for c in self._chunks] + self._open_emitters
            frames = [c[1] for c in self._chunks] + self._open_frames
        return (
            np.concatenate([empty_emitters(), *emitters]).astype(EMITTER_DTYPE),
            np.concatenate([np.zeros(0, TRUTH_FRAME_DTYPE), *frames]),
        )

    def save(self, path: str | Path) -> Path:
        """Write both tables: `emitters` and `frames` in a .npz or .h5 file.

        Raises
        ------
        InputError
            For another ending.
        MissingExtraError
            .h5 without h5py.
        """
        path = Path(path)
        emitters, frames = self.tables()
        if path.suffix == ".npz":
            np.savez_compressed(path, emitters=emitters, frames=frames)
        elif path.suffix in (".h5", ".hdf5"):
            h5py = require("h5py", "Writing HDF5 files", "io")
            with h5py.File(path, "w") as file:
                file.create_dataset("emitters", data=emitters)
                file.create_dataset("frames", data=frames)
        else:
            raise InputError(
                f"truth is written as .npz or .h5, got {path.name!r}; change the ending"
            )
        return path
