"""Accuracy of a network on simulated movies it has not seen, during training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from blinkloop.errors import InputError
from blinkloop.metrics import accuracy
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.schema import DetectionSettings, GaussianPsfSettings
from blinkloop.training.detection import localize, physical_scale
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.targets import in_field

__all__ = ["Validation"]

_STREAM = 1
_MOVIES = 4
_TARGETS = 16


@dataclass(frozen=True, slots=True)
class Validation:
    """Callable for the trainer: mean conditions of the recipe, fixed seed.

    Parameters
    ----------
    recipe
        Its geometric mean photons, background, on-time, and density.
    density_per_um2
        Emitters per frame; None: geometric mean of the recipe's.
    """

    recipe: Recipe
    density_per_um2: float | None = None

    def __call__(self, network: TwoStageNetwork) -> dict[str, float]:
        """Jaccard index, RMSE in nm, and bias of the density (relative)."""
        recipe, sample = self.recipe, self.recipe.sample
        if not isinstance(recipe.psf, GaussianPsfSettings):
            raise InputError(f"no simulator for the PSF kind {recipe.psf.kind!r}")
        rng = np.random.default_rng([recipe.seed, _STREAM])
        size = recipe.schedule.patch_px
        camera = Camera(recipe.camera)
        density = self.density_per_um2 or _middle(sample.density_per_um2)
        scene = simulate_scene(
            rng,
            GaussianPsf(recipe.psf),
            camera,
            SceneSettings(
                n_frames=_TARGETS + 2,
                height_px=size,
                width_px=size,
                pixel_size_nm=recipe.camera.pixel_size_nm,
                z_range_nm=recipe.psf.z_range_nm,
                margin_px=sample.margin_px,
                photons_relative_sd=sample.photons_relative_sd,
            ),
            density_per_um2=np.full(_MOVIES, density),
            photons=np.full(_MOVIES, _middle(sample.photons)),
            background_photons=np.full(_MOVIES, _middle(sample.background_photons)),
            on_time_frames=np.full(_MOVIES, _middle(sample.on_time_frames)),
        )
        scaling = recipe.scaling()
        frames = torch.from_numpy(camera.backward(scene.frames_adu))
        frames = (frames - scaling.input_offset_photons) / scaling.input_scale_photons
        device = next(network.parameters()).device
        scale = torch.tensor(physical_scale(scaling), device=device)[:, None, None]
        found = []
        expected_count = 0.0
        for movie in range(_MOVIES):
            triples = frames[movie].unfold(0, 3, 1).permute(0, 3, 1, 2).to(device)
            maps = network(triples.contiguous()) * scale
            expected_count += float(maps[:, 0].sum())
            first = movie * (_TARGETS + 2) + 1
            found.append(localize(maps, DetectionSettings(), first_frame=first))
        rows = scene.emitters
        place = rows["frame"] % (_TARGETS + 2)
        inner = (place >= 1) & (place <= _TARGETS)
        truth = rows[inner & in_field(rows, size, size, sample.photons_floor)]
        result = accuracy(truth, np.concatenate(found), recipe.camera.pixel_size_nm)
        return {
            "jaccard": result.jaccard,
            "rmse_lateral_nm": result.rmse_lateral_nm,
            "rmse_axial_nm": result.rmse_axial_nm,
            "density_bias": expected_count / max(len(truth), 1) - 1.0,
        }


def _middle(limits: tuple[float, float]) -> float:
    return math.sqrt(limits[0] * limits[1])
