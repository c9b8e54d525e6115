"""Distillation: the term itself, units, exact resume, teachers that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_recipes import tiny
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from blinkloop.errors import InputError
from blinkloop.schema import DetectionSettings, Scaling
from blinkloop.training.card import card_from_recipe
from blinkloop.training.detection import physical_scale
from blinkloop.training.distillation import (
    TEACHER_FILE,
    Distillation,
    Teacher,
    check_teacher,
    distillation_loss,
)
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import DistillationSettings, Recipe
from blinkloop.training.simulate import Batch, Simulator
from blinkloop.training.targets import scaled_frames
from blinkloop.training.trainer import Trainer

SETTINGS = DistillationSettings(teacher="somebody", weight=0.7, location_weight=0.3)


def changed(recipe: Recipe, **parts: Any) -> Recipe:
    return Recipe.model_validate({**recipe.model_dump(), **parts})


def student(**schedule: object) -> Recipe:
    return changed(tiny(**schedule), distillation=SETTINGS.model_dump())


def make_teacher(recipe: Recipe | None = None, seed: int = 5) -> Teacher:
    recipe = recipe or tiny()
    torch.manual_seed(seed)
    network = TwoStageNetwork(recipe.architecture)
    # Sure of something here and there, as a trained one is.
    torch.nn.init.constant_(network.head_p.out.bias, -2.0)
    state = {name: v.clone() for name, v in network.state_dict().items()}
    return Teacher(state, card_from_recipe(recipe), "runs/teacher", "abc")


def random_maps(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Maps and p logits of two frames of 3 x 5 px."""
    generator = torch.Generator().manual_seed(seed)
    heads = torch.randn(2, 10, 3, 5, generator=generator, dtype=dtype)
    heads[:, :1] *= 2.5  # from hardly to certainly
    network = TwoStageNetwork(tiny().architecture)
    logit = heads[:, :1]
    return network.activate(logit, heads[:, 1:5], heads[:, 5:9], heads[:, 9:]), logit


@pytest.mark.parametrize("three_dimensional", [True, False])
def test_term_is_the_divergence_of_torchs_distributions(
    three_dimensional: bool,
) -> None:
    maps, logit = random_maps(0)
    teacher, _ = random_maps(1)
    got = distillation_loss(
        maps, logit, teacher, SETTINGS, three_dimensional=three_dimensional
    )
    axes = 4 if three_dimensional else 3
    p = teacher[:, 0]
    number = kl_divergence(
        Bernoulli(p, validate_args=False), Bernoulli(logits=logit[:, 0])
    )
    place = kl_divergence(
        Normal(teacher[:, 1 : 1 + axes], teacher[:, 5 : 5 + axes]),
        Normal(maps[:, 1 : 1 + axes], maps[:, 5 : 5 + axes]),
    ).sum(1)
    heard = p * (p >= SETTINGS.p_level)
    assert 0 < int((heard > 0).sum()) < heard.numel()
    place = 10 * torch.log1p(place / 10)
    expected = 0.7 * (number + 0.3 * heard * place).sum((1, 2))
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    assert bool((got > 0).all())


def test_student_that_agrees_has_nothing_to_learn() -> None:
    maps, logit = random_maps(2)
    leaf = logit.clone().requires_grad_()
    loss = distillation_loss(maps, leaf, maps, SETTINGS)
    loss.sum().backward()
    np.testing.assert_allclose(loss.detach(), 0, atol=1e-9)
    np.testing.assert_allclose(leaf.grad, 0, atol=1e-9)


def test_gradient_is_that_of_the_differences() -> None:
    teacher, _ = random_maps(3)
    network = TwoStageNetwork(tiny().architecture)
    generator = torch.Generator().manual_seed(4)
    heads = torch.randn(2, 10, 3, 5, generator=generator, dtype=torch.float64)

    def loss(heads: Tensor) -> Tensor:
        logit = heads[:, :1]
        maps = network.activate(logit, heads[:, 1:5], heads[:, 5:9], heads[:, 9:])
        return distillation_loss(maps, logit, teacher, SETTINGS)

    assert torch.autograd.gradcheck(loss, (heads.requires_grad_(),))


