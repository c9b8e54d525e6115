"""What was measured, as the recipe of a network that is to serve this movie.

A recipe's ranges are those of means that simulated movies draw; each is wider than
what one movie told, for the next movie will be a little different.
"""

from __future__ import annotations

import math

from blinkloop.schema import CameraSettings, GaussianPsfSettings, PsfSettings
from blinkloop.training.prefit.psf_width import PsfWidth
from blinkloop.training.prefit.records import Measured
from blinkloop.training.recipe import Recipe

__all__ = ["make_recipe"]

_PHOTONS = 2.0
"""Movies of half and of twice the mean flux: lasers and depth differ."""

_ON_TIME = 1.5
_DENSITY = 2.0
_BACKGROUND = 1.2
_LEAST_BACKGROUND = 0.1
_RELATIVE_SD = (0.05, 1.0)


def make_recipe(
    base: Recipe,
    measured: Measured,
    camera: CameraSettings,
    *,
    psf: PsfSettings | None = None,
    name: str,
    description: str,
) -> Recipe:
    """A complete recipe.

    Parameters
    ----------
    base
        Knows all that a movie does not: network, loss, schedule, and the focal depth of
        a Gaussian PSF.
    measured
        Facts of the movie.
    camera
        What the movie was recorded with.
    psf
        Calibrated PSF; None: a Gaussian of the measured width.
    name, description
        Of the recipe.
    """
    chosen = psf or _gaussian(measured.width, base.psf)
    flux, time, density = measured.photons, measured.on_time, measured.density_per_um2
    low, high = measured.background_range
    middle = measured.background.value
    base_low, base_high = base.sample.density_per_um2
    longest = min(time.high, 2 * time.value)
    sample = base.sample.model_copy(
        update={
            "photons": _rounded(flux.value / _PHOTONS, flux.value * _PHOTONS),
            "photons_relative_sd": _round(_clip(measured.photons_relative_sd)),
            "background_photons": _rounded(
                max(min(low, middle / _BACKGROUND), _LEAST_BACKGROUND),
                max(high, middle * _BACKGROUND, 2 * _LEAST_BACKGROUND),
            ),
            "on_time_frames": _rounded(
                max(min(time.low, time.value / _ON_TIME), 0.3),
                max(longest, time.value * _ON_TIME),
            ),
            "density_per_um2": _rounded(
                min(base_low, density.value / _DENSITY),
                max(base_high, density.value * _DENSITY),
            ),
            "photons_floor": min(base.sample.photons_floor, _round(flux.value / 10)),
        }
    )
    data = base.model_dump() | {
        "name": name,
        "description": description,
        "psf": chosen.model_dump(),
        "camera": camera.model_dump(),
        # The camera is known, and the units follow from the new ranges.
        "camera_variation": None,
        "network_units": None,
        "sample": sample.model_dump(),
        # The machine that trains is not the base recipe's.
        "schedule": base.schedule.model_dump() | {"precision": "auto"},
    }
    return Recipe.model_validate(data)


def _gaussian(width: PsfWidth | None, base: PsfSettings) -> GaussianPsfSettings:
    known = base if isinstance(base, GaussianPsfSettings) else GaussianPsfSettings()
    if width is None:
        return known
    update = {"sigma0_px": _round(width.sigma0_px)}
    if width.astigmatism == 0:
        return known.model_copy(
            update={**update, "astigmatism_nm": 0.0, "z_range_nm": (0.0, 0.0)}
        )
    sign = math.copysign(1.0, known.astigmatism_nm)
    low, high = known.z_range_nm
    if not high > low:
        low, high = GaussianPsfSettings().z_range_nm
    return known.model_copy(
        update={
            **update,
            "astigmatism_nm": _round(sign * width.astigmatism * known.depth_nm),
            "z_range_nm": (low, high),
        }
    )


def _clip(relative_sd: float) -> float:
    low, high = _RELATIVE_SD
    return min(max(relative_sd, low), high)


def _rounded(low: float, high: float) -> tuple[float, float]:
    return _round(low), _round(high)


def _round(value: float) -> float:
    """Three digits: what is measured is not known better."""
    return float(f"{value:.3g}")
