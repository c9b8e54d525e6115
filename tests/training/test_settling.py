"""Sigma settles on the errors of what is detected, and nothing else changes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_recipes import tiny

from blinkloop.cli._bundled import resolve_model
from blinkloop.export.weights import read_model_weights
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.run_state import new_network
from blinkloop.training.settling import settle_sigma
from blinkloop.training.simulate import Simulator
from blinkloop.training.trainer import Trainer

CPU = torch.device("cpu")


def _trained() -> tuple[TwoStageNetwork, Recipe]:
    """A bundled network, and a recipe of few emitters in its units."""
    arrays, card = read_model_weights(resolve_model("astigmatic-small"))
    recipe = Recipe.model_validate(
        {
            "architecture": card.architecture.model_dump(),
            "psf": card.psf.model_dump(),
            "camera": card.camera.model_dump(),
            "network_units": card.scaling.model_dump(),
            "sample": {"density_per_um2": [0.3, 0.6], "photons": [2000, 4000]},
            "schedule": {"batch": 4, "patch_px": 32},
        }
    )
    network = new_network(recipe, CPU)
    network.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()})
    return network, recipe


def _too_sure(network: TwoStageNetwork) -> None:
    """Sigmas a third of what they were."""
    with torch.no_grad():
        network.head_sigma.out.bias -= math.log(3.0)


def test_sigma_that_is_too_sure_settles_and_the_rest_stays() -> None:
    network, recipe = _trained()
    _too_sure(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    simulator = Simulator(recipe)
    done = settle_sigma(
        network, recipe, lambda i, s: simulator.batch(i, stream=s), iterations=40
    )
    assert done is not None
    assert done.kept
    assert done.pairs > 100
    for axis in ("photons", "x", "y", "z"):
        assert done.before[axis] > 2.0
        assert 0.7 < done.after[axis] < 1.4
    assert "x, y, z" in done.line()
    for name, value in network.state_dict().items():
        same = torch.equal(value, before[name])
        assert same is not name.startswith("head_sigma"), name


def test_interrupted_it_leaves_the_network_as_it_was() -> None:
    network, recipe = _trained()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    simulator, asked = Simulator(recipe), iter([False, True])
    done = settle_sigma(
        network,
        recipe,
        lambda i, s: simulator.batch(i, stream=s),
        iterations=9,
        interrupted=lambda: next(asked),
    )
    assert done is None
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_network_that_detects_nothing_keeps_its_sigma() -> None:
    recipe = tiny()
    network = new_network(recipe, CPU)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    simulator = Simulator(recipe)
    done = settle_sigma(
        network, recipe, lambda i, s: simulator.batch(i, stream=s), iterations=2
    )
    assert done is not None
    assert not done.kept
    assert "as it was" in done.line()
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_a_flat_network_is_paired_without_z() -> None:
    data = tiny().model_dump()
    data["psf"]["z_range_nm"] = [0.0, 0.0]
    recipe = Recipe.model_validate(data)
    network = new_network(recipe, CPU)
    with torch.no_grad():  # something is detected, anywhere
        network.head_p.out.bias.fill_(3.0)
    simulator = Simulator(recipe)
    done = settle_sigma(
        network, recipe, lambda i, s: simulator.batch(i, stream=s), iterations=2
    )
    assert done is not None
    assert set(done.after) == {"photons", "x", "y"}


def test_the_trainer_settles_once_at_the_end(tmp_path: Path) -> None:
    said: list[str] = []
    recipe = tiny(iterations=8, schedule="wsd")
    trainer = Trainer(recipe, tmp_path)
    trainer.train(lambda _: None, until=7, say=said.append)
    assert not said
    trainer.train(lambda _: None, say=said.append)
    assert said[0].startswith("2 iterations of sigma alone")
    assert trainer.finished
    again = Trainer(recipe, tmp_path)
    assert again.finished
    assert again.state.settled == trainer.state.settled
    assert again.state.settled is not None
    assert again.state.settled["iterations"] == 2
    longer = Trainer(tiny(iterations=12, schedule="wsd"), tmp_path)
    assert not longer.finished
    longer.train(lambda _: None, say=said.append)
    assert longer.state.settled is not None
    assert longer.state.settled["iterations"] == 3


def test_interrupted_while_it_settles_a_run_is_not_finished(tmp_path: Path) -> None:
    recipe = tiny(iterations=8)
    trainer = Trainer(recipe, tmp_path)
    said: list[str] = []
    trainer.train(
        lambda _: None, interrupted=lambda: trainer.iteration == 8, say=said.append
    )
    assert trainer.trained
    assert not trainer.finished
    assert said[1].startswith("interrupted")
    resumed = Trainer(recipe, tmp_path)
    assert not resumed.finished
    resumed.train(lambda _: None, say=said.append)
    assert resumed.finished
    assert resumed.state.settled_at == 8


@pytest.mark.parametrize("schedule", [{"sigma_iterations": 0}, {"iterations": 3}])
def test_without_it_a_run_ends_as_it_is(
    tmp_path: Path, schedule: dict[str, int]
) -> None:
    trainer = Trainer(tiny(**schedule), tmp_path)
    trainer.train(lambda _: None)
    assert trainer.finished
    assert trainer.state.settled is None
