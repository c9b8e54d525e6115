"""Learning rates, time budgets, and runs whose end is decided later."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_recipes import tiny

from blinkloop.errors import InputError
from blinkloop.training.progress import Progress
from blinkloop.training.recipe import ScheduleSettings
from blinkloop.training.schedule import Clock, decay_start, learning_rate
from blinkloop.training.trainer import Trainer


def rates(schedule: ScheduleSettings) -> np.ndarray:
    return np.array([learning_rate(schedule, i) for i in range(schedule.iterations)])


def test_cosine_warms_up_and_decays() -> None:
    schedule = ScheduleSettings(iterations=1000, warmup_iterations=10)
    found = rates(schedule)
    np.testing.assert_allclose(found[0], schedule.learning_rate / 10)
    assert np.argmax(found) in (9, 10)
    assert (np.diff(found[10:]) < 0).all()
    np.testing.assert_allclose(found[-1], 0.01 * schedule.learning_rate, rtol=1e-3)


def test_step_is_the_official_one() -> None:
    step = ScheduleSettings(schedule="step", step_every=100, warmup_iterations=10)
    np.testing.assert_allclose(
        learning_rate(step, 250), step.learning_rate * 0.9**2, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("shape", "middle"), [("linear", 0.5), ("1-sqrt", 1 - 0.5**0.5)]
)
def test_wsd_stays_and_then_falls_to_zero(shape: str, middle: float) -> None:
    schedule = ScheduleSettings(
        iterations=1000,
        warmup_iterations=10,
        schedule="wsd",
        decay_fraction=0.2,
        decay_shape=shape,
        learning_rate=1.0,
    )
    found = rates(schedule)
    assert decay_start(schedule) == 800
    np.testing.assert_allclose(found[10:801], 1.0)
    np.testing.assert_allclose(found[900], middle)
    assert (np.diff(found[800:]) < 0).all()
    assert 0 < found[-1] < 0.01


@given(
    share=st.floats(0, 1),
    iteration=st.integers(0, 10**6),
    shape=st.sampled_from(["cosine", "wsd"]),
)
def test_rate_of_a_time_budget_is_the_shares(
    share: float, iteration: int, shape: str
) -> None:
    schedule = ScheduleSettings(minutes=10, schedule=shape, learning_rate=1.0)
    rate = learning_rate(schedule, iteration, share)
    assert 0 <= rate <= 1
    # After the warm-up it does not depend on how fast the machine is.
    if share >= 0.1:
        assert rate == learning_rate(schedule, 10**7, share)


def test_short_budget_does_not_end_in_its_warmup() -> None:
    schedule = ScheduleSettings(minutes=1, warmup_iterations=300, learning_rate=1.0)
    assert learning_rate(schedule, 3, 0.1) > 0.95


def test_step_schedule_has_no_minutes() -> None:
    with pytest.raises(ValueError, match="step schedule counts iterations"):
        ScheduleSettings(minutes=1, schedule="step")


def test_clock_estimates_the_length() -> None:
    schedule, clock = ScheduleSettings(minutes=10), Clock()
    assert clock.iterations(schedule, 0) == 0
    for _ in range(100):
        clock.step(2.0)
    clock.reserve_s = 20.0
    # A tenth of the budget, 60 s, is kept for sigma alone.
    assert clock.iterations(schedule, 100) == 100 + 160
    np.testing.assert_allclose(clock.share(schedule), 200 / (600 - 20 - 60 - 2))


def test_minutes_end_with_a_validation_and_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each look at the clock takes 40 ms, however slow the machine is.
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) * 0.04)
    monkeypatch.setattr("blinkloop.training.trainer.time", clock)
    recipe = tiny(minutes=0.02, validate_every=10**6)
    seen: list[Progress] = []
    calls: list[int] = []

    def validate(network: torch.nn.Module) -> dict[str, float]:
        calls.append(1)
        return {"jaccard": 0.5}

    trainer = Trainer(recipe, tmp_path, validate=validate)
    trainer.train(seen.append, until=2)
    used = trainer.state.clock.elapsed_s
    assert len(seen) == 2
    assert 0 < used < 1.2
    again = Trainer(recipe, tmp_path, validate=validate)
    assert again.state.clock.elapsed_s == used
    again.train(seen.append)
    assert again.finished
    assert len(calls) == 1
    assert seen[-1].validation == {"jaccard": 0.5}
    assert seen[-1].iteration == seen[-1].iterations == again.iteration
    assert 0.9 * 1.2 < again.state.clock.elapsed_s < 1.2 + 10 * again.state.clock.pace_s
    assert seen[-1].learning_rate < 0.2 * recipe.schedule.learning_rate
    assert Trainer(recipe, tmp_path).finished


def wsd(iterations: int, **more: object) -> object:
    return tiny(schedule="wsd", iterations=iterations, decay_fraction=0.5, **more)


def trained(folder: Path, recipe: object, **how: object) -> tuple[Trainer, list[float]]:
    until = how.pop("until", None)
    losses: list[float] = []
    trainer = Trainer(recipe, folder, **how)
    trainer.train(lambda p: losses.append(p.loss), until=until)
    return trainer, losses


def test_stable_run_is_prolonged_to_the_bit(tmp_path: Path) -> None:
    _, whole = trained(tmp_path / "a", wsd(12))
    _, first = trained(tmp_path / "b", wsd(8), until=4)
    _, rest = trained(tmp_path / "b", wsd(12))
    np.testing.assert_array_equal(first + rest, whole)


def test_finished_run_goes_on_from_before_its_decay(tmp_path: Path) -> None:
    _, whole = trained(tmp_path / "a", wsd(12))
    _, short = trained(tmp_path / "b", wsd(8))
    np.testing.assert_array_equal(short[:4], whole[:4])
    longer, rest = trained(tmp_path / "b", wsd(12))
    assert longer.notes == ["goes back to iteration 4, before the decay"]
    np.testing.assert_array_equal(rest, whole[4:])


def test_run_is_brought_down_when_asked(tmp_path: Path) -> None:
    recipe = wsd(100)
    trained(tmp_path, recipe, until=3)
    down, _ = trained(tmp_path, recipe, finish_in=5, until=5)
    assert down.notes == ["decay from iteration 3 to 8"]
    # Interrupted within the decay, the same command goes on with it.
    down, losses = trained(tmp_path, recipe, finish_in=5)
    assert (down.iteration, down.finished, len(losses)) == (8, True, 3)
    assert rates(down.recipe.schedule)[3] == recipe.schedule.learning_rate
    assert rates(down.recipe.schedule)[4] < recipe.schedule.learning_rate
    # And the plain command goes back to where it was stable.
    again, losses = trained(tmp_path, recipe, until=6)
    assert again.notes == ["goes back to iteration 3, before the decay"]
    assert (again.iteration, len(losses)) == (6, 3)


def test_end_that_is_past_or_fixed_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "a", wsd(100), until=8)
    with pytest.raises(InputError, match="decay asked for would have begun"):
        Trainer(wsd(10), tmp_path / "a")
    trained(tmp_path / "b", tiny(), until=2)
    with pytest.raises(InputError, match="--finish-in is for schedule: wsd"):
        Trainer(tiny(), tmp_path / "b", finish_in=3)
    with pytest.raises(InputError, match=r"schedule\.iterations is 6 there, 9 here"):
        Trainer(tiny(iterations=9), tmp_path / "b")
