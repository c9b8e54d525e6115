"""The last step of a training: sigma settles on the errors of what is detected.

In the mixture likelihood the sigma of a pixel is the width of its component, and a true
emitter may be explained by any component near it. What a user gets is another thing:
one localization per detection, and when two emitters are taken for one its error is
larger than the component was wide. So, when all else is trained, the sigma head alone
goes on: detections are found and paired with the truth as an evaluation does, and the
head learns, by the Gaussian negative log-likelihood of the paired errors, what they
really are. p, positions and photons stay as they are, to the bit.

Measured: docs/training-experiments.md.

Shapes: M pairs of a detection and an emitter, D axes (photons, x, y[, z]).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blinkloop.metrics import match
from blinkloop.schema import DetectionSettings
from blinkloop.training.batches import BatchAhead
from blinkloop.training.detection import detection_scores
from blinkloop.training.network import MovieHeads, TwoStageNetwork
from blinkloop.training.optimizers import update_average
from blinkloop.training.recipe import Recipe
from blinkloop.training.simulate import Batch
from blinkloop.training.targets import scaled_frames, to_targets

__all__ = ["Settled", "settle_sigma"]

_STREAM, _CHECK_STREAM = 7, 9
"""Odd: no training streams (see `stream_number`), nor those of the validations."""
_CHECKS = 8
_LEAST_PAIRS = 50
"""On fewer nothing can be learned or checked."""
_RATE = 1e-3
_AVERAGE = 0.99
_CLIP = 1.0
_AXES = ("photons", "x", "y", "z")


@dataclass(frozen=True, slots=True)
class Settled:
    """What it did, on samples it had not seen.

    Parameters
    ----------
    iterations
        Of the sigma head alone.
    pairs
        Number M of pairs it was checked on.
    before, after
        RMS of error / sigma by axis; 1 is right.
    kept
        False: the head was better as it was, and is.
    """

    iterations: int
    pairs: int
    before: dict[str, float]
    after: dict[str, float]
    kept: bool

    def record(self) -> dict[str, Any]:
        """For `run.json` and the card."""
        return asdict(self)

    def line(self) -> str:
        """For the person."""
        if not self.kept:
            return "sigma stays as it was: nothing better was found"
        axes = [axis for axis in self.after if axis != "photons"]
        said = " / ".join(f"{self.before[axis]:.2f}" for axis in axes)
        now = " / ".join(f"{self.after[axis]:.2f}" for axis in axes)
        return (
            f"sigma settled: RMS of error / sigma in {', '.join(axes)}: {said} -> {now}"
        )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Errors and sigmas in network units, (M, D) each, and weights (M,)."""

    error: Tensor
    sigma: Tensor
    weight: Tensor

    def loss(self) -> Tensor:
        """Weighted mean of the negative log-likelihood, without constants."""
        each = torch.log(self.sigma) + 0.5 * (self.error / self.sigma) ** 2
        return (each.sum(1) * self.weight).sum() / self.weight.sum()


def settle_sigma(
    network: TwoStageNetwork,
    recipe: Recipe,
    batches: Callable[[int, int], Batch],
    *,
    iterations: int,
    interrupted: Callable[[], bool] = lambda: False,
) -> Settled | None:
    """Train the sigma head of a network on, in place.

    Parameters
    ----------
    network
        Trained; only `head_sigma` changes, and only at the end, if it is better.
    recipe
        Units, weights of the frames, and whether z counts.
    batches
        Makes the batch of (iteration, stream).
    iterations
        At least 1.
    interrupted
        Asked every iteration; True ends it with the network as it was.

    Returns
    -------
    What it did; None when it was interrupted.
    """
    trial = copy.deepcopy(network).requires_grad_(requires_grad=False)
    head = trial.head_sigma.requires_grad_(requires_grad=True)
    average = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(head.parameters(), lr=_RATE, weight_decay=0.0)
    with BatchAhead(batches) as ahead:
        for number in range(iterations):
            if interrupted():
                return None
            pairs = _pairs(trial, recipe, ahead.get(number, _STREAM))
            if len(pairs.error):
                rate = _RATE * (1.0 - number / iterations)
                _update(head, optimizer, pairs.loss(), rate)
            update_average(average, head, decay=_AVERAGE, iteration=number + 1)
    trial.head_sigma = average
    old, new = (_checked(one, recipe, batches) for one in (network, trial))
    better = len(old.error) >= _LEAST_PAIRS and bool(new.loss() < old.loss())
    if better:
        network.head_sigma.load_state_dict(average.state_dict())
    return Settled(iterations, len(old.error), _rms(old), _rms(new), better)


def _update(
    head: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor, rate: float
) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(head.parameters(), _CLIP)
    if torch.isfinite(norm):
        optimizer.step()


@torch.no_grad()
def _checked(
    network: TwoStageNetwork, recipe: Recipe, batches: Callable[[int, int], Batch]
) -> _Pairs:
    """Pairs of a few batches nobody trained on."""
    found = [
        _pairs(network, recipe, batches(number, _CHECK_STREAM))
        for number in range(_CHECKS)
    ]
    return _Pairs(
        torch.cat([pairs.error for pairs in found]),
        torch.cat([pairs.sigma for pairs in found]),
        torch.cat([pairs.weight for pairs in found]),
    )


def _rms(pairs: _Pairs) -> dict[str, float]:
    square = ((pairs.error / pairs.sigma) ** 2).mean(0).tolist()
    return {axis: value**0.5 for axis, value in zip(_AXES, square, strict=False)}


def _pairs(network: TwoStageNetwork, recipe: Recipe, batch: Batch) -> _Pairs:
    """Detections of a batch and the emitters they belong to."""
    scaling, axes = recipe.scaling(), 4 if recipe.three_dimensional else 3
    device = next(network.parameters()).device
    targets = to_targets(batch, recipe).to(device)
    maps = network.activate(
        *MovieHeads(network)(scaled_frames(batch, scaling).to(device))
    )
    scores = detection_scores(maps[:, 0].detach(), DetectionSettings())
    frame, row, column = torch.nonzero(scores, as_tuple=True)
    rows = maps[frame, :, row, column]
    found = rows[:, 1:5].detach().clone()
    found[:, 1] += column
    found[:, 2] += row
    pixel = recipe.camera.pixel_size_nm
    nm = torch.tensor([pixel, pixel, scaling.z_max_nm], device=device)[: axes - 1]
    paired = match(
        targets.frame.cpu().numpy(),
        (targets.position[:, 1:axes] * nm).cpu().numpy(),
        frame.cpu().numpy(),
        (found[:, 1:axes] * nm).cpu().numpy(),
    )
    who, which = (
        torch.from_numpy(np.ascontiguousarray(index)).to(device)
        for index in (paired.truth_index, paired.predicted_index)
    )
    weight = torch.ones(len(who), device=device)
    if targets.weight is not None:
        weight = targets.weight[targets.frame[who]]
    return _Pairs(
        (targets.position[who] - found[which])[:, :axes],
        rows[which, 5 : 5 + axes],
        weight,
    )
