"""Make `tiny_full.onnx` and `tiny_half.onnx`: random networks for tests without torch.

Run from the repository's root when the streaming graph's contract or the model card
changes (an export takes too long to be made anew in every test run):

    PYTHONPATH=tests python tests/golden/make_tiny_models.py

The last layer of every head is scaled to outputs of moderate spread: as initialised
nothing is detected and most values sit at the ends of their ranges, where no comparison
can fail.
"""

from __future__ import annotations

from pathlib import Path

import cards
import torch

from blinkloop.export import export_onnx
from blinkloop.schema import Architecture, ModelCard
from blinkloop.training.network import TwoStageNetwork

TINY = {
    "full": Architecture(features=4, depth=2),
    "half": Architecture(features=4, depth=1, stem_stride=2),
}


def make_card(architecture: Architecture) -> ModelCard:
    """The card of tests, with the architecture of the file."""
    return cards.make_card(
        name="tiny random network",
        description="Random weights, for tests of the runtime only.",
        architecture=architecture,
    )


def make_network(architecture: Architecture, seed: int = 3) -> TwoStageNetwork:
    """A random network whose outputs spread moderately."""
    torch.manual_seed(seed)
    network = TwoStageNetwork(architecture).eval()
    frames = torch.randn(6, 3, 24, 24).exp() - 1
    heads = (
        (network.head_p, 1.5, -3.5),
        (network.head_position, 0.7, 0.0),
        (network.head_sigma, 0.7, 0.0),
        (network.head_background, 0.7, 0.0),
    )
    with torch.no_grad():
        raws = network.heads_of(frames)
        for (head, spread, centre), raw in zip(heads, raws, strict=True):
            scale = spread / raw.std()
            shift = centre - scale * (raw.mean() - head.out.bias.mean())
            head.out.weight.mul_(scale)
            head.out.bias.fill_(float(shift))
    return network


if __name__ == "__main__":
    for name, architecture in TINY.items():
        path = Path(__file__).parent / f"tiny_{name}.onnx"
        export_onnx(make_network(architecture), make_card(architecture), path)
        print(path)
