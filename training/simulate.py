"""Simulated training samples, each batch with a random generator of its own.

The generator is seeded by (seed, stream, iteration): a resumed training sees the very
batches it would have seen without the interruption.

Shapes: S movies, T frames each, H x W px.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics import Camera
from blinkloop.optics.efficient import Estimates
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.optics.varied import VariedCamera
from blinkloop.schema import VariedGaussianPsfSettings
from blinkloop.training.estimates import estimates_of
from blinkloop.training.microscopes import (
    camera_of,
    footprint_px,
    psf_of,
)
from blinkloop.training.recipe import Recipe

__all__ = ["Batch", "Conditions", "Simulator", "simulate_movies"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Simulated movies.

    Parameters
    ----------
    frames
        (S, T, H, W) float32 photons as the camera gives them back; a tensor when torch
        formed them.
    background
        (S, H, W) expected background photons; (S, T, H, W) when it changes from frame
        to frame.
    emitters
        `EMITTER_DTYPE` rows with `frame` = movie * T + frame in the movie; all whose
        light is in the frames, also outside the field or below the photon floor. For a
        network without z (z range (0, 0)), z is 0, wherever the emitter was drawn.
    density_per_um2
        (S,) mean density each movie was drawn with, 0 where emitters keep apart; None:
        not known.
    estimates
        Of the rows of `emitters`, when the recipe asks for them.
    """

    frames: Any
    background: npt.NDArray[np.float32]
    emitters: npt.NDArray[np.void]
    density_per_um2: Floats | None = None
    estimates: Estimates | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """Mean values of each movie, (S,) each; see `simulate_scene`."""

    density_per_um2: Floats
    photons: Floats
    background_photons: Floats
    on_time_frames: Floats


@dataclass(frozen=True, slots=True)
class Simulator:
    """Draws batches for a recipe.

    Parameters
    ----------
    recipe
        What to simulate.
    folder
        Paths in the recipe (a measured PSF) are relative to it.
    device
        torch device that forms the images ("cpu", "cuda"); None: NumPy. Other random
        numbers, the same statistics.
    """

    recipe: Recipe
    folder: Path = Path()
    device: str | None = None

    def batch(self, iteration: int, *, stream: int = 0) -> Batch:
        """Batch number `iteration` of random stream `stream` (0 = training)."""
        rng = np.random.default_rng([self.recipe.seed, stream, iteration])
        schedule, sample = self.recipe.schedule, self.recipe.sample
        movies = schedule.batch
        density = _log_uniform(rng, sample.density_per_um2, movies)
        density[rng.random(movies) < sample.empty_fraction] = 0.0
        conditions = Conditions(
            density,
            _log_uniform(rng, sample.photons, movies),
            _log_uniform(rng, sample.background_photons, movies),
            _log_uniform(rng, sample.on_time_frames, movies),
        )
        return simulate_movies(
            self.recipe,
            rng,
            conditions,
            n_frames=schedule.targets_per_movie + 2,
            folder=self.folder,
            images=self._images(rng),
        )

    def _images(self, rng: np.random.Generator) -> Any:
        """Torch generator of one batch."""
        if self.device is None:
            return None
        import torch

        seed = int(rng.integers(2**63))
        return torch.Generator(self.device).manual_seed(seed)


