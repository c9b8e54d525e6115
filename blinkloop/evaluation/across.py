"""Accuracy across the whole range that a card claims, not in its middle alone.

Conditions are drawn as the training drew them: photons, background, density and on-time
log-uniformly from the card's ranges; of a range of PSFs also width, astigmatism, depth,
pixel size and camera. A drawn condition is one short movie.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.evaluation.condition import Condition, condition_of
from blinkloop.evaluation.measure import Measurement, measure
from blinkloop.evaluation.movie import Localize, simulate_movie
from blinkloop.evaluation.settings import EvaluationSettings
from blinkloop.metrics import Rules
from blinkloop.psf_file import load_psf
from blinkloop.schema import (
    CameraSettings,
    GaussianPsfSettings,
    ModelCard,
    VariedGaussianPsfSettings,
)

__all__ = ["draw_condition", "measure_across"]

_STREAM = 5
_PERCENTILES = (5, 25, 50, 75, 95)
_LOWEST_DENSITY_SHARE = 0.025
"""Of the upper end: where a card's range starts at 0, as log-uniform cannot."""
_SUMMARISED = (
    "jaccard",
    "precision",
    "recall",
    "rmse_lateral_nm",
    "rmse_axial_nm",
    "efficiency_lateral",
    "density_bias",
    "density_coverage",
    "z_score_sd_x",
)


def draw_condition(
    card: ModelCard, rng: np.random.Generator, base: Condition | None = None
) -> tuple[Condition, dict[str, float]]:
    """A microscope and a sample from the ranges of a card.

    Parameters
    ----------
    card
        Of the model.
    rng
        Source of the draw.
    base
        PSF and camera of a model that knows only one; None: those of the card.

    Returns
    -------
    tuple
        The condition, and `photons`, `background_photons`, `density_per_um2` and
        `on_time_frames`.
    """
    where = base or condition_of(card)
    if isinstance(card.psf, VariedGaussianPsfSettings):
        psf = _draw_psf(card.psf, rng)
        camera = _draw_camera(card, rng)
        where = Condition(load_psf(psf), psf, camera, psf.z_range_nm)
    ranges = card.training_ranges
    low, high = card.density_per_um2_at(where.pixel_size_nm)
    sample = {
        "background_photons": _log_uniform(rng, ranges.background_photons),
        "density_per_um2": _log_uniform(
            rng, (max(low, high * _LOWEST_DENSITY_SHARE), high)
        ),
        "on_time_frames": _log_uniform(rng, ranges.on_time_frames),
    }
    least = _least_photons(card, where, sample["background_photons"])
    top = ranges.photons[1]
    sample["photons"] = _log_uniform(
        rng, (min(max(ranges.photons[0], least), top), top)
    )
    return where, sample


def measure_across(
    card: ModelCard,
    localize: Localize,
    *,
    conditions: int,
    frames: int,
    height_px: int,
    width_px: int,
    threshold: float,
    rules: Rules,
    seed: int = 0,
    base: Condition | None = None,
) -> dict[str, Any]:
    """Accuracy in randomly drawn conditions.

    Parameters
    ----------
    card
        Of the model.
    localize
        The network.
    conditions, frames, height_px, width_px
        How many movies, and their size.
    threshold, rules, seed
        As for `Measurement`.
    base
        As for `draw_condition`.

    Returns
    -------
    dict
        `conditions` (how many), `frames`, `percentiles` (measure -> percentile ->
        value, of the conditions where it is defined) and `drawn`, one mapping for each
        condition: what was drawn, and what was measured.
    """
    if conditions < 1:
        raise InputError(f"evaluate: at least 1 condition is drawn, got {conditions}")
    rows = []
    for number in range(conditions):
        rng = np.random.default_rng([seed, _STREAM, number])
        where, sample = draw_condition(card, rng, base)
        settings = EvaluationSettings(
            density_per_um2=sample["density_per_um2"],
            flux_photons=sample["photons"],
            background_photons=sample["background_photons"],
            on_time_frames=sample["on_time_frames"],
            frames=frames,
            height_px=height_px,
            width_px=width_px,
            seed=int(rng.integers(2**31)),
        )
        scene = simulate_movie(card, settings, where)
        found = localize(scene.frames_adu[0], where.camera)
        how = Measurement(
            frames=frames,
            height_px=height_px,
            width_px=width_px,
            pixel_size_nm=where.pixel_size_nm,
            three_dimensional=card.three_dimensional,
            threshold=threshold,
            rules=rules,
            seed=seed,
        )
        rows.append(_row(measure(scene.emitters, found, how), where, sample))
    return {
        "conditions": conditions,
        "frames": frames,
        "percentiles": {name: _percentiles(rows, name) for name in _SUMMARISED},
        "drawn": rows,
    }


