"""Optimisers by name, and the running average of the weights.

A further optimiser is a function (network, schedule) -> Optimizer and a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from blinkloop.training.muon import MuonWithAdamW
from blinkloop.training.recipe_schedule import ScheduleSettings

__all__ = ["make_optimizer", "restore_optimizer", "update_average"]

_WAYS = ("fused", "foreach", "capturable")
"""How an optimiser computes, not what: never taken from a checkpoint."""


def make_optimizer(
    network: nn.Module, schedule: ScheduleSettings
) -> torch.optim.Optimizer:
    """The optimiser that the schedule names."""
    return _OPTIMIZERS[schedule.optimizer](network, schedule)


def _adamw(network: nn.Module, schedule: ScheduleSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101) in one fused loop."""
    return torch.optim.AdamW(
        network.parameters(),
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        fused=True,
    )


def _muon(network: nn.Module, schedule: ScheduleSettings) -> torch.optim.Optimizer:
    """Muon for the convolutions between images and outputs, AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        first = parameter.ndim == 4 and parameter.shape[1] == 1
        last = name.startswith("head_") and ".out." in name
        hidden = parameter.ndim == 4 and not (first or last)
        (matrices if hidden else others).append(parameter)
    return MuonWithAdamW(
        matrices,
        others,
        lr=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
    )


_OPTIMIZERS: dict[
    str, Callable[[nn.Module, ScheduleSettings], torch.optim.Optimizer]
] = {"adamw": _adamw, "muon": _muon}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load moments and settings; old runs did not fuse, the resumed one does."""
    ways = [
        {key: group[key] for key in _WAYS if key in group}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(state)
    for group, way in zip(optimizer.param_groups, ways, strict=True):
        group.update(way)


@torch.no_grad()
def update_average(
    averaged: nn.Module, network: nn.Module, *, decay: float, iteration: int
) -> None:
    """Move the averaged weights towards the network's, in place.

    A young average follows quickly, so that it forgets the random start.
    """
    decay = min(decay, iteration / (iteration + 10))
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    average(list(averaged.parameters()), list(network.parameters()), None)
