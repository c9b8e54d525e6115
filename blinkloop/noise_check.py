"""Whether the noise of frames is what the camera facts say.

Photons are ADU times what the facts claim, and nothing else in a movie contradicts a
wrong gain or baseline: spots look the same at any scale. The noise does: its variance
grows with the light by one photon per photon.

Shapes: T frames of H x W px.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics import Camera, pixel_variance

__all__ = ["NOISE_RATIOS", "NoiseCheck", "noise_ratio"]

NOISE_RATIOS = (0.75, 1.35)
"""SD of the noise over that of the camera facts between which these are believed."""

_FRAMES, _LEAST_FRAMES = 16, 4
_WINDOW_PX = 128
_AROUND_PX = 6
"""Light of a blinking emitter changes too, and is no noise: pixels so near to one in
either frame of a pair do not count."""

_LEAST_CHANGES = 500
_LEAST_PHOTOELECTRONS = 2.0
"""Below, counts have steps and tails: their median tells nothing of a variance. Above,
flat frames of sCMOS and EMCCD cameras gave 0.97 to 1.12."""


def noise_ratio(
    photons: npt.NDArray[np.float32],
    camera: Camera,
    *,
    integers: bool,
    usable: npt.NDArray[np.bool_] | None = None,
) -> float:
    """SD of the noise over what the camera facts say; NaN where frames are too few.

    Parameters
    ----------
    photons
        (T, H, W), consecutive frames in photons, not clipped.
    camera
        Whose facts made them photons.
    integers
        The movie stores whole numbers.
    usable
        (T // 2, H, W), pixels of each pair of frames that count; all by default.
    """
    pairs = photons[: 2 * (len(photons) // 2)].reshape(-1, 2, *photons.shape[1:])
    if not len(pairs):
        return float("nan")
    # Whole ADU have no median to speak of when the noise is small: steps are filled
    # evenly.
    s = camera.settings
    step = s.e_per_adu / (s.em_gain * s.quantum_efficiency) if integers else 0
    filling = np.random.default_rng(0).uniform(-0.5, 0.5, pairs[:, 0].shape)
    change = np.abs(pairs[:, 1] - pairs[:, 0] + step * filling)
    level = np.maximum(np.median(photons, 0), 0.0)
    variance = 2.0 * pixel_variance(level, camera) + step**2 / 12
    expected = np.sqrt(np.maximum(variance, 1e-6))
    ratios = change / expected
    ratios = ratios.ravel() if usable is None else ratios[usable]
    if not ratios.size:
        return float("nan")
    # 0.6745: median of the absolute value of a normal variable of SD 1.
    return float(np.median(ratios) / 0.6745)


class NoiseCheck:
    """Compares the noise of a run's first frames with the camera facts in use.

    Parameters
    ----------
    camera
        Whose facts make photons of ADU.
    """

    def __init__(self, camera: Camera) -> None:
        self._camera = camera
        self._photons: list[npt.NDArray[np.float32]] = []
        self._free: list[npt.NDArray[np.bool_]] = []
        self._last = -1
        self._integers = True

    @property
    def enough(self) -> bool:
        """No further frames are needed."""
        return len(self._photons) >= _FRAMES

    def add(
        self,
        index: int,
        photons: npt.NDArray[np.float32],
        x_px: npt.NDArray[Any],
        y_px: npt.NDArray[Any],
        *,
        integers: bool,
    ) -> None:
        """Take a frame; one that does not follow the last begins anew.

        Parameters
        ----------
        index
            Number of the frame.
        photons
            (H, W) in photons, not clipped: only where emitters were looked for.
        x_px, y_px
            Emitters found, in px from the first pixel of `photons`.
        integers
            The camera gave whole numbers.
        """
        if self.enough:
            return
        same = bool(self._photons) and self._photons[0].shape == _middle(photons)[0]
        if index != self._last + 1 or not same:
            self._photons, self._free = [], []
        self._last, self._integers = index, integers
        shape, top, left = _middle(photons)
        self._photons.append(
            photons[top : top + shape[0], left : left + shape[1]].copy()
        )
        free = np.ones(shape, bool)
        for x, y in zip(x_px - left, y_px - top, strict=True):
            row, column = round(float(y)), round(float(x))
            free[
                max(row - _AROUND_PX, 0) : max(row + _AROUND_PX + 1, 0),
                max(column - _AROUND_PX, 0) : max(column + _AROUND_PX + 1, 0),
            ] = False
        self._free.append(free)

    def ratio(self) -> float | None:
        """SD of the noise over what the facts say; None where it cannot be told."""
        count = len(self._photons) // 2 * 2
        if count < _LEAST_FRAMES:
            return None
        photons = np.stack(self._photons[:count])
        usable = np.stack(self._free[0:count:2]) & np.stack(self._free[1:count:2])
        settings = self._camera.settings
        if np.count_nonzero(usable) < _LEAST_CHANGES:
            return None
        # The mean: EM gain leaves the median below it.
        light = float(photons[::2][usable].mean()) * settings.quantum_efficiency
        if light < _LEAST_PHOTOELECTRONS:
            return None
        return noise_ratio(
            photons, self._camera, integers=self._integers, usable=usable
        )

    def warning(self) -> str | None:
        """One line when the facts cannot be right, else None."""
        ratio = self.ratio()
        low, high = NOISE_RATIOS
        if ratio is None or low <= ratio <= high:
            return None
        return (
            f"the noise of the frames is {ratio:.2f} times what the camera facts say: "
            f"photons, detections and densities hang on --baseline, --e-per-adu, "
            f"--em-gain and --read-noise; give those of this camera"
        )


def _middle(photons: npt.NDArray[Any]) -> tuple[tuple[int, int], int, int]:
    """Height and width of the middle that is kept, its first row and column."""
    height, width = (min(size, _WINDOW_PX) for size in photons.shape)
    rows, columns = photons.shape
    return (height, width), (rows - height) // 2, (columns - width) // 2
