"""Time the steps of a backend.

Design notes: frames hold emitters, because CPU backends compute a part of the network
where a detection is and nowhere else (`runtime/onnx_heads.py`). What is timed is all
between handing over frames and holding their detections.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.schema import ModelCard

__all__ = ["Case", "StepTimer", "make_frames"]

_DENSITY_PER_UM2 = 0.5
_SD_PX = 1.3
_REACH_PX = 5


@dataclass(frozen=True, slots=True)
class Case:
    """What is run.

    Parameters
    ----------
    height, width
        Of the frames, px.
    frames_per_call
        Frames handed over at once.
    """

    height: int
    width: int
    frames_per_call: int


def make_frames(card: ModelCard, case: Case) -> npt.NDArray[np.float32]:
    """(T, H, W) ADU with 0.5 emitters per um^2.

    On half of the largest background of training. Emitters are Gaussian spots of SD 1.3
    px with the photons in the middle of the training's range (geometric mean); noise is
    Poisson's.
    """
    maps = make_camera_maps(card.camera)
    rng = np.random.default_rng(0)
    ranges = card.training_ranges
    shape = (case.frames_per_call, case.height, case.width)
    mean = np.full(shape, max(1.0, ranges.background_photons[1] / 2))
    per_px = _DENSITY_PER_UM2 * (card.camera.pixel_size_nm / 1e3) ** 2
    count = rng.poisson(per_px * mean.size)
    flux = math.sqrt(math.prod(ranges.photons))
    around = np.arange(-_REACH_PX, _REACH_PX + 1)
    frame = rng.integers(shape[0], size=count)
    for y, x, t in zip(*rng.uniform(0, shape[1:], (count, 2)).T, frame, strict=True):
        rows, columns = int(y) + around, int(x) + around
        rows = rows[(rows >= 0) & (rows < shape[1])]
        columns = columns[(columns >= 0) & (columns < shape[2])]
        square = (rows[:, None] - y) ** 2 + (columns - x) ** 2
        spot = np.exp(-square / (2 * _SD_PX**2)) / (2 * math.pi * _SD_PX**2)
        mean[t, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += flux * spot
    photons = rng.poisson(mean).astype(np.float32)
    frames: npt.NDArray[np.float32] = photons / maps.photons_per_adu + maps.offset_adu
    return frames.astype(np.float32)


class StepTimer:
    """Calls something again and again and keeps the durations.

    Parameters
    ----------
    step
        One call.
    warm_up
        Calls that are not counted: kernels are chosen and memory is taken in them.
    """

    def __init__(self, step: Callable[[], object], *, warm_up: int = 3) -> None:
        self._step = step
        for _ in range(warm_up):
            step()

    def run(self, seconds: float) -> list[float]:
        """Durations in s of the calls made within about this time; at least one."""
        durations = []
        end = time.perf_counter() + seconds
        while True:
            begin = time.perf_counter()
            self._step()
            now = time.perf_counter()
            durations.append(now - begin)
            if now >= end:
                return durations
