"""Simulated movies with known truth: blinking emitters, background, camera.

Several short movies (training) or one long one (evaluation) from the same code, so
that a network is judged on the physics it was trained on.

Shapes: S movies, T frames each, H x W px, E emitter rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blinkloop.optics._namespace import Array
from blinkloop.optics.background import background_maps
from blinkloop.optics.blinking import bin_to_frames, sample_blinks
from blinkloop.optics.camera import Camera
from blinkloop.optics.varied import VariedCamera, VariedGaussianPsf
from blinkloop.schema import EMITTER_DTYPE

__all__ = ["Psf", "Scene", "SceneSettings", "simulate_scene"]

_FRAMES_AT_ONCE = 64


class Psf(Protocol):
    """An image former; `GaussianPsf` and `SplinePsf` are such."""

    def render(
        self,
        x_px: Array,
        y_px: Array,
        z_nm: Array,
        photons: Array,
        frame: Array,
        n_frames: int,
        height: int,
        width: int,
    ) -> Array: ...


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """What is the same for all movies of a scene.

    Parameters
    ----------
    n_frames, height_px, width_px
        Size of each movie.
    pixel_size_nm
        For the density per um^2.
    z_range_nm
        Emitters are uniform in it.
    margin_px
        Emitters this far outside the field send light into it.
    photons_relative_sd
        SD of the flux between emitters of a movie, relative.
    background_structure
        Largest relative slope of the background across the field.
    background_structure_max
        Largest relative amplitude of smooth structure in the background.
    background_structure_px
        Distances of the nodes of that structure, see `optics.background`.
    """

    n_frames: int
    height_px: int
    width_px: int
    pixel_size_nm: float
    z_range_nm: tuple[float, float]
    margin_px: int = 10
    photons_relative_sd: float = 0.2
    background_structure: float = 0.0
    background_structure_max: float = 0.0
    background_structure_px: tuple[float, float] = (8.0, 40.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """Simulated frames and their truth.

    Parameters
    ----------
    frames_adu
        (S, T, H, W) float32, whole ADU as the camera gives them.
    background
        (S, H, W) float32 expected background photons.
    emitters
        `EMITTER_DTYPE` rows, `frame` = movie * T + frame; all whose light is in the
        frames, also those outside the field and dim ones.
    """

    frames_adu: npt.NDArray[np.float32]
    background: npt.NDArray[np.float32]
    emitters: npt.NDArray[np.void]


def simulate_scene(
    rng: np.random.Generator,
    psf: Psf | VariedGaussianPsf,
    camera: Camera | VariedCamera,
    settings: SceneSettings,
    *,
    density_per_um2: npt.NDArray[np.float64],
    photons: npt.NDArray[np.float64],
    background_photons: npt.NDArray[np.float64],
    on_time_frames: npt.NDArray[np.float64],
) -> Scene:
    """Draw S movies; the four (S,) arrays hold the mean values of each.

    A PSF or camera that varies has S x T entries, movie by movie. `density_per_um2`
    counts emitters that touch a frame; `photons` is the mean flux per frame while on;
    `background_photons` per pixel and frame.
    """
    s = settings
    margin, height, width = s.margin_px, s.height_px, s.width_px
    area_um2 = (height + 2 * margin) * (width + 2 * margin)
    blinks = sample_blinks(
        rng,
        emitters_per_frame=density_per_um2 * area_um2 * (s.pixel_size_nm / 1000.0) ** 2,
        on_time_frames=on_time_frames,
        flux_photons=photons,
        flux_relative_sd=s.photons_relative_sd,
        n_frames=s.n_frames,
    )
    count = blinks.start.shape[0]
    x = rng.uniform(-0.5 - margin, width - 0.5 + margin, (count,))
    y = rng.uniform(-0.5 - margin, height - 0.5 + margin, (count,))
    z = rng.uniform(s.z_range_nm[0], s.z_range_nm[1], (count,))
    emitter, frame, light = bin_to_frames(blinks.start, blinks.on_time, blinks.flux)
    inside = (frame >= 0) & (frame < s.n_frames)
    emitter, frame, light = emitter[inside], frame[inside], light[inside]
    movie = blinks.sample[emitter]
    rows = np.zeros(emitter.shape[0], EMITTER_DTYPE)
    rows["id"], rows["frame"] = emitter, movie * s.n_frames + frame
    rows["x_px"], rows["y_px"] = x[emitter], y[emitter]
    rows["z_nm"], rows["photons"] = z[emitter], light
    background = background_maps(
        rng,
        background_photons,
        height,
        width,
        slope_max=s.background_structure,
        structure_max=s.background_structure_max,
        structure_px=s.background_structure_px,
    )
    rows["background_photons"] = background[
        movie, _pixel(rows["y_px"], height), _pixel(rows["x_px"], width)
    ]
    total = density_per_um2.shape[0] * s.n_frames
    rows = rows[np.argsort(rows["frame"], kind="stable")]
    frames = np.empty((total, height, width), np.float32)
    for first in range(0, total, _FRAMES_AT_ONCE):
        last = min(first + _FRAMES_AT_ONCE, total)
        low, high = np.searchsorted(rows["frame"], [first, last])
        part = rows[low:high]
        formed = psf
        noisy = camera
        if isinstance(psf, VariedGaussianPsf):
            formed = psf.for_frames(first, last)
        if isinstance(camera, VariedCamera):
            noisy = camera.for_frames(first, last)
        expected = formed.render(
            part["x_px"].astype(np.float32),
            part["y_px"].astype(np.float32),
            part["z_nm"],
            part["photons"],
            part["frame"] - first,
            last - first,
            height,
            width,
        )
        expected += background[np.arange(first, last) // s.n_frames]
        frames[first:last] = noisy.forward(expected, rng)
    shape = (-1, s.n_frames, height, width)
    return Scene(frames.reshape(shape), background, rows)


def _pixel(position_px: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """Index of the nearest pixel of the frame along one axis."""
    nearest = np.floor(position_px + 0.5).astype(np.int64)
    return np.clip(nearest, 0, size - 1)
