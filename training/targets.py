"""From a simulated batch to tensors: three-frame inputs and targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blinkloop.schema import Scaling
from blinkloop.training.loss import Targets
from blinkloop.training.simulate import Batch

__all__ = ["in_field", "scaled_frames", "to_targets"]


def in_field(
    emitters: npt.NDArray[np.void], height: int, width: int, photons_floor: float
) -> npt.NDArray[np.bool_]:
    """Which emitters are bright enough and have their centre within the frame."""
    x, y = emitters["x_px"], emitters["y_px"]
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    result: npt.NDArray[np.bool_] = inside & (emitters["photons"] >= photons_floor)
    return result


def scaled_frames(batch: Batch, scaling: Scaling) -> Tensor:
    """(S, T, H, W) frames in network units."""
    frames = torch.as_tensor(batch.frames)
    return (frames - scaling.input_offset_photons) / scaling.input_scale_photons


def to_targets(batch: Batch, scaling: Scaling, photons_floor: float) -> Targets:
    """Targets of the inner frames 1 .. T - 2 of every movie, movie by movie."""
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
    return Targets(
        torch.from_numpy(index.astype(np.int64)),
        torch.from_numpy(position.astype(np.float32)),
        torch.from_numpy(background / np.float32(scaling.background_max)),
    )
