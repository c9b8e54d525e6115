"""Weights to begin with: fine-tuning a trained network for another recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blinkloop.errors import InputError
from blinkloop.schema import Architecture, Scaling
from blinkloop.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, recipe_of
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.reshaping import (
    flat_of,
    narrowed,
    widened,
    with_levels,
    without_levels,
)

__all__ = ["StartWeights", "fine_tuned", "start_from_run"]

_SHAPE = {
    "features": "features",
    "depth": "depth",
    "stem_stride": "stem_stride",
    "kept_features": "kept_channels",
    "context_features": "context_channels",
    "context_depth": "context_levels",
    "convolutions": "convolutions",
}
"""Field of the architecture -> what it comes to."""

_WIDTHS = ("features", "kept_features", "context_features")
"""Fields that may grow."""


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


@dataclass(frozen=True, slots=True)
class StartWeights:
    """A trained network to begin with.

    Parameters
    ----------
    weights
        Its state dict.
    architecture
        Its shape.
    scaling
        Its network units.
    source
        Where it is from, for people and the record of the run.
    three_dimensional
        Whether it has learned z.
    """

    weights: Mapping[str, Tensor]
    architecture: Architecture
    scaling: Scaling
    source: str
    three_dimensional: bool = True


def start_from_run(path: Path) -> StartWeights:
    """The averaged weights of a run folder or checkpoint.

    Raises
    ------
    InputError
        No checkpoint of this version there.
    """
    file = path / CHECKPOINT_FILE if path.is_dir() else path
    state = load_checkpoint(file)
    recipe = recipe_of(state, file)
    return StartWeights(
        state["averaged"],
        recipe.architecture,
        recipe.scaling(),
        str(path),
        recipe.three_dimensional,
    )


def fine_tuned(
    start: StartWeights, recipe: Recipe
) -> tuple[Recipe, dict[str, Tensor], list[str]]:
    """Recipe and weights to go on with.

    The units of the network stay those of the source, so that its first loss on the
    recipe is the source's own. Only a quantity whose largest value is beyond the
    source's gets the recipe's unit, and the last layer of its head is changed so that
    values far below the largest stay as they were (sigmoid(a + ln r) = r sigmoid(a) and
    tanh(r a) = r tanh(a) for small values; r = old / new largest value).

    Returns
    -------
    The recipe with `network_units`, the state dict, and a line per change.

    Raises
    ------
    InputError
        The source has another architecture, which cannot become this one.
    """
    wanted = recipe.architecture
    weights, said = _reshaped(start, wanted, recipe.seed)
    needed, update = recipe.scaling(), dict[str, Any]()
    if recipe.three_dimensional and not start.three_dimensional:
        _forget_z(weights, wanted.stem_stride**2)
        update["z_max_nm"] = needed.z_max_nm
        said.append("z was not learned there: its heads begin anew")
    for unit in ("photons_max", "z_max_nm", "background_max"):
        old, new = getattr(start.scaling, unit), getattr(needed, unit)
        if new > old and unit not in update:
            _rescale(weights, unit, old / new, wanted.stem_stride**2)
            update[unit] = new
            said.append(f"{unit} grows from {old:.6g} to {new:.6g}; first guesses only")
    units = start.scaling.model_copy(update=update)
    if units == needed:
        return recipe, weights, said
    return recipe.model_copy(update={"network_units": units}), weights, said


def _reshaped(
    start: StartWeights, wanted: Architecture, seed: int
) -> tuple[dict[str, Tensor], list[str]]:
    """The source's weights in the shape wanted, and a line per change."""
    got, given, said = start.architecture, start.weights, list[str]()
    if wanted.depth == 0 < got.depth and got.context_levels:
        got, given = flat_of(got), without_levels(given, got)
        said.append("the levels below the first are taken out, as if they were silent")
    may_shrink = got.depth == got.context_levels == 0
    if may_shrink and wanted.depth and wanted.context_levels:
        got, given = _deepened(got, given, wanted, seed)
        may_shrink = False
        said.append("levels below the first are new; they are not heard yet")
    for key, meaning in _SHAPE.items():
        theirs, ours = getattr(got, meaning), getattr(wanted, meaning)
        fits = key in _WIDTHS and (ours > theirs or may_shrink)
        if theirs != ours and not fits:
            raise InputError(
                f"{start.source}: its {key} is {theirs}, the recipe asks for {ours}; "
                f"set architecture.{key}: {theirs} in the recipe, or train without "
                f"--from"
            )
    expected = TwoStageNetwork(got).state_dict()
    if _shapes(expected) != _shapes(given):
        raise InputError(
            f"{start.source}: its weights are not those of its architecture; export or "
            f"train it again"
        )
    given = {name: given[name] for name in expected}
    for key in _WIDTHS:
        more = getattr(wanted, _SHAPE[key]) - getattr(got, _SHAPE[key])
        if more > 0:
            said.append(f"{key}: {more} new ones, which change nothing yet")
        elif more < 0:
            said.append(f"{key}: the {-more} weakest are gone; a start, no more")
    if may_shrink:
        given = narrowed(given, wanted)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = widened(given, TwoStageNetwork(wanted).state_dict())
    if got.activation != wanted.activation:
        said.append(
            f"{got.activation} becomes {wanted.activation}: the first loss is far "
            f"above the source's"
        )
    return weights, said


def _deepened(
    got: Architecture, given: Mapping[str, Tensor], wanted: Architecture, seed: int
) -> tuple[Architecture, Mapping[str, Tensor]]:
    """A network without levels with those of `wanted`, or as it is."""
    deep = got.model_copy(
        update={
            "depth": wanted.depth,
            "context_depth": wanted.context_depth,
            "convolutions": got.convolutions // 2,
        }
    )
    if flat_of(deep) != got.model_copy(update={"context_depth": None}):
        return got, given
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = TwoStageNetwork(deep).state_dict()
    return deep, with_levels(given, fresh)


def _forget_z(weights: dict[str, Tensor], repeats: int) -> None:
    """Z in the middle of its range, with a sigma as wide as the range."""
    rows = slice(3 * repeats, 4 * repeats)
    for head in ("head_position", "head_sigma"):
        weights[f"{head}.out.weight"][rows] = 0.0
        weights[f"{head}.out.bias"][rows] = 0.0


def _rescale(weights: dict[str, Tensor], unit: str, ratio: float, repeats: int) -> None:
    """Make one quantity and its sigma `ratio` times what they were, to first order."""

    def rows(channel: int) -> slice:
        return slice(channel * repeats, (channel + 1) * repeats)

    shift = math.log(ratio)
    if unit == "background_max":
        weights["head_background.out.bias"] += shift
        return
    channel = {"photons_max": 0, "z_max_nm": 3}[unit]
    weights["head_sigma.out.bias"][rows(channel)] += shift
    if unit == "photons_max":
        weights["head_position.out.bias"][rows(channel)] += shift
    else:
        weights["head_position.out.bias"][rows(channel)] *= ratio
        weights["head_position.out.weight"][rows(channel)] *= ratio
