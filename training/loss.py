"""The loss: how many emitters, where, and the background.

m = sum p, v = sum p (1 - p), E true emitters (REFERENCE section 3; Speiser et al. 2021,
doi:10.1038/s41592-021-01236-x, Methods).

* count: -log Normal(E; m, sqrt(v + floor)). The official code multiplies it by E, so
  that an empty frame has no detection loss at all; here that is an option. The floor
  1/12 (variance of rounding to whole numbers) keeps it bounded when v goes to 0.
* occupancy: sum_k BCE(p_k, is there an emitter in pixel k), as FD-DeepLoc and LiteLoc.
* location: -sum_e log sum_k (p_k/m) prod_j Normal(t_ej; mu_kj, sigma_kj), by
  log-sum-exp, j in N, x, y, z.
* background: sum_k (bg_k - true)^2 in network units.

Shapes: N frames, E emitters of all frames together, K candidate pixels per emitter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from blinkloop.training.recipe import LossSettings

__all__ = ["LossTerms", "Targets", "localization_loss"]


@dataclass(frozen=True, slots=True)
class Targets:
    """What the network should say, in network units.

    Parameters
    ----------
    frame
        (E,) frame of each emitter, 0 .. N - 1.
    position
        (E, 4): photons, x px, y px, z.
    background
        (N, H, W).
    variance
        (E, 4) of the truth about `position`, where that is the best estimate the
        frames allow in place of the truth itself; None: it is the truth.
    weight
        (N,) how much each frame counts; None: all alike.
    """

    frame: Tensor
    position: Tensor
    background: Tensor
    weight: Tensor | None = None
    variance: Tensor | None = None

    def to(self, device: torch.device) -> Targets:
        """The same on a device."""
        return Targets(
            self.frame.to(device),
            self.position.to(device),
            self.background.to(device),
            None if self.weight is None else self.weight.to(device),
            None if self.variance is None else self.variance.to(device),
        )


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Each (N,): a term of every frame, weighted, before averaging."""

    count: Tensor
    occupancy: Tensor
    location: Tensor
    background: Tensor

    def total(self) -> Tensor:
        """Scalar: the mean over frames of the sum of the terms."""
        return (self.count + self.occupancy + self.location + self.background).mean()


def localization_loss(
    maps: Tensor,
    targets: Targets,
    settings: LossSettings,
    p_logit: Tensor | None = None,
    *,
    three_dimensional: bool = True,
) -> LossTerms:
    """Loss of ten-channel maps.

    Parameters
    ----------
    maps
        (N, 10, H, W) in network units, order of `MAP_CHANNELS`.
    targets
        True emitters and background.
    settings
        Weights; `occupancy_weight` > 0 needs `p_logit`.
    p_logit
        (N, 1, H, W) before clamp and sigmoid: BCE is computed from it, so that it has a
        gradient also where p is clamped.
    three_dimensional
        False: z does not count. Its target would always be 0, and a z that is right to
        the smallest sigma would outweigh x and y.
    """
    _, _, height, width = maps.shape
    p = maps[:, 0]
    mean = p.sum((1, 2))
    variance = (p * (1 - p)).sum((1, 2)) + settings.count_variance_floor
    ones = torch.ones_like(targets.position[:, 0])
    emitters = torch.zeros_like(mean).index_add(0, targets.frame, ones)
    count = 0.5 * (
        (emitters - mean) ** 2 / variance + torch.log(2 * math.pi * variance)
    )
    if settings.official_count_weighting:
        count = count * emitters
    occupancy = torch.zeros_like(mean)
    if settings.occupancy_weight > 0:
        if p_logit is None:
            raise TypeError("occupancy_weight > 0 needs p_logit")
        truth = torch.zeros_like(p)
        column = targets.position[:, 1].round().long().clamp(0, width - 1)
        row = targets.position[:, 2].round().long().clamp(0, height - 1)
        truth[targets.frame, row, column] = 1.0
        bce = functional.binary_cross_entropy_with_logits(
            p_logit[:, 0], truth, reduction="none"
        )
        occupancy = settings.occupancy_weight * bce.sum((1, 2))
    location = torch.zeros_like(mean)
    if targets.frame.numel():
        per_emitter = _location(
            maps, mean, targets, settings.window_px, 4 if three_dimensional else 3
        )
        location = location.index_add(0, targets.frame, -per_emitter)
    background = ((maps[:, 9] - targets.background) ** 2).sum((1, 2))
    weight = torch.ones_like(mean) if targets.weight is None else targets.weight
    return LossTerms(
        count * weight, occupancy * weight, location * weight, background * weight
    )


def _location(
    maps: Tensor, mean: Tensor, targets: Targets, window: int, axes: int
) -> Tensor:
    """(E,) log of the mixture density at each emitter, of the first axes N, x, y, z."""
    _, _, height, width = maps.shape
    device = maps.device
    if window:
        reach = torch.arange(-window, window + 1, device=device)
        side = reach.shape[0]
        column = targets.position[:, 1].round().long()[:, None, None] + reach
        row = targets.position[:, 2].round().long()[:, None, None] + reach[:, None]
        column, row = column.expand(-1, side, -1), row.expand(-1, -1, side)
        row, column = row.flatten(1), column.flatten(1)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        flat = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    else:
        flat = torch.arange(height * width, device=device).expand(
            targets.frame.shape[0], -1
        )
        inside = torch.ones_like(flat, dtype=torch.bool)
    centre_x = (flat % width).to(maps.dtype)
    centre_y = torch.div(flat, width, rounding_mode="floor").to(maps.dtype)
    # (E, K, 9): index once, so that the gradient is one scatter.
    at = targets.frame[:, None] * (height * width) + flat
    rows = maps[:, :9].permute(0, 2, 3, 1).reshape(-1, 9)[at]
    mu = torch.stack(
        [rows[..., 1], rows[..., 2] + centre_x, rows[..., 3] + centre_y, rows[..., 4]],
        dim=-1,
    )[..., :axes]
    sigma = rows[..., 5 : 5 + axes]
    z = (targets.position[:, None, :axes] - mu) / sigma
    normal = 0.5 * axes * math.log(2 * math.pi)
    square = z * z
    if targets.variance is not None:
        # The mean over the truths that the frames leave possible.
        square = square + targets.variance[:, None, :axes] / (sigma * sigma)
    log_density = (-0.5 * square - torch.log(sigma)).sum(-1) - normal
    log_weight = torch.log(rows[..., 0]) - torch.log(mean[targets.frame])[:, None]
    log_term = torch.where(inside, log_weight + log_density, -torch.inf)
    return torch.logsumexp(log_term, dim=1)
