"""Simulated training samples: frames in network units, and the emitters in them.

Every batch has a random generator of its own, seeded by (seed, stream, iteration): a
resumed training sees the very batches it would have seen without the interruption.

Shapes: S movies, T frames each (targets + 2), H = W = patch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.optics import Camera, GaussianPsf, bin_to_frames, sample_blinks
from blinkloop.schema import EMITTER_DTYPE, GaussianPsfSettings
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
        movies = schedule.batch
        density = _log_uniform(rng, sample.density_per_um2, movies)
        density[rng.random(movies) < sample.empty_fraction] = 0.0
        return self.movies(
            rng,
            density_per_um2=density,
            photons=_log_uniform(rng, sample.photons, movies),
            background_photons=_log_uniform(rng, sample.background_photons, movies),
            on_time_frames=_log_uniform(rng, sample.on_time_frames, movies),
            n_frames=schedule.targets_per_movie + 2,
            height=schedule.patch_px,
            width=schedule.patch_px,
        )

    def movies(
        self,
        rng: np.random.Generator,
        *,
        density_per_um2: npt.NDArray[np.float64],
        photons: npt.NDArray[np.float64],
        background_photons: npt.NDArray[np.float64],
        on_time_frames: npt.NDArray[np.float64],
        n_frames: int,
        height: int,
        width: int,
    ) -> Batch:
        """Movies with the given parameters, one value per movie."""
        sample, pixel_nm = self.recipe.sample, self.recipe.camera.pixel_size_nm
        margin = sample.margin_px
        area_um2 = (
            (height + 2 * margin) * (width + 2 * margin) * (pixel_nm / 1000.0) ** 2
        )
        blinks = sample_blinks(
            rng,
            emitters_per_frame=density_per_um2 * area_um2,
            on_time_frames=on_time_frames,
            flux_photons=photons,
            flux_relative_sd=sample.photons_relative_sd,
            n_frames=n_frames,
        )
        count = blinks.start.shape[0]
        x = rng.uniform(-0.5 - margin, width - 0.5 + margin, count)
        y = rng.uniform(-0.5 - margin, height - 0.5 + margin, count)
        z = rng.uniform(*self.recipe.psf.z_range_nm, count)
        emitter, frame, light = bin_to_frames(
            blinks.start, blinks.on_time, blinks.flux
        )
        inside = (frame >= 0) & (frame < n_frames)
        emitter, frame, light = emitter[inside], frame[inside], light[inside]
        rows = np.zeros(emitter.shape[0], EMITTER_DTYPE)
        rows["id"] = emitter
        rows["frame"] = blinks.sample[emitter] * n_frames + frame
        rows["x_px"], rows["y_px"] = x[emitter], y[emitter]
        rows["z_nm"], rows["photons"] = z[emitter], light
        background = self._background(rng, background_photons, height, width)
        rows["background_photons"] = background_photons[blinks.sample[emitter]]
        expected = self._render(rows, density_per_um2.shape[0], n_frames, height, width)
        expected += background[:, None]
        camera = Camera(self.recipe.camera)
        frames = camera.backward(camera.forward(expected, rng))
        return Batch(frames.astype(np.float32), background, rows)

    def _render(
        self,
        rows: npt.NDArray[np.void],
        movies: int,
        n_frames: int,
        height: int,
        width: int,
    ) -> npt.NDArray[np.float32]:
        if not isinstance(self.recipe.psf, GaussianPsfSettings):
            raise TypeError(f"no simulator for the PSF kind {self.recipe.psf.kind!r}")
        image = GaussianPsf(self.recipe.psf).render(
            rows["x_px"].astype(np.float32),
            rows["y_px"].astype(np.float32),
            rows["z_nm"],
            rows["photons"],
            rows["frame"],
            movies * n_frames,
            height,
            width,
        )
        result: npt.NDArray[np.float32] = image.reshape(movies, n_frames, height, width)
        return result

    def _background(
        self,
        rng: np.random.Generator,
        level: npt.NDArray[np.float64],
        height: int,
        width: int,
    ) -> npt.NDArray[np.float32]:
        """A level and a slope per movie: real background is not flat."""
        slope = self.recipe.sample.background_structure
        direction = rng.uniform(0, 2 * np.pi, level.shape[0])
        strength = rng.uniform(0, slope, level.shape[0])
        v = np.linspace(-1, 1, height)[None, :, None]
        u = np.linspace(-1, 1, width)[None, None, :]
        tilt = np.cos(direction)[:, None, None] * u + np.sin(direction)[:, None, None] * v
        plane = level[:, None, None] * (1 + strength[:, None, None] * tilt / np.sqrt(2))
        return plane.astype(np.float32)


def _log_uniform(
    rng: np.random.Generator, limits: tuple[float, float], count: int
) -> npt.NDArray[np.float64]:
    low, high = np.log(limits[0]), np.log(limits[1])
    return np.exp(rng.uniform(low, high, count))
