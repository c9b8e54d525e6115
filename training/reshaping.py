"""Trained weights for a network of another shape: levels, more or fewer features.

A U-Net can learn without its coarse levels: Muon's steps are as large for a layer that
matters little as for any other, so such a level grows until its last activation is
saturated at every pixel. What it hands up is a constant then, and its convolutions cost
time for nothing (docs/training-experiments.md). What is left when they are taken out is
`depth: 0` with twice the convolutions: those on the way down, then those on the way up,
whose bias takes over the constant. A PSF wider than such a network sees wants levels
back: the same convolutions on the way down and up, and new levels not heard yet.

Features are added as T. Chen et al. (Net2Net, arXiv:1511.05641) ask of it: the function
stays. Here new units see the old ones through random weights, and no old one sees them
yet. Features are taken away by magnitude: those stay whose weights, what they see with
times what they are seen with, are largest.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from blinkloop.schema import Architecture

__all__ = ["flat_of", "narrowed", "widened", "with_levels", "without_levels"]

_SILENT = {"elu": -1.0, "relu": 0.0}
"""What a unit says whose input is far below zero."""


def flat_of(architecture: Architecture) -> Architecture:
    """The shape of the network that `without_levels` gives."""
    return architecture.model_copy(
        update={
            "depth": 0,
            "context_depth": None,
            "convolutions": 2 * architecture.convolutions,
        }
    )


def without_levels(
    weights: Mapping[str, Tensor], architecture: Architecture
) -> dict[str, Tensor]:
    """Weights of `flat_of(architecture)`: coarse levels count as silent everywhere.

    Exact but for the frame's edge where they are silent, a first guess where they are
    not.

    Parameters
    ----------
    weights
        State dict of a network of that shape, both depths at least 1.
    """
    found = {
        name: value
        for name, value in weights.items()
        if not name.startswith(("analysis.", "context."))
    }
    silent = _SILENT[architecture.activation]
    depths = {"analysis": architecture.depth, "context": architecture.context_levels}
    for net, depth in depths.items():
        last = depth - 1
        halve = f"{net}.halve.{last}"
        constant = weights[f"{halve}.bias"]
        constant = constant + silent * weights[f"{halve}.weight"].flatten(1).sum(1)
        for number in range(architecture.convolutions):
            at, then = 2 * number, 2 * (number + architecture.convolutions)
            for part in ("weight", "bias"):
                found[f"{net}.base.{at}.{part}"] = weights[f"{net}.down.0.{at}.{part}"]
                found[f"{net}.base.{then}.{part}"] = weights[
                    f"{net}.up.{last}.{at}.{part}"
                ]
        first = f"{net}.base.{2 * architecture.convolutions}"
        both = found[f"{first}.weight"]
        skipped = both.shape[1] - len(constant)
        found[f"{first}.weight"] = both[:, :skipped].contiguous()
        found[f"{first}.bias"] = found[f"{first}.bias"] + torch.einsum(
            "ocij,c->o", both[:, skipped:], constant
        )
        for part in ("weight", "bias"):
            found[f"{net}.out.{part}"] = weights[f"{net}.out.{part}"]
    return {name: value.detach().clone() for name, value in found.items()}


def with_levels(
    weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights of a network with levels that gives what one without them gives.

    Parameters
    ----------
    weights
        State dict of a network without levels (`depth: 0`) and twice the convolutions.
    fresh
        State dict of the one with levels, as initialized; `flat_of` it is the other.
    """
    found = {name: value.detach().clone() for name, value in fresh.items()}
    for name, value in weights.items():
        net, *place = name.split(".")
        if place[0] != "base":
            found[name] = value.detach().clone()
            continue
        at, part = int(place[1]), place[2]
        down = f"{net}.down.0.{at}.{part}"
        if down in fresh:
            found[down] = value.detach().clone()
            continue
        # Down and up are as long: an activation follows each convolution of both.
        half = sum(key.startswith(f"{net}.down.0.") for key in fresh) // 2
        last = sum(key.startswith(f"{net}.halve.") for key in fresh) // 2 - 1
        up = f"{net}.up.{last}.{at - 2 * half}.{part}"
        new = torch.zeros_like(found[up])
        if new.ndim == 1:
            new += value
        else:
            # What the levels hand up comes after what skipped them.
            new[:, : value.shape[1]] = value
        found[up] = new
    return found


