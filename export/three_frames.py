"""The network as published: three frames in for each one out, in PyTorch.

What the streaming graph is compared with in speed: same weights, same outputs, no
memory, so that every frame is analysed three times.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from blinkloop.optics import Camera
from blinkloop.schema import ModelCard
from blinkloop.training.detection import (
    count_variance,
    detection_scores,
    detection_table,
    physical_scale,
)
from blinkloop.training.network import TwoStageNetwork, grown

__all__ = ["ThreeFrames", "triples"]


def triples(frames: Tensor) -> Tensor:
    """(N, H, W) -> (N - 2, 3, H, W): every frame but the edges with its neighbours."""
    return torch.stack([frames[:-2], frames[1:-1], frames[2:]], 1)


class ThreeFrames(nn.Module):
    """(N, 3, H, W) ADU -> the detections and sums of the middle frames.

    Parameters
    ----------
    network
        Trained network; shared, not copied.
    card
        Its card: camera, scaling, detection.
    """

    scale: Tensor

    def __init__(self, network: TwoStageNetwork, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.card = card
        # Photons are linear in ADU: two points give both constants.
        dark, bright = Camera(card.camera).backward(np.array([0.0, 1.0])).tolist()
        self.photons_per_adu = bright - dark
        self.offset_adu = -dark / self.photons_per_adu
        scale = torch.tensor(physical_scale(card.scaling)).reshape(1, -1, 1, 1)
        self.register_buffer("scale", scale)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As the streaming graph, without the memory."""
        height, width = frames.shape[2], frames.shape[3]
        multiple = self.card.architecture.size_multiple
        scaled = self.scaled(frames)
        scaled = grown(scaled, -height % multiple, -width % multiple)
        maps = self.network(scaled)[:, :, :height, :width] * self.scale
        p = maps[:, 0]
        scores = detection_scores(p, self.card.detection)
        table, counts = detection_table(
            maps, scores, self.card.detection.max_detections
        )
        return table, counts, p.sum((1, 2)), count_variance(p)

    def scaled(self, frames: Tensor) -> Tensor:
        """ADU -> network input."""
        scaling = self.card.scaling
        photons = (frames - self.offset_adu) * self.photons_per_adu
        above: Tensor = photons - scaling.input_offset_photons
        return above / scaling.input_scale_photons
