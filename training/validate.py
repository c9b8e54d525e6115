"""Accuracy of a network on simulated movies it has not seen, during training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from blinkloop.metrics import accuracy
from blinkloop.schema import DetectionSettings, VariedGaussianPsfSettings
from blinkloop.training.detection import localize, physical_scale
from blinkloop.training.estimates import in_field
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.simulate import Conditions, simulate_movies
from blinkloop.training.targets import scaled_frames

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
    folder
        Paths in the recipe (a measured PSF) are relative to it.
    """

    recipe: Recipe
    density_per_um2: float | None = None
    folder: Path = Path()

    def __call__(self, network: TwoStageNetwork) -> dict[str, float]:
        """Jaccard index, RMSE in nm, and bias of the density (relative)."""
        recipe, sample = self.recipe, self.recipe.sample
        rng = np.random.default_rng([recipe.seed, _STREAM])
        size, movies = recipe.schedule.patch_px, self._movies()
        density = self.density_per_um2 or _middle(sample.density_per_um2)
        # As a sample is: emitters that keep apart are for training.
        plain = {"background_structure": 0.0, "spaced_fraction": 0.0}
        level = recipe.model_copy(update={"sample": sample.model_copy(update=plain)})
        batch = simulate_movies(
            level,
            rng,
            Conditions(
                density_per_um2=np.full(movies, density),
                photons=np.full(movies, _middle(sample.photons)),
                background_photons=np.full(movies, _middle(sample.background_photons)),
                on_time_frames=np.full(movies, _middle(sample.on_time_frames)),
            ),
            n_frames=_TARGETS + 2,
            folder=self.folder,
        )
        scaling = recipe.scaling()
        frames = scaled_frames(batch, scaling)
        device = next(network.parameters()).device
        scale = torch.tensor(physical_scale(scaling), device=device)[:, None, None]
        found = []
        expected_count = 0.0
        for movie in range(movies):
            triples = frames[movie].unfold(0, 3, 1).permute(0, 3, 1, 2).to(device)
            maps = network(triples.contiguous()) * scale
            expected_count += float(maps[:, 0].sum())
            first = movie * (_TARGETS + 2) + 1
            found.append(localize(maps, DetectionSettings(), first_frame=first))
        rows = batch.emitters
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

    def _movies(self) -> int:
        """More movies where each has its own microscope."""
        varied = isinstance(self.recipe.psf, VariedGaussianPsfSettings)
        many = varied or self.recipe.camera_variation is not None
        return 4 * _MOVIES if many else _MOVIES


def _middle(limits: tuple[float, float]) -> float:
    return math.sqrt(limits[0] * limits[1])
