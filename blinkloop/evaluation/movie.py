"""Simulated movies for the evaluation, and what a localizer says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.evaluation.condition import Condition, condition_of
from blinkloop.evaluation.settings import EvaluationSettings
from blinkloop.optics.scene import Scene, SceneSettings, simulate_scene
from blinkloop.schema import CameraSettings, ModelCard

__all__ = ["Localize", "Localized", "simulate_movie"]


@dataclass(frozen=True, slots=True)
class Localized:
    """What a network says of a movie of T frames.

    Parameters
    ----------
    table
        `LOCALIZATION_DTYPE`, frames 0 .. T - 1; those below the detection threshold may
        be among them.
    count_mean, count_variance
        (T,) number of emitters and its variance, as the graph gives them.
    blocks
        (T, Hb, Wb) sum p in blocks of `block_px` x `block_px`, the last ones partial.
    p_floor
        Smallest p of the network.
    seconds
        Time it took.
    block_px
        Side of a block.
    """

    table: npt.NDArray[np.void]
    count_mean: npt.NDArray[np.float64]
    count_variance: npt.NDArray[np.float64]
    blocks: npt.NDArray[np.float32]
    p_floor: float
    seconds: float
    block_px: int = 8

    def above(self, threshold: float) -> Localized:
        """Without the localizations whose score does not reach the threshold."""
        # The graph compares in float32.
        kept = self.table[self.table["prob"] >= np.float32(threshold)]
        return replace(self, table=kept)


Localize = Callable[[npt.NDArray[Any], CameraSettings], Localized]
"""Localizes frames (T, H, W) in ADU of a camera; who does it is decided outside."""


def simulate_movie(
    card: ModelCard, settings: EvaluationSettings, condition: Condition | None = None
) -> Scene:
    """One movie; `frames_adu` is (1, T, H, W).

    Parameters
    ----------
    card
        Of the model.
    settings
        Emitters, size and seed.
    condition
        Microscope; None: that of the card.

    Raises
    ------
    InputError
        The PSF of the card cannot be loaded.
    """
    where = condition or condition_of(card)
    rng = np.random.default_rng([settings.seed, 0])
    return simulate_scene(
        rng,
        where.psf,
        where.noise,
        SceneSettings(
            n_frames=settings.frames,
            height_px=settings.height_px,
            width_px=settings.width_px,
            pixel_size_nm=where.pixel_size_nm,
            z_range_nm=where.z_range_nm,
            photons_relative_sd=settings.flux_relative_sd,
        ),
        density_per_um2=np.array([settings.density_per_um2]),
        photons=np.array([settings.flux_photons]),
        background_photons=np.array([settings.background_photons]),
        on_time_frames=np.array([settings.on_time_frames]),
    )
