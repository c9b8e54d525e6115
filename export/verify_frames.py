"""Simulated frames of a model's own card: to choose ranges on, and to measure loss on.

Design notes: knows cards and optics, neither graphs nor number types. The two kinds of
movies never share a seed, so that what is measured is not what was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.evaluation import (
    Condition,
    EvaluationSettings,
    condition_of,
    simulate_movie,
)
from blinkloop.optics.scene import Scene
from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.schema import ModelCard

__all__ = [
    "DENSITIES_PER_UM2",
    "Feed",
    "LossMovie",
    "calibration_feeds",
    "condition_beside",
    "densities_of",
    "feed_of",
    "loss_movies",
    "ordinary",
]

DENSITIES_PER_UM2 = (0.2, 1.0, 2.0)
"""At which a conversion is measured, where the card's range holds them."""

_PHOTONS, _BACKGROUND = 3000.0, 20.0
"""Ordinary emitters, where the card's ranges hold them; as `blinkloop evaluate`."""
_CALIBRATION_STREAM, _LOSS_STREAM = 1_000_000, 2_000_000
_CALIBRATION_FRAMES, _SIDE_PX = 6, 64

Feed = dict[str, npt.NDArray[np.float32]]
"""Input of the streaming graph -> value."""


@dataclass(frozen=True, slots=True)
class LossMovie:
    """A movie to measure on, and what it shows."""

    settings: EvaluationSettings
    scene: Scene


def condition_beside(card: ModelCard, folders: Sequence[Path]) -> Condition:
    """The card's own microscope; a measured PSF is looked for in some folders too.

    Raises
    ------
    InputError
        The PSF's file is in none of them, nor where the card says.
    """
    file = getattr(card.psf, "file", None)
    if file is None:
        return condition_of(card)
    # A run keeps its copy in a folder of its own; a person lays it beside the model.
    near = [folder / name for folder in folders for name in (file, Path(file).name)]
    for place in (*near, Path(file)):
        if place.is_file():
            return condition_of(card, psf_file=place)
    raise InputError(
        f"the model {card.name!r} was trained with the measured PSF {file}, without "
        f"which no frames can be simulated to check a conversion on; put that file "
        f"beside the model"
    )


def ordinary(card: ModelCard) -> tuple[float, float]:
    """Photons of an emitter and background photons that the card's ranges hold."""
    ranges = card.training_ranges
    return (
        float(np.clip(_PHOTONS, *ranges.photons)),
        float(np.clip(_BACKGROUND, *ranges.background_photons)),
    )


def densities_of(card: ModelCard) -> tuple[float, ...]:
    """Densities to measure a conversion at, per um^2: thinner for a wide PSF."""
    share = min(1.0, card.training_ranges.density_per_um2[1] / max(DENSITIES_PER_UM2))
    # Rounded down: still inside the range.
    return tuple(
        density if share == 1 else math.floor(1000 * density * share) / 1000
        for density in DENSITIES_PER_UM2
    )


def loss_movies(
    card: ModelCard,
    condition: Condition,
    *,
    seed: int,
    frames: int,
    densities: Sequence[float] | None = None,
) -> list[LossMovie]:
    """One movie for each density; the first, thinly filled one is twice as long."""
    photons, background = ordinary(card)
    densities = densities_of(card) if densities is None else densities
    movies = []
    for number, density in enumerate(densities):
        settings = EvaluationSettings(
            density_per_um2=density,
            flux_photons=photons,
            background_photons=background,
            frames=frames * (2 if density == min(densities) else 1),
            height_px=_SIDE_PX,
            width_px=_SIDE_PX,
            seed=_LOSS_STREAM + 10 * seed + number,
        )
        movies.append(LossMovie(settings, simulate_movie(card, settings, condition)))
    return movies


def calibration_feeds(
    card: ModelCard, condition: Condition, *, seed: int
) -> list[Feed]:
    """Inputs to choose number ranges on: from the dim to the bright end of the card.

    Half-way (in logarithms) between the ordinary and either end of the trained range:
    the ends themselves are rare, and 8 bits wasted on them are missing elsewhere.
    """
    photons, background = ordinary(card)
    ranges = card.training_ranges
    known = densities_of(card)
    cases = [(density, photons, background) for density in known]
    for end in (0, 1):
        flux = math.sqrt(photons * ranges.photons[end])
        # A background of zero has no logarithm; a photon is as dark.
        light = math.sqrt(background * max(ranges.background_photons[end], 1.0))
        cases.append((known[1] / 2, flux, light))
    feeds = []
    for number, (density, flux, light) in enumerate(cases):
        settings = EvaluationSettings(
            density_per_um2=density,
            flux_photons=flux,
            background_photons=light,
            frames=_CALIBRATION_FRAMES,
            height_px=_SIDE_PX,
            width_px=_SIDE_PX,
            seed=_CALIBRATION_STREAM + 10 * seed + number,
        )
        scene = simulate_movie(card, settings, condition)
        feeds.append(feed_of(card, condition, scene.frames_adu[0]))
    return feeds


def feed_of(
    card: ModelCard, condition: Condition, frames_adu: npt.NDArray[np.float32]
) -> Feed:
    """Inputs of the streaming graph for frames (T, H, W) that start a segment."""
    maps = make_camera_maps(condition.camera)
    grid = card.architecture.feature_size(*frames_adu.shape[1:])
    kept = (2, card.architecture.kept_channels, *grid)
    return {
        "frames": np.asarray(frames_adu, np.float32),
        "features_in": np.zeros(kept, np.float32),
        "segment_start": np.ones(1, np.float32),
        "offset_adu": maps.offset_adu,
        "photons_per_adu": maps.photons_per_adu,
        "threshold": np.array([card.detection.threshold], np.float32),
    }
