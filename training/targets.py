"""From a simulated batch to tensors: three-frame inputs and targets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from blinkloop.schema import Scaling
from blinkloop.training.estimates import in_field
from blinkloop.training.loss import Targets
from blinkloop.training.recipe import LossSettings, Recipe
from blinkloop.training.simulate import Batch

__all__ = ["scaled_frames", "to_targets"]


def scaled_frames(batch: Batch, scaling: Scaling) -> Tensor:
    """(S, T, H, W) frames in network units."""
    frames = torch.as_tensor(batch.frames)
    return (frames - scaling.input_offset_photons) / scaling.input_scale_photons


def to_targets(batch: Batch, recipe: Recipe, *, estimated: bool = False) -> Targets:
    """Targets of the inner frames 1 .. T - 2 of every movie, movie by movie.

    `estimated`: the best estimates that the frames allow, in place of the truth, where
    the batch has them.
    """
    scaling, photons_floor = recipe.scaling(), recipe.sample.photons_floor
    _, length, height, width = batch.frames.shape
    rows = batch.emitters
    movie, frame = np.divmod(rows["frame"], length)
    kept = in_field(rows, height, width, photons_floor)
    kept &= (frame >= 1) & (frame <= length - 2)
    rows = rows[kept]
    index = movie[kept] * (length - 2) + frame[kept] - 1
    position = np.stack(
        [
            rows["photons"] / scaling.photons_max,
            rows["x_px"],
            rows["y_px"],
            rows["z_nm"] / scaling.z_max_nm,
        ],
        axis=1,
    )
    if batch.background.ndim == 4:
        background = batch.background[:, 1:-1].reshape(-1, height, width)
    else:
        background = np.repeat(batch.background, length - 2, axis=0)
    variance = None
    if estimated and batch.estimates is not None:
        units = np.array([1 / scaling.photons_max, 1.0, 1.0, 1 / scaling.z_max_nm])
        order = [3, 0, 1, 2]
        position = batch.estimates.value[kept][:, order] * units
        spread = batch.estimates.variance[kept][:, order] * units**2
        variance = torch.from_numpy(spread.astype(np.float32))
    return Targets(
        torch.from_numpy(index.astype(np.int64)),
        torch.from_numpy(position.astype(np.float32)),
        torch.from_numpy(background / np.float32(scaling.background_max)),
        _weights(batch, recipe.loss, length - 2),
        variance,
    )


def _weights(batch: Batch, settings: LossSettings, frames: int) -> Tensor | None:
    """(S frames,) (1 + D / D0)^-a; None when all frames count alike.

    Of the density that a movie was drawn with, not of the emitters that happen to be in
    a frame: a weight that knows the truth would teach a wrong number.
    """
    if settings.crowding_power == 0 or batch.density_per_um2 is None:
        return None
    relative = batch.density_per_um2 / settings.crowding_density_per_um2
    weight = (1.0 + relative) ** -settings.crowding_power
    return torch.from_numpy(np.repeat(weight, frames).astype(np.float32))