def widened(
    weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights of a wider network that gives what the narrow one gives.

    Parameters
    ----------
    weights
        State dict of the narrow network.
    fresh
        State dict of the wide one, as initialized: same names, no dimension smaller.
    """
    found, flat = {}, "context.down.0.0.weight" not in weights
    for name, old in weights.items():
        new = fresh[name].detach().to(old.dtype, copy=True)
        if new.shape == old.shape:
            found[name] = old.detach().clone()
            continue
        if new.ndim == 1:
            new[: len(old)] = old
        else:
            blocks = _blocks(name, flat=flat)
            wide = _apart(new, blocks)
            wide[: old.shape[0]] = 0.0
            narrow = _apart(old, blocks)
            wide[: old.shape[0], :, : narrow.shape[2]] = narrow
            new = wide.flatten(1, 2)
        found[name] = new
    return found


def _apart(weight: Tensor, sets: int) -> Tensor:
    """(out, sets x in, kh, kw) as (out, sets, in, kh, kw), a view."""
    out, inputs, *kernel = weight.shape
    return weight.view(out, sets, inputs // sets, *kernel)


def _blocks(name: str, *, flat: bool) -> int:
    """How many sets of features, side by side, a convolution sees."""
    if name == ("context.base.0.weight" if flat else "context.down.0.0.weight"):
        return 3
    return 2 if ".up." in name and name.endswith(".0.weight") else 1


def narrowed(
    weights: Mapping[str, Tensor], architecture: Architecture
) -> dict[str, Tensor]:
    """Weights of a network with fewer features: a start for training, no more.

    Parameters
    ----------
    weights
        State dict of a network without levels (`depth: 0`).
    architecture
        The narrow shape; a width it has more of than `weights` stays.
    """
    found = {name: value.detach().clone() for name, value in weights.items()}
    for maker, seen_by in _chain(weights):
        wanted = architecture.context_channels
        if maker == "analysis.out":
            wanted = architecture.kept_channels
        elif maker.startswith(("stem.", "analysis.")):
            wanted = architecture.features
        made = found[f"{maker}.weight"]
        if made.shape[0] <= wanted:
            continue
        seen = torch.zeros(made.shape[0], dtype=made.dtype)
        for name in seen_by:
            value = found[f"{name}.weight"]
            sets = _apart(value, _blocks(f"{name}.weight", flat=True))
            seen += sets.square().sum(dim=(0, 1, 3, 4))
        worth = made.square().sum(dim=(1, 2, 3)) * seen
        keep = worth.argsort(descending=True, stable=True)[:wanted].sort().values
        for part in ("weight", "bias"):
            found[f"{maker}.{part}"] = found[f"{maker}.{part}"][keep]
        for name in seen_by:
            value = found[f"{name}.weight"]
            sets = _apart(value, _blocks(f"{name}.weight", flat=True))
            found[f"{name}.weight"] = sets[:, :, keep].flatten(1, 2)
    return found


def _chain(weights: Mapping[str, Tensor]) -> list[tuple[str, list[str]]]:
    """Convolutions of a network without levels, and who sees what they give."""
    heads = sorted({name.split(".")[0] for name in weights if name.startswith("head_")})
    line = [name.removesuffix(".weight") for name in weights if name.endswith("weight")]
    line = [name for name in line if not name.startswith("head_")]
    pairs = [(one, [then]) for one, then in itertools.pairwise(line)]
    pairs.append((line[-1], [f"{head}.hidden" for head in heads]))
    return pairs + [(f"{head}.hidden", [f"{head}.out"]) for head in heads]
