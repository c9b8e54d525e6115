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

from blinkloop.optics import GaussianPsf
from blinkloop.optics.emitter_image import emitter_image
from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.schema import GaussianPsfSettings, ModelCard

__all__ = ["Case", "StepTimer", "make_frames"]

_DENSITY_PER_UM2 = 0.5
_SD_PX = 1.3


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
    ranges, height, width = card.training_ranges, case.height, case.width
    psf = GaussianPsf(GaussianPsfSettings(sigma0_px=_SD_PX, z_range_nm=(0.0, 0.0)))
    flux = math.sqrt(math.prod(ranges.photons))
    area_um2 = height * width * (card.camera.pixel_size_nm / 1e3) ** 2
    background = max(1.0, ranges.background_photons[1] / 2)
    photons = np.empty((case.frames_per_call, height, width), np.float32)
    for frame in photons:
        count = rng.poisson(_DENSITY_PER_UM2 * area_um2)
        places = rng.uniform(-0.5, (width - 0.5, height - 0.5, -0.5), (count, 3))
        light = emitter_image(psf, places, np.full(count, flux), height, width)
        frame[...] = rng.poisson(background + light)
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
