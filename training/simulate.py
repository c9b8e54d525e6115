"""Simulated training samples, each batch with a random generator of its own.

The generator is seeded by (seed, stream, iteration): a resumed training sees the very
batches it would have seen without the interruption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training.recipe import Recipe

__all__ = ["Batch", "Simulator"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Simulated movies.

    Parameters
    ----------
    frames
        (S, T, H, W) float32 photons as the camera gives them back.
    background
        (S, H, W) expected background photons.
    emitters
        `EMITTER_DTYPE` rows with `frame` = movie * T + frame in the movie; all whose
        light is in the frames, also outside the field or below the photon floor.
    """

    frames: npt.NDArray[np.float32]
    background: npt.NDArray[np.float32]
    emitters: npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Simulator:
    """Draws batches for a recipe."""

    recipe: Recipe

    def batch(self, iteration: int, *, stream: int = 0) -> Batch:
        """Batch number `iteration` of random stream `stream` (0 = training)."""
        rng = np.random.default_rng([self.recipe.seed, stream, iteration])
        schedule, sample = self.recipe.schedule, self.recipe.sample
        psf, movies = self.recipe.psf, schedule.batch
        if not isinstance(psf, GaussianPsfSettings):
            raise InputError(
                f"no simulator for the PSF kind {psf.kind!r}; use kind: gaussian"
            )
        density = _log_uniform(rng, sample.density_per_um2, movies)
        density[rng.random(movies) < sample.empty_fraction] = 0.0
        camera = Camera(self.recipe.camera)
        scene = simulate_scene(
            rng,
            GaussianPsf(psf),
            camera,
            SceneSettings(
                n_frames=schedule.targets_per_movie + 2,
                height_px=schedule.patch_px,
                width_px=schedule.patch_px,
                pixel_size_nm=self.recipe.camera.pixel_size_nm,
                z_range_nm=psf.z_range_nm,
                margin_px=sample.margin_px,
                photons_relative_sd=sample.photons_relative_sd,
                background_structure=sample.background_structure,
            ),
            density_per_um2=density,
            photons=_log_uniform(rng, sample.photons, movies),
            background_photons=_log_uniform(rng, sample.background_photons, movies),
            on_time_frames=_log_uniform(rng, sample.on_time_frames, movies),
        )
        photons = camera.backward(scene.frames_adu)
        return Batch(photons, scene.background, scene.emitters)


def _log_uniform(
    rng: np.random.Generator, limits: tuple[float, float], count: int
) -> npt.NDArray[np.float64]:
    low, high = np.log(limits[0]), np.log(limits[1])
    return np.exp(rng.uniform(low, high, count))