def test_gradient_does_not_end_where_p_is_clamped() -> None:
    teacher, _ = random_maps(3)
    maps, _ = random_maps(4)
    logit = torch.full((2, 1, 3, 5), 30.0, dtype=torch.float64, requires_grad=True)
    distillation_loss(maps, logit, teacher, SETTINGS).sum().backward()
    np.testing.assert_allclose(logit.grad, 0.7 * (1 - teacher[:, :1]), rtol=1e-9)


def test_a_sigma_at_its_floor_does_not_drown_the_rest() -> None:
    maps, logit = random_maps(0)
    teacher, _ = random_maps(1)
    maps[:, 5:9] = 0.001
    got = distillation_loss(maps, logit, teacher, SETTINGS)
    assert float(got.max()) < 0.7 * (150 + 0.3 * 15 * 10 * np.log(1e6))


def test_frames_without_anything_to_place_count_p_alone() -> None:
    maps, logit = random_maps(6)
    teacher, _ = random_maps(7)
    teacher[:, 0] = 0.01
    both = distillation_loss(maps, logit, teacher, SETTINGS)
    alone = SETTINGS.model_copy(update={"location_weight": 0.0})
    np.testing.assert_array_equal(both, distillation_loss(maps, logit, teacher, alone))


UNITS = Scaling(
    input_offset_photons=33.0,
    input_scale_photons=17.0,
    photons_max=21000.0,
    z_max_nm=1234.0,
    background_max=77.0,
)


def test_teachers_maps_are_its_own_in_physical_units() -> None:
    """Other units, another stride, and a patch that it has to pad."""
    shape = {"features": 3, "depth": 2, "stem_stride": 4}
    units = {"network_units": UNITS, "schedule": {"patch_px": 32}}
    teacher = make_teacher(changed(tiny(), architecture=shape, **units))
    recipe = student(patch_px=20)
    batch = Simulator(recipe).batch(0)
    assert batch.frames.shape == (2, 4, 20, 20)
    device = torch.device("cpu")
    maps = Distillation(teacher, recipe, device).maps(batch)
    assert not maps.requires_grad
    ours = torch.tensor(physical_scale(recipe.scaling()))[:, None, None]
    network = TwoStageNetwork(teacher.card.architecture).eval()
    network.load_state_dict(teacher.weights)
    frames = torch.nn.functional.pad(
        scaled_frames(batch, UNITS), (0, 12, 0, 12), mode="replicate"
    )
    triples = frames.unfold(1, 3, 1).permute(0, 1, 4, 2, 3).flatten(0, 1)
    with torch.inference_mode():
        expected = network(triples.contiguous())[:, :, :20, :20]
    scale = torch.tensor(physical_scale(UNITS))[:, None, None]
    np.testing.assert_allclose(maps, expected * scale / ours, rtol=1e-4, atol=1e-5)


def trained(
    folder: Path, recipe: Recipe, teacher: Teacher | None, **how: Any
) -> tuple[Trainer, list[float]]:
    losses: list[float] = []
    trainer = Trainer(recipe, folder, teacher=teacher)
    trainer.train(lambda p: losses.append(p.loss), **how)
    return trainer, losses


def test_resume_is_bit_exact_without_the_named_teacher(tmp_path: Path) -> None:
    teacher = make_teacher()
    straight, whole = trained(tmp_path / "a", student(), teacher)
    _, first = trained(tmp_path / "b", student(), teacher, until=2)
    # Whatever is named now, the run's own teacher counts.
    resumed, second = trained(tmp_path / "b", student(), None)
    assert len(second) == 4
    np.testing.assert_array_equal(first + second, whole)
    for name in ("network", "averaged"):
        ours, theirs = getattr(straight, name), getattr(resumed, name)
        for key, value in ours.state_dict().items():
            np.testing.assert_array_equal(value, theirs.state_dict()[key])
    kept = Teacher(teacher.weights, teacher.card, "runs/teacher", "abc")
    for key, value in make_teacher().weights.items():
        np.testing.assert_array_equal(value, kept.weights[key])  # never trained
    record = {"name": "tiny", "source": "runs/teacher", "weights_sha256": "abc"}
    assert f'"source": "{record["source"]}"' in (tmp_path / "b/run.json").read_text()
    state = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)
    assert state["teacher"] == record


