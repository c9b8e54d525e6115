"""Training: bit-exact resume, schedule, recipes, samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import tiny

from blinkloop.errors import InputError
from blinkloop.training.progress import LOSS_TERMS, Progress
from blinkloop.training.recipe import Recipe
from blinkloop.training.recipes import bundled_recipes, load_recipe
from blinkloop.training.simulate import Simulator
from blinkloop.training.targets import to_targets
from blinkloop.training.trainer import Trainer
from blinkloop.training.validate import Validation

OLD_SCHEDULE = {
    "iterations",
    "batch",
    "targets_per_movie",
    "patch_px",
    "learning_rate",
    "schedule",
    "step_every",
    "warmup_iterations",
    "weight_decay",
    "clip_norm",
    "ema_decay",
    "precision",
    "checkpoint_every",
    "validate_every",
}
OLD_STATE = (
    "format_version",
    "recipe",
    "model",
    "averaged",
    "optimizer",
    "iteration",
    "seconds",
    "torch",
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


def test_what_a_recipe_does_not_say_is_the_runs(tmp_path: Path) -> None:
    """A default of another version, say: what is named counts, in every part."""
    data = tiny().model_dump()
    data["sample"]["margin_px"] = 3
    data["loss"]["window_px"] = 2
    run = Recipe.model_validate(data)
    Trainer(run, tmp_path).save()
    assert Trainer(tiny(), tmp_path).recipe == run
    data = {**tiny().model_dump(include={"architecture", "schedule"}), "loss": {}}
    data["loss"]["window_px"] = 4
    with pytest.raises(InputError, match=r"loss\.window_px is 2 there, 4 here"):
        Trainer(Recipe.model_validate(data), tmp_path)


def test_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a checkpoint") as caught:
        Trainer(tiny(), tmp_path)
    assert "\n" not in str(caught.value)


def test_old_checkpoint_goes_on_as_the_new_one(tmp_path: Path) -> None:
    """A checkpoint as the first version wrote it: no clock, restarts or losses."""
    recipe = tiny()
    Trainer(recipe, tmp_path / "new").train(lambda p: None, until=3)
    state = torch.load(tmp_path / "new" / "checkpoint.pt", weights_only=True)
    stored = json.loads(state["recipe"])
    new_keys = set(stored["schedule"]) - OLD_SCHEDULE
    assert new_keys
    for key in new_keys:
        del stored["schedule"][key]
    del stored["network_units"]
    old = {key: state[key] for key in OLD_STATE}
    for group in old["optimizer"]["param_groups"]:
        group.update(fused=None, foreach=None)
    old["recipe"] = json.dumps(stored)
    (tmp_path / "old").mkdir()
    torch.save(old, tmp_path / "old" / "checkpoint.pt")
    losses: dict[str, list[float]] = {"new": [], "old": []}
    for name, seen in losses.items():
        trainer = Trainer(recipe, tmp_path / name)
        assert trainer.iteration == 3
        trainer.train(lambda p, seen=seen: seen.append(p.loss))
    assert len(losses["old"]) == 3
    np.testing.assert_array_equal(losses["old"], losses["new"])


def test_folder_says_with_what_it_was_trained(tmp_path: Path) -> None:
    recipe = tiny(precision="auto")
    Trainer(recipe, tmp_path).train(lambda p: None, until=2)
    Trainer(recipe, tmp_path).train(lambda p: None)
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["iterations"], run["seed"], run["finished"]) == (6, 0, True)
    spans = [(s["from_iteration"], s["to_iteration"]) for s in run["sessions"]]
    assert spans == [(0, 2), (2, 6)]
    for session in run["sessions"]:
        assert session["versions"]["torch"] == torch.__version__
        assert session["hardware"]["processes"] == 1
    # What `auto` meant is kept, so that the run can be repeated elsewhere.
    kept = Recipe.load(tmp_path / "recipe.yaml")
    assert kept.schedule.precision in ("fp32", "bf16")
    assert Trainer(kept, tmp_path).finished


def test_fp16_scales_its_gradients_and_resumes(tmp_path: Path) -> None:
    recipe = tiny(precision="fp16")
    whole: list[float] = []
    Trainer(recipe, tmp_path / "a").train(lambda p: whole.append(p.loss))
    parts: list[float] = []
    for until in (2, None):
        trainer = Trainer(recipe, tmp_path / "b")
        trainer.train(lambda p: parts.append(p.loss), until=until)
    np.testing.assert_array_equal(parts, whole)
    assert np.isfinite(whole).all()
    state = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)
    assert state["scaler"]["scale"] > 1


def test_progress_says_the_terms_of_the_loss(tmp_path: Path) -> None:
    seen: list[Progress] = []
    Trainer(tiny(iterations=4), tmp_path).train(seen.append)
    for progress in seen:
        np.testing.assert_allclose(
            sum(progress.terms[name] for name in LOSS_TERMS), progress.loss, rtol=1e-6
        )
        assert set(progress.terms) == set(LOSS_TERMS)
    # One without an emitter has nothing to locate.
    for name in LOSS_TERMS:
        assert any(progress.terms[name] != 0 for progress in seen), name


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


def test_a_folder_does_not_hide_a_bundled_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "astigmatic-small").mkdir()
    assert load_recipe("astigmatic-small").name == "astigmatic-small"


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
    targets = to_targets(batch, recipe)
    xy = targets.position[:, 1:3].numpy()
    assert len(xy)
    assert ((xy >= -0.5) & (xy < 23.5)).all()
    photons = targets.position[:, 0].numpy() * recipe.scaling().photons_max
    assert photons.min() >= recipe.sample.photons_floor * 0.999
    assert int(targets.frame.max()) < 8 * recipe.schedule.targets_per_movie
    assert targets.background.shape == (16, 24, 24)


def test_dense_movies_count_less_by_the_density_they_were_drawn_with() -> None:
    recipe = tiny(batch=6, targets_per_movie=3)
    assert to_targets(Simulator(recipe).batch(0), recipe).weight is None
    loss = recipe.loss.model_copy(
        update={"crowding_power": 0.5, "crowding_density_per_um2": 0.2}
    )
    crowded = recipe.model_copy(update={"loss": loss})
    batch = Simulator(crowded).batch(0)
    weight = to_targets(batch, crowded).weight
    assert weight is not None
    assert batch.density_per_um2 is not None
    drawn = np.repeat(batch.density_per_um2, 3)
    assert len(np.unique(drawn)) > 3
    np.testing.assert_allclose(weight, np.sqrt(0.2 / (0.2 + drawn)), rtol=1e-6)
