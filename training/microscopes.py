"""The microscope of each simulated movie: PSF and camera, fixed or drawn.

Shapes: S movies, T frames each; entries of varied PSFs and cameras are per frame,
movie by movie.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.mixed import MixedPsf
from blinkloop.optics.scene import Psf
from blinkloop.optics.sensor import SensorMaps, read_sensor_maps
from blinkloop.optics.varied import VariedCamera, VariedGaussianPsf, VariedPsf
from blinkloop.psf_file import file_sha256, load_psf
from blinkloop.schema import (
    GaussianPsfSettings,
    PsfSettings,
    SplinePsfSettings,
    VariedGaussianPsfSettings,
)
from blinkloop.training.objectives import make_objectives
from blinkloop.training.recipe import Recipe

__all__ = [
    "camera_of",
    "check_files",
    "draw_camera",
    "draw_psf",
    "footprint_px",
    "psf_of",
]

Floats = npt.NDArray[np.float64]


def check_files(recipe: Recipe, folder: Path) -> None:
    """Read what the recipe names, before a run is begun.

    Raises
    ------
    InputError
        A PSF file or camera maps are missing, are others, or cannot be used.
    """
    rng = np.random.default_rng(0)
    psf_of(recipe.psf, rng, 1, 1, folder)
    camera_of(recipe, rng, 1, 1, folder)


def psf_of(
    settings: PsfSettings,
    rng: np.random.Generator,
    movies: int,
    n_frames: int,
    folder: Path,
) -> Psf | VariedPsf:
    """The PSF of a recipe; a range is drawn movie by movie."""
    if isinstance(settings, VariedGaussianPsfSettings):
        return draw_psf(settings, rng, movies, n_frames)
    if isinstance(settings, GaussianPsfSettings):
        return GaussianPsf(settings)
    return _measured(settings, folder)


@functools.lru_cache(maxsize=4)
def _measured(settings: SplinePsfSettings, folder: Path) -> Psf:
    """Read once, not for every batch."""
    return load_psf(settings, folder=folder)


def draw_psf(
    settings: VariedGaussianPsfSettings,
    rng: np.random.Generator,
    movies: int,
    n_frames: int,
) -> VariedGaussianPsf | MixedPsf:
    """One PSF per movie: width log-uniform, the others uniform, a of either sign.

    With `objectives` some of the movies have one of these instead.
    """
    low, high = np.log(settings.sigma0_px)
    sigma0 = np.exp(rng.uniform(low, high, movies))
    shift = rng.uniform(*settings.astigmatism_nm, movies)
    shift *= rng.choice([-1.0, 1.0], movies)
    shift[rng.random(movies) < settings.symmetric_fraction] = 0.0
    depth = rng.uniform(*settings.depth_nm, movies)
    gaussians = VariedGaussianPsf(
        np.repeat(sigma0, n_frames),
        np.repeat(shift, n_frames),
        np.repeat(depth, n_frames),
    )
    if settings.objectives is None:
        return gaussians
    objectives = make_objectives(settings)
    which = rng.integers(len(objectives), size=movies)
    which[rng.random(movies) >= settings.objectives.fraction] = -1
    return MixedPsf(gaussians, objectives, np.repeat(which, n_frames))


def camera_of(
    recipe: Recipe,
    rng: np.random.Generator,
    movies: int,
    n_frames: int,
    folder: Path,
) -> Camera | VariedCamera:
    """The camera of a recipe: fixed, a part of a mapped chip, or drawn per movie."""
    if recipe.camera_variation is not None:
        return draw_camera(recipe, rng, movies, n_frames)
    if recipe.camera_maps is None:
        return Camera(recipe.camera)
    settings, size = recipe.camera, recipe.schedule.patch_px
    maps = _maps(_found(recipe.camera_maps, folder), recipe.camera_maps_sha256)
    parts = maps.crops(rng, movies, size, size)
    frames = movies * n_frames
    return VariedCamera(
        multiplied=np.zeros(frames, bool),
        read_noise_e=np.repeat(parts.read_noise_e, n_frames, axis=0),
        spurious_e=np.full((frames, 1, 1), settings.spurious_e),
        e_per_adu=np.repeat(parts.e_per_adu, n_frames, axis=0),
        baseline_adu=np.repeat(parts.offset_adu, n_frames, axis=0),
        saturation_adu=float(2**settings.bit_depth - 1),
        quantum_efficiency=settings.quantum_efficiency,
    )


@functools.lru_cache(maxsize=2)
def _maps(path: Path, sha256: str) -> SensorMaps:
    """Read once, not for every batch."""
    if sha256 and path.is_file() and file_sha256(path) != sha256.lower():
        raise InputError(
            f"{path}: the camera maps are not those that were described (their sha256 "
            f"differs from {sha256[:12]}...); bring that file back, or train again"
        )
    return read_sensor_maps(path)


def _found(file: str, folder: Path) -> Path:
    """A file beside the recipe, or else in the working directory."""
    beside = folder / file
    return beside if beside.is_file() else Path(file)


def draw_camera(
    recipe: Recipe, rng: np.random.Generator, movies: int, n_frames: int
) -> VariedCamera:
    """One camera per movie out of `recipe.camera_variation`."""
    variation = recipe.camera_variation
    if variation is None:
        raise ValueError("the recipe has no camera_variation")
    kind = rng.random(movies)
    ideal = kind < variation.ideal_fraction
    emccd = kind >= 1.0 - variation.emccd_fraction
    read = np.where(
        emccd,
        rng.uniform(*variation.emccd_read_noise_e, movies),
        rng.uniform(*variation.read_noise_e, movies),
    )
    read[ideal] = 0.0
    spurious = np.where(emccd, rng.uniform(*variation.emccd_spurious_e, movies), 0.0)
    low, high = np.log(variation.e_per_adu)
    per_adu = np.exp(rng.uniform(low, high, movies))

    def per_frame(values: Floats) -> Floats:
        return np.repeat(values, n_frames)[:, None, None]

    return VariedCamera(
        multiplied=np.repeat(emccd, n_frames),
        read_noise_e=per_frame(read),
        spurious_e=per_frame(spurious),
        e_per_adu=per_frame(per_adu),
        baseline_adu=per_frame(np.full(movies, recipe.camera.baseline_adu)),
        saturation_adu=float(2**recipe.camera.bit_depth - 1),
    )


def footprint_px(psf: Psf | VariedPsf, movies: int) -> Floats:
    """(S,) pixels an emitter in focus is spread over: 1 / sum(PSF^2)."""
    if isinstance(psf, MixedPsf):
        area = footprint_px(psf.gaussians, movies)
        which = psf.which.reshape(movies, -1)[:, 0]
        for number in np.unique(which[which >= 0]).tolist():
            area[which == number] = _footprint_px(psf.splines[number])
        return area
    if isinstance(psf, VariedGaussianPsf):
        sigma: Floats = psf.sigma0_px.reshape(movies, -1)[:, 0]
        return 4.0 * np.pi * sigma**2
    return np.full(movies, _footprint_px(psf))


def _footprint_px(psf: Psf | VariedPsf) -> float:
    size, zero = 65, np.zeros(1, np.float32)
    middle = zero + size // 2
    image = psf.render(middle, middle, zero, zero + 1, np.zeros(1, int), 1, size, size)
    return 1.0 / float((image**2).sum())
