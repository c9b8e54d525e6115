"""Time the steps of a backend.

Design notes: frames are noise at the background of the model's training range; the time
of a network does not depend on what it sees. What is timed is all between handing over
frames and holding their detections.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.schema import ModelCard

__all__ = ["Case", "StepTimer", "make_frames"]


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
    """(T, H, W) ADU: Poisson noise at half of the largest background of training."""
    maps = make_camera_maps(card.camera)
    rng = np.random.default_rng(0)
    mean = max(1.0, card.training_ranges.background_photons[1] / 2)
    shape = (case.frames_per_call, case.height, case.width)
    photons = rng.poisson(mean, shape).astype(np.float32)
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
