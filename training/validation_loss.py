"""The loss of a network on samples it has not seen: the negative log-likelihood.

Unlike accuracy under one condition it covers all that the recipe draws, and it scatters
less, so that it can say when a training no longer improves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from blinkloop.training.loss import localization_loss
from blinkloop.training.network import MovieHeads, TwoStageNetwork
from blinkloop.training.progress import LOSS_TERMS
from blinkloop.training.recipe import Recipe
from blinkloop.training.simulate import Simulator
from blinkloop.training.targets import scaled_frames, to_targets

__all__ = ["ValidationLoss", "all_measures"]

_STREAM = 3
"""Odd: no training stream (see `stream_number`), and not that of `Validation`."""

Measure = Callable[[TwoStageNetwork], dict[str, float]]


@dataclass(frozen=True, slots=True)
class ValidationLoss:
    """Callable for the trainer: `nll`, mean over frames of the loss, in fp32.

    Parameters
    ----------
    recipe
        Whose samples and loss.
    batches
        The same ones every time.
    folder
        Paths in the recipe (a measured PSF) are relative to it.
    """

    recipe: Recipe
    batches: int = 8
    folder: Path = Path()

    def __call__(self, network: TwoStageNetwork) -> dict[str, float]:
        """`nll` and its terms."""
        recipe, scaling = self.recipe, self.recipe.scaling()
        device = next(network.parameters()).device
        simulator, heads = Simulator(recipe, self.folder), MovieHeads(network)
        sums = torch.zeros(len(LOSS_TERMS), dtype=torch.float64)
        for number in range(self.batches):
            batch = simulator.batch(number, stream=_STREAM)
            targets = to_targets(batch, recipe).to(device)
            outputs = heads(scaled_frames(batch, scaling).to(device))
            maps = network.activate(*outputs)
            terms = localization_loss(
                maps,
                targets,
                recipe.loss,
                outputs[0],
                three_dimensional=recipe.three_dimensional,
            )
            means = [getattr(terms, name).mean() for name in LOSS_TERMS]
            sums += torch.stack(means).cpu()
        values = (sums / self.batches).tolist()
        measured = {
            f"nll_{name}": v for name, v in zip(LOSS_TERMS, values, strict=True)
        }
        return {"nll": sum(values), **measured}


def all_measures(*measures: Measure) -> Measure:
    """One validation that makes all of them."""

    def measure(network: TwoStageNetwork) -> dict[str, float]:
        found: dict[str, float] = {}
        for one in measures:
            found |= one(network)
        return found

    return measure
