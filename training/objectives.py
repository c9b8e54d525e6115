"""Objectives with aberrations as spline PSFs, made once per process.

Design notes: draws the facts and samples the pupils; how movies get one of them is
`training.microscopes`' business.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from blinkloop.optics import SplinePsf
from blinkloop.optics.pupil import ZERNIKE_TERMS, Pupil
from blinkloop.schema import ObjectiveSettings, VariedGaussianPsfSettings
from blinkloop.training.calibration.spline_fit import spline_coefficients

__all__ = ["make_objectives"]

_HALF_PX = 10
_STEP_NM = 50.0
_OBLIQUE, _STRAIGHT = 0, 1
"""Places of the two astigmatisms among the Zernike terms."""


@functools.lru_cache(maxsize=2)
def make_objectives(settings: VariedGaussianPsfSettings) -> tuple[SplinePsf, ...]:
    """The spline PSFs that `settings.objectives` describes; () without it.

    Their spots in focus are as wide as `sigma0_px` asks for, which makes the size of
    a pixel. The light in the window is 1 in focus.
    """
    facts = settings.objectives
    if facts is None:
        return ()
    rng = np.random.default_rng(facts.seed)
    return tuple(_draw(settings, facts, rng) for _ in range(facts.count))


def _draw(
    settings: VariedGaussianPsfSettings,
    facts: ObjectiveSettings,
    rng: np.random.Generator,
) -> SplinePsf:
    waves = rng.standard_normal(ZERNIKE_TERMS)
    waves *= rng.uniform(*facts.aberration_waves) / np.linalg.norm(waves)
    more, turn = rng.uniform(*facts.astigmatism_waves), rng.uniform(0, 2 * np.pi)
    if rng.random() >= settings.symmetric_fraction:
        waves[_OBLIQUE] += more * math.sin(turn)
        waves[_STRAIGHT] += more * math.cos(turn)
    pupil = Pupil(
        float(rng.uniform(*facts.numerical_aperture)),
        float(rng.uniform(*facts.wavelength_nm)),
        tuple(waves.tolist()),
    )
    sigma0_px = float(np.exp(rng.uniform(*np.log(settings.sigma0_px))))
    focus_nm = float(rng.uniform(*facts.focus_nm))
    low, high = settings.emitter_z_range_nm
    count = max(math.ceil((high - low) / _STEP_NM), 1) + 1
    # A spline reads its slices from above (`SplinePsf`).
    heights = np.linspace(high, low, count)
    dz_nm = (high - low) / (count - 1) or _STEP_NM
    pixel_nm = pupil.sigma_nm / sigma0_px
    samples = pupil.samples((heights - focus_nm).tolist(), pixel_nm, _HALF_PX)
    samples /= samples[np.abs(heights).argmin()].sum()
    coefficients = spline_coefficients(samples.transpose(2, 1, 0), closed=True)
    reference = (float(_HALF_PX), float(_HALF_PX), high / dz_nm)
    return SplinePsf(coefficients.astype(np.float32), reference, dz_nm)
