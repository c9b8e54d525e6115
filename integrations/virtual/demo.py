"""A virtual microscope that fits a model: what `blinkloop demo` looks at.

The plant. With R activations per frame in the field, an emitter touches tau + 1 frames
on average (tau = mean on-time in frames), so the number seen per frame is R (tau + 1).
R = dark emitters x activation rate per mW x power x exposure. Each activation bleaches
its emitter with probability b, so holding the target for n frames uses up b R n of the
pool, and the power must rise by pool / (pool - b R n) meanwhile. A structure does not
fill the field evenly, so the rate is set by the emitters that the very sample of this
seed has in the field.
"""

from __future__ import annotations

from typing import Literal

from blinkloop.errors import InputError
from blinkloop.integrations.virtual.settings import (
    BackgroundSettings,
    KineticsSettings,
    Structure,
    VirtualSettings,
)
from blinkloop.integrations.virtual.structures import (
    random_streams,
    sample_positions,
)
from blinkloop.schema import (
    GaussianPsfSettings,
    ModelCard,
    VariedGaussianPsfSettings,
)

__all__ = ["START_FACTORS", "demo_settings"]

START_FACTORS = {"low": 1 / 3.5, "right": 1.0, "high": 3.5}
"""Start density relative to the target; beyond 3 so that noise does not spoil it."""

_POWER_AT_START_MW = 2.0
_POWER_RISE = 2.2
_BLEACH_FRACTION = 0.5
_SPONTANEOUS_SHARE = 0.02
_DESIGN_SECONDS = 60.0
_WANTED_PHOTONS = 3000.0
_WANTED_BACKGROUND = 20.0
_WANTED_ON_TIME_FRAMES = 3.0


def demo_settings(
    card: ModelCard,
    *,
    target_per_um2: float = 0.5,
    start: Literal["low", "right", "high"] = "low",
    seconds: float = _DESIGN_SECONDS,
    exposure_ms: float = 20.0,
    width_px: int = 96,
    height_px: int = 64,
    structure: Structure = "filaments",
    seed: int = 0,
    realtime: bool = True,
) -> VirtualSettings:
    """Settings of a sample and microscope that the model was trained for.

    Parameters
    ----------
    card
        The model's card: pixel size, z range, PSF, camera, training ranges.
    target_per_um2
        Density (emitters per frame and um^2) to be held; the required power is
        2 mW at the start and about 4.4 mW after `seconds`, of at most 50 mW.
    start
        Power at the start: "low" gives 3.5 times too few emitters, "high" 3.5 times
        too many.
    seconds
        Length of the run that the bleaching is designed for.
    exposure_ms, width_px, height_px, structure, seed, realtime
        See `VirtualSettings`.

    Returns
    -------
    VirtualSettings

    Raises
    ------
    InputError
        A model whose PSF is not a Gaussian, or a target that is not positive.
    """
    psf, z_range_nm = card.psf, card.z_range_nm
    if isinstance(psf, VariedGaussianPsfSettings):
        psf = psf.middle()
        z_range_nm = psf.z_range_nm  # not told apart, but there
    if not isinstance(psf, GaussianPsfSettings):
        raise InputError(
            f"model {card.name!r} was trained for a measured PSF, which the virtual "
            "microscope does not have; take a model with a gaussian one"
        )
    if target_per_um2 <= 0:
        raise InputError(f"the target density must be positive, got {target_per_um2}")
    ranges = card.training_ranges
    on_time_frames = _within(_WANTED_ON_TIME_FRAMES, ranges.on_time_frames)
    low_nm, high_nm = z_range_nm
    bare = VirtualSettings(
        width_px=width_px, height_px=height_px, pixel_size_nm=card.pixel_size_nm
    )
    frames = max(seconds, 1.0) * 1000 / exposure_ms
    per_frame = target_per_um2 * bare.sample_um2 / (on_time_frames + 1)
    used_up = _BLEACH_FRACTION * per_frame * frames
    pool = round(used_up * _POWER_RISE / (_POWER_RISE - 1))
    sample = VirtualSettings(
        width_px=width_px,
        height_px=height_px,
        pixel_size_nm=card.pixel_size_nm,
        exposure_ms=exposure_ms,
        camera=card.camera,
        psf=psf,
        structure=structure,
        # The network is least sure at the ends of its z range.
        z_range_nm=(0.8 * low_nm, 0.8 * high_nm),
        n_emitters=pool,
        photons=_within(_WANTED_PHOTONS, ranges.photons),
        background=BackgroundSettings(
            photons=_within(_WANTED_BACKGROUND, ranges.background_photons),
            bleach_time_s=3 * max(seconds, 1.0),
        ),
        start_power_mw=_POWER_AT_START_MW * START_FACTORS[start],
        seed=seed,
        realtime=realtime,
    )
    sites = sample_positions(sample, random_streams(seed)[0])
    in_field = int(sample.in_field(sites[:, 0], sites[:, 1]).sum())
    wanted = target_per_um2 * sample.field_um2 / (on_time_frames + 1)
    rate_per_s = wanted / (max(in_field, 1) * exposure_ms / 1000)
    # What the imaging laser activates on its own: little against the target.
    spontaneous_per_s = _SPONTANEOUS_SHARE * rate_per_s
    kinetics = KineticsSettings(
        activation_per_mw_s=(rate_per_s - spontaneous_per_s) / _POWER_AT_START_MW,
        spontaneous_per_s=spontaneous_per_s,
        on_time_ms=on_time_frames * exposure_ms,
        bleach_fraction=_BLEACH_FRACTION,
    )
    return sample.model_copy(update={"kinetics": kinetics})


def _within(wanted: float, limits: tuple[float, float]) -> float:
    """The wanted value when the network has seen it, else the middle of its range."""
    low, high = limits
    return wanted if low <= wanted <= high else (low + high) / 2
