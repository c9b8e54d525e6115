"""Tiny networks with random weights, and cards for them."""

from __future__ import annotations

import cards
import torch

from blinkloop.schema import Architecture, ModelCard
from blinkloop.training.network import TwoStageNetwork

ROWS = 12
LITE = Architecture(
    features=3,
    depth=1,
    stem_stride=4,
    kept_features=2,
    context_features=4,
    activation="relu",
)
"""Cheap in every way there is."""


def make_card(architecture: Architecture) -> ModelCard:
    return cards.make_card(
        name="tiny",
        architecture=architecture,
        camera={"baseline_adu": 90, "e_per_adu": 0.4, "quantum_efficiency": 0.9},
        scaling={
            "input_offset_photons": 18,
            "input_scale_photons": 70,
            "photons_max": 7000,
            "z_max_nm": 650,
            "background_max": 55,
        },
        # Fewer rows than detections in the larger frames, more than in the smaller.
        detection={"threshold": 0.35, "max_detections": ROWS},
    )


def make_random_network(architecture: Architecture, seed: int = 1) -> TwoStageNetwork:
    """Random weights that detect something, away from the ends of all ranges."""
    torch.manual_seed(seed)
    network = TwoStageNetwork(architecture).eval()
    with torch.no_grad():
        for name in ("head_p", "head_position", "head_sigma", "head_background"):
            getattr(network, name).out.weight.mul_(0.1)
        network.head_p.out.bias.fill_(-2.0)
    return network