def test_teacher_changes_what_is_learned_and_is_reported(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    taught = Trainer(student(), tmp_path / "a", teacher=make_teacher())
    taught.train(lambda p: seen.append({**p.terms, "loss": p.loss}))
    plain, losses = trained(tmp_path / "b", tiny(), None)
    # The first iteration: the same batch, the same weights, one term more.
    for terms in seen:
        parts = sum(v for k, v in terms.items() if k != "loss")
        assert terms["distillation"] > 0
        np.testing.assert_allclose(terms["loss"], parts, rtol=1e-6)
    without = seen[0]["loss"] - seen[0]["distillation"]
    np.testing.assert_allclose(losses[0], without, rtol=1e-6)
    ours = taught.network.state_dict()["head_p.out.weight"]
    theirs = plain.network.state_dict()["head_p.out.weight"]
    assert float((ours - theirs).abs().max()) > 1e-6


def test_student_comes_closer_to_its_teacher(tmp_path: Path) -> None:
    """With the truth out of the way the teacher is all there is to learn."""
    data = student(iterations=60, learning_rate=3e-3).model_dump()
    data["distillation"]["weight"] = 20.0
    terms: list[float] = []
    trainer = Trainer(Recipe.model_validate(data), tmp_path, teacher=make_teacher())
    trainer.train(lambda p: terms.append(p.terms["distillation"]))
    assert np.mean(terms[-10:]) < 0.5 * np.mean(terms[:5])


def test_frames_that_count_less_are_taught_less() -> None:
    recipe, teacher = student(), make_teacher()
    term = Distillation(teacher, recipe, torch.device("cpu"))
    batch = Simulator(recipe).batch(0)
    maps, logit = term.maps(batch), torch.zeros(4, 1, 16, 16)
    full = term(batch, maps, logit, None)
    np.testing.assert_allclose(
        term(batch, maps, logit, torch.full((4,), 0.25)), 0.25 * full, rtol=1e-6
    )
    assert float(term(batch, maps, logit, torch.zeros(4))) == 0.0


def test_an_empty_batch_has_a_finite_term() -> None:
    recipe = student()
    term = Distillation(make_teacher(), recipe, torch.device("cpu"))
    one = Simulator(recipe).batch(0)
    saturated = Batch(
        np.full_like(np.asarray(one.frames), 65535.0), one.background, one.emitters[:0]
    )
    maps, logit = term.maps(saturated), torch.full((4, 1, 16, 16), 60.0)
    assert np.isfinite(float(term(saturated, maps, logit, None)))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("psf", {"kind": "gaussian", "z_range_nm": [0.0, 0.0]}, "is a 2D network"),
        ("camera", {"pixel_size_nm": 130.0}, "pixels of 130 nm, the recipe has 100"),
    ],
)
def test_teacher_that_does_not_fit_is_one_line(
    tmp_path: Path, part: str, value: dict[str, object], said: str
) -> None:
    teacher = make_teacher(changed(tiny(), **{part: value}))
    with pytest.raises(InputError, match=said) as caught:
        Trainer(student(), tmp_path / "run", teacher=teacher)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_teacher_of_other_weights_is_refused() -> None:
    teacher = make_teacher()
    weights = {**teacher.weights, "head_p.out.bias": torch.zeros(3)}
    wrong = Teacher(weights, teacher.card, "x.onnx", "abc")
    with pytest.raises(InputError, match=r"x\.onnx: its weights are not those"):
        check_teacher(wrong, student())


@pytest.mark.parametrize("damage", ["gone", "cut", "foreign"])
def test_run_whose_teacher_is_lost_is_one_line(tmp_path: Path, damage: str) -> None:
    trained(tmp_path, student(), make_teacher(), until=1)
    file = tmp_path / TEACHER_FILE
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        torch.save({"a": 1}, file)
    with pytest.raises(InputError, match=r"teacher\.pt.*another folder") as caught:
        Trainer(student(), tmp_path)
    assert "\n" not in str(caught.value)


def test_card_of_a_student_names_its_teacher(tmp_path: Path) -> None:
    from blinkloop.export.from_run import read_run

    trained(tmp_path, student(), make_teacher(), until=1)
    run = read_run(tmp_path)
    card = card_from_recipe(run.recipe, provenance=run.provenance)
    assert card.provenance["teacher"]["weights_sha256"] == "abc"
    assert card.provenance["recipe"]["distillation"]["weight"] == 0.7
    assert card.detection == DetectionSettings()
