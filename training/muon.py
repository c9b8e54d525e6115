"""Muon: momentum whose matrices are made orthogonal; AdamW for what is no matrix.

The momentum M of a weight matrix is replaced by the nearest matrix with singular values
of about 1, found by five Newton-Schulz steps (K. Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon). Scaled by 0.2 sqrt(larger side), its entries
are as large as an AdamW step, so that both share learning rate and weight decay (Liu et
al. 2025, arXiv:2502.16982). A convolution (out, in, kh, kw) is the matrix (out, in kh
kw). `torch.optim.Muon` takes two-dimensional parameters only, so it is written here.

What it gains over AdamW here was measured: docs/training-experiments.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["MuonWithAdamW", "orthogonalized"]

_QUINTIC = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_ADAM_BETAS = (0.9, 0.999)
_ADAM_EPS = 1e-8


def orthogonalized(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought to about 1 (0.7 to 1.2).

    Parameters
    ----------
    matrix
        (M, N); zeros stay zeros.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-12)
    a, b, c = _QUINTIC
    for _ in range(_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    result: Tensor = x.T if tall else x
    return result


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for inner convolutions, AdamW for first and last layers and biases.

    Parameters
    ----------
    matrices
        Weights of hidden layers, two or more dimensions.
    others
        All other parameters.
    lr, weight_decay
        Of both.
    momentum
        Of Muon, in Nesterov's form.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        groups = [
            {"params": list(matrices), "muon": True, "momentum": momentum},
            {"params": list(others), "muon": False, "momentum": momentum},
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = _muon if group["muon"] else _adam
                change = update(parameter, gradient, self.state[parameter], group)
                parameter.add_(change, alpha=-group["lr"])
        return loss


def _muon(
    p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> Tensor:
    """Direction of a matrix, with entries of about 0.2 RMS."""
    if not state:
        state["momentum"] = torch.zeros_like(p)
    momentum = state["momentum"]
    momentum.lerp_(grad, 1 - group["momentum"])
    ahead = grad.lerp(momentum, group["momentum"])
    matrix = orthogonalized(ahead.reshape(ahead.shape[0], -1))
    return matrix.reshape(p.shape) * (0.2 * math.sqrt(max(matrix.shape)))


def _adam(
    p: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> Tensor:
    """Direction of AdamW, without its weight decay."""
    if not state:
        state["step"] = torch.zeros(())
        state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
    state["step"] += 1
    fast, slow = _ADAM_BETAS
    state["mean"].lerp_(grad, 1 - fast)
    state["square"].mul_(slow).addcmul_(grad, grad, value=1 - slow)
    step = float(state["step"])
    mean = state["mean"] / (1 - fast**step)
    square = state["square"] / (1 - slow**step)
    direction: Tensor = mean / (square.sqrt() + _ADAM_EPS)
    return direction
