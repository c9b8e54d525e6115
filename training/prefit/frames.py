"""Which frames of a movie are looked at, and whether they can tell anything.

Runs of consecutive frames, spread over the movie: blinking needs neighbours, drift of
the background needs the whole length.

Shapes: T frames of H x W px.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.noise_check import noise_ratio
from blinkloop.optics import Camera, pixel_variance

__all__ = ["PixelCheck", "choose_runs"]

_RUN_PX = 3e7
"""Pixels of a run at most: 120 MB as float32."""

_RUN_FRAMES = (20, 200)
FEWEST_FRAMES = 3
_SATURATED_SHARE = 1e-3
_ALWAYS, _FEW = 0.8, 0.02
"""Pixels that are full in this share of the frames do not count, when they are few."""

_BASELINE_SD = 1.0
"""The baseline is wrong when the median pixel is this many SD of the dark below 0."""


def choose_runs(
    n_frames: int, height: int, width: int, wanted: int
) -> list[tuple[int, int]]:
    """Stretches (start, stop) of a movie, in order, at equal distances.

    Parameters
    ----------
    n_frames, height, width
        Of the movie.
    wanted
        Frames to be read, about.

    Raises
    ------
    InputError
        When there are fewer than 3 frames: a full frame has one before and one after.
    """
    if n_frames < FEWEST_FRAMES:
        plural = "s" if n_frames > 1 else ""
        raise InputError(
            f"the movie has {n_frames} frame{plural}, but blinking is seen between "
            f"frames; give at least {FEWEST_FRAMES}, better some hundred, consecutive "
            f"frames"
        )
    if wanted >= n_frames and n_frames * height * width <= _RUN_PX:
        return [(0, n_frames)]
    fewest, most = _RUN_FRAMES
    length = int(np.clip(_RUN_PX / (height * width), fewest, most))
    length = min(length, max(wanted // 5, fewest), n_frames)
    count = max(1, min(wanted, n_frames) // length)
    starts = np.linspace(0, n_frames - length, count).astype(int)
    return [(int(start), int(start) + length) for start in starts]


@dataclass(slots=True)
class PixelCheck:
    """Looks at every run before it is used; remembers what the noise was.

    Parameters
    ----------
    camera
        What the frames are thought to come from.
    integers
        The movie stores whole numbers.
    """

    camera: Camera
    integers: bool
    seen: int = 0
    saturated: int = 0
    changed: bool = False
    ratios: list[float] | None = None

    def look(self, adu: npt.NDArray[Any], photons: npt.NDArray[np.float32]) -> None:
        """Take one run, (T, H, W) in ADU and in photons.

        Raises
        ------
        InputError
            When many pixels are saturated or most are darker than the baseline.
        """
        self.seen += adu.size
        full = self._full(adu)
        always = full.mean(0) > _ALWAYS
        if always.mean() < _FEW:
            # Hot pixels, and beads: they spoil no emitter but the one behind them.
            full &= ~always
        self.saturated += int(np.count_nonzero(full))
        self.changed |= bool((adu[1:] != adu[:-1]).any())
        share = self.saturated / self.seen
        if share > _SATURATED_SHARE:
            raise InputError(
                f"{100 * share:.3g} % of the pixels are saturated (at {adu.max():g} "
                f"ADU), so photons cannot be counted; record with less light, less "
                f"gain or a shorter exposure"
            )
        s = self.camera.settings
        median = float(np.median(photons))
        dark = float(np.median(pixel_variance(np.zeros((1, 1)), self.camera))) ** 0.5
        step = s.e_per_adu / (s.em_gain * s.quantum_efficiency)
        if median < -(_BASELINE_SD * dark + step):
            negative = float(np.mean(photons < 0))
            raise InputError(
                f"{100 * negative:.0f} % of the pixels are darker than the camera's "
                f"baseline of {s.baseline_adu:g} ADU (the median pixel is "
                f"{np.median(adu):g} ADU); give the true one with --baseline"
            )
        if len(photons) > 1:
            ratio = noise_ratio(photons, self.camera, integers=self.integers)
            self.ratios = [*(self.ratios or []), ratio]

    def finish(self) -> None:
        """After the last run.

        Raises
        ------
        InputError
            When nothing ever changed from one frame to the next.
        """
        if not self.changed:
            raise InputError(
                "all frames are the same, so there is no noise and no blinking; give a "
                "movie as the camera recorded it"
            )

    @property
    def noise_ratio(self) -> float:
        """SD of the noise over what the camera facts say; NaN when not known."""
        return float(np.median(self.ratios)) if self.ratios else float("nan")

    def _full(self, adu: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Pixels at the end of the range, or at a brightest value that many share."""
        top = adu.max()
        if self.integers and top >= 2**self.camera.settings.bit_depth - 1:
            return np.asarray(adu >= 2**self.camera.settings.bit_depth - 1)
        at_top = np.asarray(adu == top)
        # A brightest value by chance is one pixel or two, not a plateau.
        plateau = np.count_nonzero(at_top) > max(50, _SATURATED_SHARE * adu.size)
        bright = top > np.median(adu)
        return at_top if plateau and bright else np.zeros_like(at_top)
