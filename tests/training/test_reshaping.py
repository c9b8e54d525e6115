"""Weights for another shape: no trace of silent levels, new features change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from blinkloop.errors import InputError
from blinkloop.schema import Architecture, Scaling
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.reshaping import (
    flat_of,
    narrowed,
    widened,
    with_levels,
    without_levels,
)
from blinkloop.training.start import StartWeights, fine_tuned

Weights = dict[str, torch.Tensor]


def made(architecture: Architecture, weights: Weights | None = None) -> TwoStageNetwork:
    network = TwoStageNetwork(architecture).double().eval()
    if weights is not None:
        network.load_state_dict(weights)
    return network


def silenced(architecture: Architecture) -> Weights:
    """A network whose coarse levels end in a layer that is far below zero."""
    torch.manual_seed(1)
    weights = made(architecture).state_dict()
    levels = {"analysis": architecture.depth, "context": architecture.context_levels}
    for net, depth in levels.items():
        last = 2 * (architecture.convolutions - 1)
        name = f"{net}.base.{last}" if depth == 1 else f"{net}.up.{depth - 2}.{last}"
        weights[f"{name}.bias"] = torch.full_like(weights[f"{name}.bias"], -1e4)
        weights[f"{net}.halve.{depth - 1}.bias"].normal_()
    return weights


@pytest.mark.parametrize(
    "shape",
    [
        {"features": 3, "depth": 1},
        {"features": 4, "depth": 2, "stem_stride": 2},
        {"features": 3, "depth": 3, "stem_stride": 4, "context_depth": 1},
        {"features": 3, "depth": 1, "activation": "relu", "convolutions": 3},
        {"features": 3, "kept_features": 2, "context_features": 5, "depth": 2},
    ],
)
def test_silent_levels_leave_no_trace(shape: dict[str, Any]) -> None:
    architecture = Architecture(**shape)
    weights = silenced(architecture)
    flat = flat_of(architecture)
    assert flat.depth == flat.context_levels == 0
    assert flat.size_multiple == flat.stem_stride
    frames = torch.randn(1, 3, 160, 128).double()
    with torch.inference_mode():
        before = made(architecture, weights)(frames)
        after = made(flat, without_levels(weights, architecture))(frames)
    # Outside the frame a constant level counts as zero, a bias does not.
    inside = (..., slice(56, -56), slice(56, -56))
    torch.testing.assert_close(after[inside], before[inside], rtol=1e-9, atol=1e-9)
    assert before[inside].std() > 1e-3


def test_levels_that_say_something_are_missed() -> None:
    architecture = Architecture(features=4, depth=1)
    torch.manual_seed(1)
    weights = made(architecture).state_dict()
    frames = torch.randn(1, 3, 48, 48).double()
    with torch.inference_mode():
        before = made(architecture, weights)(frames)
        flat = made(flat_of(architecture), without_levels(weights, architecture))
        assert (flat(frames) - before).abs().max() > 0.01


@pytest.mark.parametrize(
    "shape",
    [
        {"features": 3, "depth": 1},
        {"features": 4, "depth": 2, "stem_stride": 2, "activation": "relu"},
        {"features": 3, "depth": 1, "convolutions": 3, "context_depth": 2},
        {"features": 3, "kept_features": 2, "context_features": 5, "depth": 1},
    ],
)
def test_new_levels_change_nothing_yet(shape: dict[str, Any]) -> None:
    new = Architecture(**shape)
    flat = flat_of(new)
    torch.manual_seed(4)
    weights = made(flat).state_dict()
    torch.manual_seed(5)
    network = made(new, with_levels(weights, made(new).state_dict()))
    frames = torch.randn(2, 3, 32, 40).double()
    torch.testing.assert_close(
        network(frames), made(flat, weights)(frames), rtol=1e-9, atol=1e-9
    )
    # The finest level can learn to hear them.
    network(frames).sum().backward()
    for net in (network.analysis, network.context):
        heard = net.up[-1][0].weight
        coarse = heard[:, heard.shape[1] // 2 :]
        assert not coarse.any()
        assert heard.grad[:, -1].any()


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ({"features": 3, "depth": 0, "convolutions": 3}, {"features": 5}),
        ({"features": 3, "depth": 2, "stem_stride": 2}, {"features": 4}),
        ({"features": 4, "depth": 0}, {"kept_features": 7}),
        ({"features": 4, "depth": 1, "kept_features": 2}, {"context_features": 6}),
    ],
)
def test_new_features_change_nothing_yet(
    narrow: dict[str, Any], wide: dict[str, Any]
) -> None:
    old = Architecture(**narrow)
    new = Architecture(**{**narrow, **wide})
    torch.manual_seed(2)
    weights = made(old).state_dict()
    torch.manual_seed(3)
    grown = widened(weights, made(new).state_dict())
    frames = torch.randn(2, 3, 16, 24).double()
    network = made(new, grown)
    torch.testing.assert_close(
        network(frames), made(old, weights)(frames), rtol=1e-9, atol=1e-9
    )
    # The new units do see something, and the old ones can learn to see them.
    count = sum(int((value != 0).sum()) for value in grown.values())
    assert count > sum(value.numel() for value in weights.values())
    network(frames).sum().backward()
    learned = sum(
        int((value.grad[value == 0] != 0).sum())
        for name, value in network.named_parameters()
        if name.endswith("weight") and value.grad is not None
    )
    assert learned > 0


SHRINKING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"features": 6, "convolutions": 3}, {"features": 4}),
    ({"features": 6, "stem_stride": 2}, {"kept_features": 2}),
    ({"features": 5, "kept_features": 4}, {"context_features": 3}),
    ({"features": 6, "convolutions": 1, "stem_stride": 2}, {"features": 1}),
]


@pytest.mark.parametrize(("broad", "slim"), SHRINKING)
def test_features_that_do_nothing_can_go(
    broad: dict[str, Any], slim: dict[str, Any]
) -> None:
    """A network with units of zeros gives back what it was without them."""
    wide = Architecture(depth=0, activation="relu", **broad)
    small = Architecture(depth=0, activation="relu", **{**broad, **slim})
    torch.manual_seed(4)
    weights = made(small).state_dict()
    zeros = {name: torch.zeros_like(v) for name, v in made(wide).state_dict().items()}
    grown = widened(weights, zeros)
    back = narrowed(grown, small)
    assert back.keys() == weights.keys()
    frames = torch.randn(1, 3, 16, 24).double()
    torch.testing.assert_close(
        made(small, back)(frames), made(small, weights)(frames), rtol=1e-9, atol=1e-9
    )


def test_the_strongest_features_stay() -> None:
    wide = Architecture(features=6, depth=0, stem_stride=2)
    torch.manual_seed(5)
    weights = made(wide).state_dict()
    strong = {
        "stem.0": 4,
        "analysis.base.0": 1,
        "context.base.2": 3,
        "head_p.hidden": 0,
    }
    for name, unit in strong.items():
        weights[f"{name}.weight"][unit] *= 100.0
    slim = narrowed(weights, Architecture(features=1, depth=0, stem_stride=2))
    for name, unit in strong.items():
        bias = weights[f"{name}.bias"][unit]
        assert slim[f"{name}.bias"].item() == bias.item()
    torch.testing.assert_close(
        slim["stem.0.weight"][0], weights["stem.0.weight"][4], rtol=0, atol=0
    )
    # Of the three frames' features, each keeps the one that stayed.
    kept = slim["context.base.0.weight"].shape
    assert kept == (1, 3, 3, 3)


def start_of(architecture: Architecture, weights: Weights, recipe: Recipe) -> Any:
    scaling: Scaling = recipe.scaling()
    return StartWeights(weights, architecture, scaling, "there")


def test_a_recipe_may_ask_for_it() -> None:
    old = Architecture(features=4, depth=1, stem_stride=2)
    shape = {"features": 6, "depth": 0, "convolutions": 4, "stem_stride": 2}
    recipe = Recipe.model_validate({"architecture": shape})
    weights = silenced(old)
    start = start_of(old, weights, recipe)
    _, found, said = fine_tuned(start, recipe)
    assert said[0].startswith("the levels below the first are taken out")
    assert said[1] == "features: 2 new ones, which change nothing yet"
    frames = torch.randn(1, 3, 112, 112).double()
    inside = (..., slice(48, -48), slice(48, -48))
    with torch.inference_mode():
        before = made(old, weights)(frames)[inside]
        after = made(recipe.architecture, found)(frames)[inside]
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)
    again = fine_tuned(start, recipe)[1]
    assert all(torch.equal(again[name], value) for name, value in found.items())


def test_a_recipe_may_ask_for_levels() -> None:
    old = Architecture(features=4, depth=0, stem_stride=2, convolutions=4)
    shape = {"features": 5, "depth": 1, "convolutions": 2, "stem_stride": 2}
    recipe = Recipe.model_validate({"architecture": shape})
    weights = made(old).state_dict()
    _, found, said = fine_tuned(start_of(old, weights, recipe), recipe)
    assert said[0] == "levels below the first are new; they are not heard yet"
    assert said[1] == "features: 1 new ones, which change nothing yet"
    frames = torch.randn(1, 3, 48, 56).double()
    with torch.inference_mode():
        before = made(old, weights)(frames)
        after = made(recipe.architecture, found)(frames)
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def test_levels_need_half_the_convolutions() -> None:
    old = Architecture(features=4, depth=0, convolutions=3)
    recipe = Recipe.model_validate({"architecture": {"features": 4, "depth": 1}})
    start = start_of(old, made(old).state_dict(), recipe)
    with pytest.raises(InputError, match="depth is 0, the recipe asks for 1"):
        fine_tuned(start, recipe)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ({"features": 3}, "features is 4, the recipe asks for 3; set architecture"),
        ({"features": 4, "depth": 2}, "depth is 1, the recipe asks for 2"),
        ({"features": 4, "depth": 0}, "convolutions is 4, the recipe asks for 2"),
    ],
)
def test_what_cannot_be_is_one_clear_line(shape: dict[str, Any], match: str) -> None:
    recipe = Recipe.model_validate({"architecture": {"depth": 1, **shape}})
    old = Architecture(features=4, depth=1)
    start = start_of(old, made(old).state_dict(), recipe)
    with pytest.raises(InputError, match=match) as caught:
        fine_tuned(start, recipe)
    assert "\n" not in str(caught.value)
