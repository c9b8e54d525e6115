"""Photons to ADU and back: ideal, sCMOS (with maps) and EMCCD cameras.

Forward (REFERENCE section 6): electrons = Poisson(qe photons + spurious); EM: Gamma
with that shape and the gain as scale; + Normal(0, read noise); / e per ADU; + baseline;
to the nearest whole number; clip to the range of the ADC, so saturation is part of the
model. Nearest, where others round down: users measure the baseline as the mean of dark
frames, in which an ADC's way of rounding is contained. So dark frames have the mean
`baseline_adu`, and the way back is unbiased.
Back: ((ADU - baseline) e_per_adu / gain - spurious) / qe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from blinkloop.optics._namespace import Array, array_namespace, full_like_dtype
from blinkloop.schema import CameraSettings

__all__ = ["Camera", "draw_gamma", "draw_normal", "draw_poisson"]


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera as a noise model.

    Parameters
    ----------
    settings
        Data-sheet numbers.
    offset_map_adu, e_per_adu_map, read_noise_map_e
        sCMOS: (H, W) per pixel, in place of the numbers in `settings`.
    """

    settings: CameraSettings
    offset_map_adu: Array | None = None
    e_per_adu_map: Array | None = None
    read_noise_map_e: Array | None = None

    @property
    def saturation_adu(self) -> float:
        """Largest value of the ADC."""
        return float(2**self.settings.bit_depth - 1)

    def _fact(self, map_: Array | None, value: float, like: Array) -> Array:
        return full_like_dtype(value if map_ is None else map_, like)

    def forward(self, photons: Array, rng: Any) -> Array:
        """Expected photons (..., H, W) to ADU, whole numbers, float dtype of the input.

        Parameters
        ----------
        photons
            Expected photons per pixel, background included; not negative.
        rng
            `numpy.random.Generator`, or `torch.Generator` for tensors.
        """
        s = self.settings
        xp = array_namespace(photons)
        expected = s.quantum_efficiency * photons + s.spurious_e
        return self.read_out(draw_poisson(xp, expected, rng), rng)

    def read_out(self, electrons: Array, rng: Any) -> Array:
        """Electrons per pixel (..., H, W), whole numbers, to ADU; see `forward`."""
        s = self.settings
        xp = array_namespace(electrons)
        if s.kind == "emccd":
            electrons = draw_gamma(xp, electrons, s.em_gain, rng)
        if s.kind != "ideal":
            noise = self._fact(self.read_noise_map_e, s.read_noise_e, electrons)
            electrons = electrons + noise * draw_normal(xp, electrons, rng)
        per_adu = self._fact(self.e_per_adu_map, s.e_per_adu, electrons)
        offset = self._fact(self.offset_map_adu, s.baseline_adu, electrons)
        adu = xp.floor(electrons / per_adu + (offset + 0.5))
        return xp.clip(adu, 0, self.saturation_adu)

    def backward(self, adu: Array) -> Array:
        """ADU (..., H, W) of float dtype to photons, same shape; may be negative."""
        s = self.settings
        gain = s.em_gain if s.kind == "emccd" else 1.0
        per_adu = self._fact(self.e_per_adu_map, s.e_per_adu, adu)
        offset = self._fact(self.offset_map_adu, s.baseline_adu, adu)
        electrons = (adu - offset) * per_adu / gain
        return (electrons - s.spurious_e) / s.quantum_efficiency


def draw_poisson(xp: Any, expected: Array, rng: Any) -> Array:
    """Poisson numbers in the dtype of their means; `xp` is numpy or torch."""
    if xp is np:
        return rng.poisson(expected).astype(expected.dtype)
    return xp.poisson(expected, generator=rng)


def draw_normal(xp: Any, like: Array, rng: Any) -> Array:
    """Standard normal numbers in the shape and dtype of `like`."""
    if xp is np:
        return rng.standard_normal(like.shape, dtype=np.float32).astype(like.dtype)
    return xp.randn(like.shape, dtype=like.dtype, device=like.device, generator=rng)


def draw_gamma(xp: Any, electrons: Array, gain: float, rng: Any) -> Array:
    """Multiplied electrons; 0 stays 0."""
    if xp is np:
        dtype = np.float32 if electrons.dtype == np.float32 else np.float64
        multiplied = rng.standard_gamma(np.maximum(electrons, 1e-6), dtype=dtype) * gain
    else:
        multiplied = xp._standard_gamma(electrons.clamp(min=1e-6), generator=rng) * gain
    kept = xp.where(electrons > 0, multiplied, xp.zeros_like(electrons))
    return kept.astype(electrons.dtype) if xp is np else kept
