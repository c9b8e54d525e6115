"""Training: bit-exact resume, schedule, recipes, samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from blinkloop.errors import BlinkloopError, InputError
from blinkloop.training.progress import Progress
from blinkloop.training.recipe import Recipe, ScheduleSettings
from blinkloop.training.recipes import bundled_recipes, load_recipe
from blinkloop.training.schedule import learning_rate
from blinkloop.training.simulate import Simulator
from blinkloop.training.targets import to_targets
from blinkloop.training.trainer import Trainer
from blinkloop.training.validate import Validation


def tiny(**schedule: object) -> Recipe:
    base = {
        "iterations": 6,
        "batch": 2,
        "patch_px": 16,
        "warmup_iterations": 2,
        "precision": "fp32",
        "checkpoint_every": 100,
        "validate_every": 3,
    }
    return Recipe.model_validate(
        {
            "name": "tiny",
            "architecture": {"features": 4, "depth": 1, "stem_stride": 2},
            "schedule": {**base, **schedule},
        }
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_is_bit_exact(tmp_path: Path, precision: str) -> None:
    recipe = tiny(precision=precision)
    whole, parts = [], []
    straight = Trainer(recipe, tmp_path / "a")
    straight.train(lambda p: whole.append(p.loss))
    Trainer(recipe, tmp_path / "b").train(lambda p: parts.append(p.loss), until=2)
    resumed = Trainer(recipe, tmp_path / "b")
    assert resumed.iteration == 2
    resumed.train(lambda p: parts.append(p.loss))
    np.testing.assert_array_equal(parts, whole)
    for name in ("network", "averaged"):
        ours, theirs = getattr(straight, name), getattr(resumed, name)
        for key, value in ours.state_dict().items():
            np.testing.assert_array_equal(value, theirs.state_dict()[key])


def test_training_lowers_the_loss_and_reports_validation(tmp_path: Path) -> None:
    recipe = tiny(iterations=40, learning_rate=3e-3)
    seen: list[Progress] = []
    Trainer(recipe, tmp_path, validate=Validation(recipe)).train(seen.append)
    assert np.mean([p.loss for p in seen[-5:]]) < 0.7 * np.mean(
        [p.loss for p in seen[:5]]
    )
    measured = [p.validation for p in seen if p.validation]
    assert len(measured) == 14  # every third iteration, and the last
    assert set(measured[-1]) == {
        "jaccard",
        "rmse_lateral_nm",
        "rmse_axial_nm",
        "density_bias",
    }


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    Trainer(tiny(), tmp_path).save()
    with pytest.raises(InputError, match="another recipe"):
        Trainer(tiny(batch=3), tmp_path)


def test_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a checkpoint") as caught:
        Trainer(tiny(), tmp_path)
    assert "\n" not in str(caught.value)


def test_divergence_is_named_and_the_checkpoint_stays(tmp_path: Path) -> None:
    trainer = Trainer(tiny(), tmp_path)
    trainer.save()
    with torch.no_grad():
        trainer.network.head_p.out.bias.fill_(float("nan"))
    with pytest.raises(BlinkloopError, match="diverged at iteration 0"):
        trainer.train(lambda p: None)
    assert Trainer(tiny(), tmp_path).iteration == 0


def test_learning_rate_warms_up_and_decays() -> None:
    schedule = ScheduleSettings(iterations=1000, warmup_iterations=10)
    rates = np.array([learning_rate(schedule, i) for i in range(1000)])
    np.testing.assert_allclose(rates[0], schedule.learning_rate / 10)
    assert np.argmax(rates) in (9, 10)
    assert (np.diff(rates[10:]) < 0).all()
    step = schedule.model_copy(update={"schedule": "step", "step_every": 100})
    np.testing.assert_allclose(
        learning_rate(step, 250), schedule.learning_rate * 0.9**2
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("schedule: {lerning_rate: 1}", "lerning_rate"),
        ("schedule: {patch_px: 41}", "multiple"),
        ("a: [", "not valid YAML"),
        ("psf: {kind: airy}", "psf"),
        ("- 1", "recipe"),
    ],
    ids=["unknown-key", "patch-size", "broken", "psf-kind", "not-a-mapping"],
)
def test_bad_recipe_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)


def test_recipe_round_trip_and_bundled(tmp_path: Path) -> None:
    assert bundled_recipes()
    for name in bundled_recipes():
        recipe = load_recipe(name)
        recipe.save(tmp_path / "again.yaml")
        assert Recipe.load(tmp_path / "again.yaml") == recipe
    with pytest.raises(InputError, match="no recipe"):
        load_recipe("nonsense")


def test_batches_repeat_and_differ() -> None:
    simulator = Simulator(tiny())
    first, again, other = (simulator.batch(i) for i in (3, 3, 4))
    np.testing.assert_array_equal(first.frames, again.frames)
    assert (first.frames != other.frames).any()


def test_targets_are_in_the_field_and_bright() -> None:
    recipe = tiny(batch=8, patch_px=24)
    batch = Simulator(recipe).batch(0)
    rows = batch.emitters
    outside = (rows["x_px"] < -0.5) | (rows["y_px"] > 23.5)
    assert outside.any(), "light from outside the frame is part of the simulation"
    targets = to_targets(batch, recipe.scaling(), recipe.sample.photons_floor)
    xy = targets.position[:, 1:3].numpy()
    assert len(xy)
    assert ((xy >= -0.5) & (xy < 23.5)).all()
    photons = targets.position[:, 0].numpy() * recipe.scaling().photons_max
    assert photons.min() >= recipe.sample.photons_floor * 0.999
    assert int(targets.frame.max()) < 8 * recipe.schedule.targets_per_movie
    assert targets.background.shape == (16, 24, 24)