def simulate_movies(
    recipe: Recipe,
    rng: np.random.Generator,
    conditions: Conditions,
    *,
    n_frames: int,
    folder: Path = Path(),
    images: Any = None,
) -> Batch:
    """Movies of a recipe's PSF, cameras and background under given conditions.

    Parameters
    ----------
    recipe
        What to simulate; patches have the size of its schedule.
    rng
        Source of all randomness.
    conditions
        One entry per movie. Photons below `signal_to_noise_min` are drawn again.
    n_frames
        Length of each movie.
    folder
        Paths in the recipe are relative to it.
    images
        `torch.Generator` on the device that forms the images; None: NumPy.
    """
    sample, size = recipe.sample, recipe.schedule.patch_px
    movies = conditions.photons.shape[0]
    flat = recipe.psf.z_range_nm[0] == recipe.psf.z_range_nm[1]
    z_range = recipe.psf.z_range_nm
    if isinstance(recipe.psf, VariedGaussianPsfSettings):
        z_range = recipe.psf.emitter_z_range_nm
    psf = psf_of(recipe.psf, rng, movies, n_frames, folder)
    camera = camera_of(recipe, rng, movies, n_frames, folder)
    photons = conditions.photons
    if sample.signal_to_noise_min > 0:
        area = footprint_px(psf, movies)
        photons = _visible(recipe, rng, conditions, area, camera)
    scene = simulate_scene(
        rng,
        psf,
        camera,
        SceneSettings(
            n_frames=n_frames,
            height_px=size,
            width_px=size,
            pixel_size_nm=recipe.camera.pixel_size_nm,
            z_range_nm=z_range,
            margin_px=sample.margin_px,
            photons_relative_sd=sample.photons_relative_sd,
            background_structure=sample.background_structure,
            background_structure_max=sample.background_structure_max,
            background_structure_px=sample.background_structure_px,
            background_drift_max=sample.background_drift_max,
            defocused_fraction=sample.defocused_fraction,
            defocused_sigma_px=sample.defocused_sigma_px,
            companion_fraction=sample.companion_fraction,
            companion_distance_px=sample.companion_distance_px,
            spaced_fraction=sample.spaced_fraction,
            spaced_distance_px=sample.spaced_distance_px,
        ),
        density_per_um2=conditions.density_per_um2,
        photons=photons,
        background_photons=conditions.background_photons,
        on_time_frames=conditions.on_time_frames,
        images=images,
        keep_expected=recipe.loss.rao_blackwell,
    )
    adu = scene.frames_adu
    frames = camera.backward(adu.reshape(-1, size, size)).reshape(adu.shape)
    estimates = None
    if scene.expected is not None:
        estimates = estimates_of(recipe, psf, camera, scene, frames)
    if flat:
        scene.emitters["z_nm"] = 0.0
    background = scene.background
    if scene.frame_background is not None:
        background = scene.frame_background
    # Emitters that keep apart are not crowded, however many are asked for.
    density = np.where(scene.spaced, 0.0, conditions.density_per_um2)
    return Batch(frames, background, scene.emitters, density, estimates)


def _visible(
    recipe: Recipe,
    rng: np.random.Generator,
    conditions: Conditions,
    area_px: Floats,
    camera: Camera | VariedCamera,
) -> Floats:
    """Mean photons, drawn again where the mean emitter drowns in noise.

    An emitter of N photons on a footprint of A = 1 / sum(PSF^2) px (4 pi s^2 for a
    Gaussian) has the signal-to-noise ratio q = N / sqrt(f N + A (f b + r^2)); f = 2 is
    the excess noise of an EM register. Solved for N.
    """
    shape = conditions.photons.shape
    if isinstance(camera, VariedCamera):
        excess = 1.0 + camera.multiplied.reshape(shape[0], -1)[:, 0]
        # Maps: the median pixel, for a few noisy ones decide nothing.
        read = np.median(camera.read_noise_e.reshape(shape[0], -1), axis=1)
    else:
        s = camera.settings
        excess = np.full(shape, 2.0 if s.kind == "emccd" else 1.0)
        effective = s.read_noise_e / (s.em_gain if s.kind == "emccd" else 1.0)
        read = np.full(shape, 0.0 if s.kind == "ideal" else effective)
    q2 = recipe.sample.signal_to_noise_min**2
    dark = area_px * (excess * conditions.background_photons + read**2)
    needed = 0.5 * (q2 * excess + np.sqrt((q2 * excess) ** 2 + 4.0 * q2 * dark))
    high = recipe.sample.photons[1]
    low = np.minimum(needed, high)
    again = low * (high / low) ** rng.random(shape)
    photons: Floats = np.where(conditions.photons < needed, again, conditions.photons)
    return photons


def _log_uniform(
    rng: np.random.Generator, limits: tuple[float, float], count: int
) -> Floats:
    low, high = np.log(limits[0]), np.log(limits[1])
    return np.exp(rng.uniform(low, high, count))