def _row(
    measured: Mapping[str, Any], where: Condition, sample: dict[str, float]
) -> dict[str, Any]:
    row: dict[str, Any] = dict(sample)
    row["pixel_size_nm"] = where.pixel_size_nm
    row["camera_kind"] = where.camera.kind
    row["read_noise_e"] = where.camera.read_noise_e
    if isinstance(where.settings, GaussianPsfSettings):
        row["psf_sigma_px"] = where.settings.sigma0_px
        row["astigmatism_nm"] = where.settings.astigmatism_nm
    for name in ("jaccard", "precision", "recall", "rmse_lateral_nm", "rmse_axial_nm"):
        row[name] = measured[name]
    row["efficiency_lateral"] = measured["efficiency_lateral"]
    row["density_bias"] = measured["density"]["bias"]
    row["density_coverage"] = measured["density"]["coverage"]
    row["z_score_sd_x"] = measured["calibration"]["z_scores"]["x"]["sd"]
    row["n_truth"] = measured["n_truth"]
    return row


def _percentiles(rows: list[dict[str, Any]], name: str) -> dict[str, float | None]:
    values = np.array([row[name] for row in rows], np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return {f"p{percent}": None for percent in _PERCENTILES}
    found = np.percentile(values, _PERCENTILES)
    return {
        f"p{percent}": float(value)
        for percent, value in zip(_PERCENTILES, found, strict=True)
    }


def _draw_psf(
    psf: VariedGaussianPsfSettings, rng: np.random.Generator
) -> GaussianPsfSettings:
    astigmatism = rng.uniform(*psf.astigmatism_nm) * rng.choice([-1.0, 1.0])
    if rng.random() < psf.symmetric_fraction:
        astigmatism = 0.0
    return GaussianPsfSettings(
        sigma0_px=_log_uniform(rng, psf.sigma0_px),
        astigmatism_nm=float(astigmatism),
        depth_nm=float(rng.uniform(*psf.depth_nm)),
        z_range_nm=psf.emitter_z_range_nm,
    )


def _draw_camera(card: ModelCard, rng: np.random.Generator) -> CameraSettings:
    """A camera as the recipe in the card's provenance varies them, or the card's."""
    low, high = card.pixel_size_range_nm or (card.pixel_size_nm,) * 2
    camera = card.camera.model_copy(
        update={"pixel_size_nm": _log_uniform(rng, (low, high))}
    )
    varied = _recipe(card).get("camera_variation")
    if not isinstance(varied, Mapping):
        return camera
    share = rng.random()
    facts: dict[str, Any] = {"e_per_adu": _log_uniform(rng, varied["e_per_adu"])}
    facts |= {"quantum_efficiency": 1.0, "spurious_e": 0.0, "em_gain": 1.0}
    if share < varied["ideal_fraction"]:
        facts |= {"kind": "ideal", "read_noise_e": 0.0}
    elif share < varied["ideal_fraction"] + varied["emccd_fraction"]:
        # Electrons are counted before the gain there, after it in a data sheet.
        gain = 300.0
        facts |= {
            "kind": "emccd",
            "em_gain": gain,
            "e_per_adu": facts["e_per_adu"] * gain,
            "read_noise_e": float(rng.uniform(*varied["emccd_read_noise_e"])) * gain,
            "spurious_e": float(rng.uniform(*varied["emccd_spurious_e"])),
        }
    else:
        facts |= {
            "kind": "scmos",
            "read_noise_e": float(rng.uniform(*varied["read_noise_e"])),
        }
    return camera.model_copy(update=facts)


def _least_photons(card: ModelCard, where: Condition, background: float) -> float:
    """Photons at which the mean emitter reaches the signal to noise of the recipe.

    N / sqrt(N + 4 pi s^2 (background + read noise^2)) in focus, solved for N.
    """
    ratio = _recipe(card).get("sample", {}).get("signal_to_noise_min", 0.0)
    if not ratio or not isinstance(where.settings, GaussianPsfSettings):
        return 0.0
    camera = where.camera
    gain = camera.em_gain if camera.kind == "emccd" else 1.0
    read = 0.0 if camera.kind == "ideal" else camera.read_noise_e / gain
    noise = 4 * math.pi * where.settings.sigma0_px**2 * (background + read**2)
    return float((ratio**2 + math.sqrt(ratio**4 + 4 * ratio**2 * noise)) / 2)


def _recipe(card: ModelCard) -> Mapping[str, Any]:
    recipe = card.provenance.get("recipe", {})
    return recipe if isinstance(recipe, Mapping) else {}


def _log_uniform(rng: np.random.Generator, limits: Any) -> float:
    low, high = (float(value) for value in limits)
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))
