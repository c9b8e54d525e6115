"""Fine-tuning: the first loss is the source's, units fit, mismatches are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import tiny, with_sample

from blinkloop.errors import InputError
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe
from blinkloop.training.start import StartWeights, fine_tuned, start_from_run
from blinkloop.training.trainer import Trainer
from blinkloop.training.validation_loss import ValidationLoss, all_measures


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    recipe = tiny(iterations=30, learning_rate=3e-3, validate_every=1000)
    Trainer(recipe, folder).train(lambda p: None)
    return folder


def nll(trainer: Trainer, recipe: Recipe) -> float:
    with torch.inference_mode():
        return ValidationLoss(recipe, batches=1)(trainer.averaged)["nll"]


@pytest.mark.parametrize("what", ["folder", "checkpoint"])
def test_identical_recipe_begins_at_the_sources_loss(
    source: Path, what: str, tmp_path: Path
) -> None:
    path = source if what == "folder" else source / "checkpoint.pt"
    old = Trainer(Recipe.load(source / "recipe.yaml"), source)
    new = Trainer(tiny(), tmp_path, start=start_from_run(path))
    assert new.notes == []
    assert new.recipe == tiny()
    assert nll(new, new.recipe) == nll(old, old.recipe)
    assert nll(new, new.recipe) < nll(Trainer(tiny(), tmp_path / "x"), tiny()) - 1
    first: list[float] = []
    new.train(lambda p: first.append(p.loss), until=1)
    old_network = TwoStageNetwork(new.recipe.architecture)
    old_network.load_state_dict(old.averaged.state_dict())
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert stored["source"] == str(path)
    # It is resumed by the same command, which still has the start.
    assert Trainer(tiny(), tmp_path, start=start_from_run(path)).iteration == 1


def test_ranges_inside_keep_the_units_of_the_source(
    source: Path, tmp_path: Path
) -> None:
    recipe = with_sample(tiny(), photons=(1500.0, 3000.0), density_per_um2=(0.1, 1.0))
    trainer = Trainer(recipe, tmp_path, start=start_from_run(source))
    assert recipe.scaling() != tiny().scaling()
    assert trainer.recipe.scaling() == tiny().scaling()
    trainer.save()
    # The run's own recipe and the one it was made from both go on with it.
    for given in (recipe, Recipe.load(tmp_path / "recipe.yaml")):
        assert Trainer(given, tmp_path).recipe == trainer.recipe


def maps_of(weights: dict[str, torch.Tensor], recipe: Recipe) -> torch.Tensor:
    network = TwoStageNetwork(recipe.architecture)
    network.load_state_dict(weights)
    s = recipe.scaling()
    photons = torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(3)) * 99
    with torch.inference_mode():
        maps = network((photons - s.input_offset_photons) / s.input_scale_photons)
    n, z = s.photons_max, s.z_max_nm
    scale = torch.tensor([1, n, 1, 1, z, n, 1, 1, z, s.background_max])
    return maps * scale[:, None, None]


def test_ranges_outside_get_new_units_and_keep_small_values(source: Path) -> None:
    start = start_from_run(source)
    weights = dict(start.weights)
    # Values far below the largest one, where the change of units is exact.
    for name in ("head_position", "head_sigma", "head_background"):
        weights[f"{name}.out.weight"] = weights[f"{name}.out.weight"] * 0.02
    for name in ("head_sigma", "head_background"):
        weights[f"{name}.out.bias"] = torch.full_like(weights[f"{name}.out.bias"], -6)
    bias = weights["head_position.out.bias"].clone().zero_()
    bias[:4] = -6.0
    weights["head_position.out.bias"] = bias
    start = StartWeights(weights, start.architecture, start.scaling, "there")
    wide = with_sample(
        tiny(), photons=(1000.0, 20000.0), background_photons=(5.0, 200.0)
    )
    psf = {**wide.psf.model_dump(), "z_range_nm": (-700.0, 700.0)}
    wide = Recipe.model_validate({**wide.model_dump(), "psf": psf})
    recipe, changed, said = fine_tuned(start, wide)
    assert [line.split()[0] for line in said] == [
        "photons_max",
        "z_max_nm",
        "background_max",
    ]
    new, old = recipe.scaling(), start.scaling
    assert new.photons_max == wide.scaling().photons_max > old.photons_max
    assert new.input_scale_photons == old.input_scale_photons
    ours, theirs = maps_of(changed, recipe), maps_of(weights, tiny())
    channels = [0, 1, 2, 3, 4, 6, 7, 9]
    np.testing.assert_allclose(
        ours[0, channels], theirs[0, channels], rtol=0.01, atol=1e-3
    )
    # Sigmas have a floor in network units; beyond it they stay.
    floor = 0.001 * torch.tensor([new.photons_max, new.z_max_nm])[:, None, None]
    was = 0.001 * torch.tensor([old.photons_max, old.z_max_nm])[:, None, None]
    np.testing.assert_allclose(
        ours[0, [5, 8]] - floor, theirs[0, [5, 8]] - was, rtol=0.01
    )
    assert torch.equal(
        start.weights["head_sigma.out.bias"], weights["head_sigma.out.bias"]
    )


def test_other_architecture_is_one_clear_line(source: Path) -> None:
    data = tiny().model_dump()
    data["architecture"]["features"] = 3
    with pytest.raises(InputError, match=r"features is 4, the recipe asks for 3") as e:
        fine_tuned(start_from_run(source), Recipe.model_validate(data))
    assert "set architecture.features: 4" in str(e.value)
    assert "\n" not in str(e.value)


def test_weights_of_something_else_are_refused(source: Path) -> None:
    start = start_from_run(source)
    weights = {**start.weights, "more": torch.zeros(1)}
    wrong = StartWeights(weights, start.architecture, start.scaling, "there")
    with pytest.raises(InputError, match="there: its weights are not those"):
        fine_tuned(wrong, tiny())


def test_validation_loss_repeats_and_sums(source: Path) -> None:
    measure = all_measures(
        ValidationLoss(tiny(), batches=2), lambda network: {"more": 1.0}
    )
    network = Trainer(Recipe.load(source / "recipe.yaml"), source).averaged
    with torch.inference_mode():
        first, again = measure(network), measure(network)
    assert first == again
    terms = [v for name, v in first.items() if name.startswith("nll_")]
    np.testing.assert_allclose(sum(terms), first["nll"], rtol=1e-6)
    assert first["more"] == 1.0


def test_z_begins_anew_after_a_network_without_z(source: Path) -> None:
    """Its sigma of z is the smallest there is; in nm it would stay next to nothing."""
    start = start_from_run(source)
    weights = {name: value.clone() for name, value in start.weights.items()}
    weights["head_sigma.out.bias"][12:16] = -30.0  # sure that z is 0
    scaling = start.scaling.model_copy(update={"z_max_nm": 1.0})
    flat = StartWeights(weights, start.architecture, scaling, "there", False)
    recipe, changed, said = fine_tuned(flat, tiny())
    assert said == ["z was not learned there: its heads begin anew"]
    assert recipe.scaling().z_max_nm == tiny().scaling().z_max_nm
    maps = maps_of(changed, recipe)
    np.testing.assert_allclose(maps[0, 8], 1.501 * recipe.scaling().z_max_nm, rtol=1e-4)
    np.testing.assert_array_equal(maps[0, 4], 0.0)
    # All else as it was.
    keep = [0, 1, 2, 3, 5, 6, 7, 9]
    before = maps_of(weights, recipe)
    np.testing.assert_allclose(maps[0, keep], before[0, keep], rtol=1e-5, atol=1e-6)
    # A network with z keeps its heads.
    solid = StartWeights(weights, start.architecture, start.scaling, "there")
    assert fine_tuned(solid, tiny())[2] == []


def test_another_activation_begins_with_the_same_weights(source: Path) -> None:
    start = start_from_run(source)
    data = tiny().model_dump()
    data["architecture"]["activation"] = "relu"
    _, weights, said = fine_tuned(start, Recipe.model_validate(data))
    assert said == ["elu becomes relu: the first loss is far above the source's"]
    for name, value in start.weights.items():
        assert torch.equal(weights[name], value)
