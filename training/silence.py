"""Whether the coarse levels of a U-Net still say anything.

A level is heard through the first convolution of the way up, which sees the skipped
features beside what comes from below. Its output varies over pixels and frames; the
share of that variation which comes from below is what is measured. A level whose last
activation is saturated everywhere hands up a constant, and its share is 0: the level
costs time and does nothing. How a training comes to that: docs/training-experiments.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from blinkloop.errors import InputError
from blinkloop.training.network import MovieHeads, TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.simulate import Simulator
from blinkloop.training.targets import scaled_frames

__all__ = ["SILENT", "coarse_shares", "silence_of_run"]

SILENT = 1e-3
"""A share below this is none: what is heard from below is a constant."""

_STREAM = 5
"""Odd: no training stream (see `stream_number`), and none of the validations."""

_NETS = ("analysis", "context")


def coarse_shares(network: TwoStageNetwork, frames: Tensor) -> dict[str, float]:
    """How much of each U-Net's finest level depends on the levels below it.

    Parameters
    ----------
    network
        Trained.
    frames
        (S, T, H, W) scaled movies, T >= 3; sides are multiples of the network's.

    Returns
    -------
    By the name of the U-Net ("analysis", "context"), those with levels only: the SD of
    what the first convolution of the last way up makes of the levels below, over the SD
    of its whole output. Channels are counted together, each about its mean over frames
    and pixels.
    """
    shares: dict[str, float] = {}
    hooks = [
        getattr(network, name).up[-1][0].register_forward_hook(_listener(shares, name))
        for name in _NETS
        if len(getattr(network, name).up)
    ]
    try:
        with torch.inference_mode():
            MovieHeads(network)(frames)
    finally:
        for hook in hooks:
            hook.remove()
    return shares


def _listener(shares: dict[str, float], name: str) -> Any:
    """Hook of a convolution whose input is (skipped, from below), as wide each."""

    def listen(module: nn.Conv2d, inputs: tuple[Tensor], out: Tensor) -> None:
        skipped = inputs[0].shape[1] // 2
        below = inputs[0][:, skipped:].double()
        below = below - below.mean((0, 2, 3), keepdim=True)
        weight = module.weight[:, skipped:].double()
        said = functional.conv2d(below, weight, padding="same")
        whole = _spread(out.double())
        shares[name] = (_spread(said) / whole) ** 0.5 if whole > 0 else 0.0

    return listen


def _spread(features: Tensor) -> float:
    return float(features.var((0, 2, 3)).sum())


def silence_of_run(
    network: TwoStageNetwork, recipe: Recipe, folder: Path
) -> str | None:
    """A line about coarse levels that say nothing on the recipe's own frames.

    Parameters
    ----------
    network
        Trained with the recipe; on any device.
    recipe
        What it was trained with.
    folder
        Paths in the recipe are relative to it; usually that of the run.

    Returns
    -------
    What was seen and what to do, in one line. None when the levels are heard, when
    there are none, and when the recipe's frames cannot be simulated (its PSF is gone).
    """
    if not any(len(getattr(network, name).up) for name in _NETS):
        return None
    try:
        batch = Simulator(recipe, folder).batch(0, stream=_STREAM)
    except InputError:
        return None
    device = next(network.parameters()).device
    frames = scaled_frames(batch, recipe.scaling()).to(device)
    shares = coarse_shares(network, frames)
    silent = [name for name in _NETS if shares.get(name, 1.0) < SILENT]
    if not silent:
        return None
    if len(silent) < len(shares):
        kept = network.architecture.context_levels
        shape = "context_depth: 0"
        if silent == ["analysis"]:
            shape = f"depth: 0, context_depth: {kept}"
        return (
            f"the coarse levels of the {silent[0]} network hand up the same value "
            f"everywhere and only cost time; to do without them, train anew with "
            f"architecture: {{{shape}}}"
        )
    more = 2 * network.architecture.convolutions
    return (
        f"the coarse levels of this network hand up the same value everywhere and only "
        f"cost time; to take them out, train a recipe with architecture: "
        f"{{depth: 0, convolutions: {more}}} from this run (--from)"
    )
