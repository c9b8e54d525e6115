"""Muon: orthogonal steps for hidden convolutions, AdamW for everything else."""

from __future__ import annotations

import copy

import pytest
import torch

from blinkloop.schema import Architecture
from blinkloop.training.muon import MuonWithAdamW, orthogonalized
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.optimizers import make_optimizer
from blinkloop.training.recipe_schedule import ScheduleSettings


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)))
    assert values.min() > 0.4
    assert values.max() < 1.3


def test_zero_gradient_is_no_step() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = MuonWithAdamW([weight], [], lr=0.1, weight_decay=0.0)
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.ones(3, 4))


def test_other_parameters_step_as_adamw() -> None:
    torch.manual_seed(1)
    start = torch.randn(5)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [
        MuonWithAdamW([], [ours], lr=0.01, weight_decay=0.1),
        torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1),
    ]
    for _ in range(5):
        gradient = torch.randn(5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_matrix_step_has_the_size_of_an_adamw_step() -> None:
    torch.manual_seed(2)
    weight = torch.nn.Parameter(torch.zeros(32, 32, 3, 3))
    optimizer = MuonWithAdamW([weight], [], lr=1.0, weight_decay=0.0)
    weight.grad = torch.randn_like(weight) * 1e-3
    optimizer.step()
    assert 0.1 < float(weight.detach().pow(2).mean().sqrt()) < 0.3


@pytest.mark.parametrize("stride", [1, 2])
def test_first_and_last_layers_are_not_muons(stride: int) -> None:
    network = TwoStageNetwork(Architecture(features=4, depth=1, stem_stride=stride))
    optimizer = make_optimizer(network, ScheduleSettings(optimizer="muon"))
    by_muon = {id(p) for p in optimizer.param_groups[0]["params"]}
    names = {name for name, p in network.named_parameters() if id(p) in by_muon}
    assert "context.down.0.0.weight" in names
    assert not any(".out." in name for name in names if name.startswith("head_"))
    assert not any(name.endswith("bias") for name in names)
    first = "stem.0.weight" if stride == 2 else "analysis.down.0.0.weight"
    assert first not in names
    every = sum(len(group["params"]) for group in optimizer.param_groups)
    assert every == len(list(network.parameters()))


def test_state_survives_a_checkpoint() -> None:
    torch.manual_seed(3)
    weights = [torch.nn.Parameter(torch.randn(3, 4)) for _ in range(2)]
    weights[1].data.copy_(weights[0].data)
    optimizers = [
        MuonWithAdamW([weight], [], lr=0.1, weight_decay=0.0) for weight in weights
    ]
    gradients = torch.randn(3, 3, 4)
    for gradient in gradients[:2]:
        weights[0].grad = gradient
        optimizers[0].step()
    weights[1].data.copy_(weights[0].data)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for weight, optimizer in zip(weights, optimizers, strict=True):
        weight.grad = gradients[2]
        optimizer.step()
    torch.testing.assert_close(weights[0], weights[1])
