"""What happens when a training goes wrong, or no longer gains."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recipes import tiny, with_sample

from blinkloop.errors import BlinkloopError, InputError
from blinkloop.training.batches import stream_number
from blinkloop.training.divergence import Watch
from blinkloop.training.early_stop import EarlyStop
from blinkloop.training.progress import Progress
from blinkloop.training.recipe import ScheduleSettings
from blinkloop.training.run_state import new_network
from blinkloop.training.simulate import Batch, Simulator
from blinkloop.training.trainer import Trainer


def watch(**settings: object) -> Watch:
    return Watch(ScheduleSettings(divergence_iterations=3, **settings))


def test_watch_knows_noise_from_divergence() -> None:
    seen = watch()
    rng = np.random.default_rng(0)
    for loss in rng.normal(10, 1, 300):
        assert seen.see(loss) is None
    for loss in (500.0, 500.0, 10.0, 500.0, 500.0):  # single bad batches
        assert seen.see(loss) is None
    assert not seen.calm
    reason = seen.see(500.0)
    assert reason is not None
    assert "above" in reason


def test_watch_needs_a_history_and_numbers() -> None:
    seen = watch()
    assert seen.see(1e9) is None
    assert "nan" in str(seen.see(math.nan))
    assert "gradient" in str(seen.see(1.0, finite=False))
    assert seen.losses == [1e9]


@pytest.mark.parametrize(("level", "stuck"), [(99.0, False), (101.0, True)])
def test_watch_finds_a_stuck_start(level: float, stuck: bool) -> None:
    seen = watch(stuck_iterations=10)
    reasons = [seen.see_start(i, level) for i in range(1, 12)]
    assert [i for i, reason in enumerate(reasons, 1) if reason] == [10] * stuck
    assert watch(stuck_iterations=0).see_start(1, 1e9) is None


def test_a_batch_without_emitters_hides_no_stuck_start() -> None:
    seen = watch(stuck_iterations=2)
    assert seen.see_start(1, 1e9) is None
    assert seen.see_start(2, math.nan) is not None
    assert watch(stuck_iterations=1).see_start(1, math.nan) is None


def broken(recipe: object, streams: set[int], at: int = 4):
    """Batches of the simulator; NaN in iteration `at` of some streams."""
    simulator = Simulator(recipe)

    def make(iteration: int, stream: int) -> Batch:
        batch = simulator.batch(iteration, stream=stream)
        if stream in streams and iteration == at:
            batch.frames[:] = np.nan
        return batch

    return make


def test_divergence_goes_back_with_half_the_rate_and_other_batches(
    tmp_path: Path,
) -> None:
    recipe = tiny(checkpoint_every=3)
    seen: list[Progress] = []
    trainer = Trainer(recipe, tmp_path, batches=broken(recipe, {0}))
    trainer.train(seen.append)
    assert [p.iteration for p in seen] == [1, 2, 3, 4, 5, 4, 5, 6]
    events = [p.event for p in seen if p.event]
    assert len(events) == 1
    assert "diverged at iteration 5" in events[0]
    assert "from iteration 3" in events[0]
    np.testing.assert_allclose(
        seen[5].learning_rate, 0.5 * seen[3].learning_rate, rtol=1e-12
    )
    assert seen[5].loss != seen[3].loss
    assert [p.restarts for p in seen[4:]] == [1, 1, 1, 1]
    assert all(torch.isfinite(p).all() for p in trainer.network.parameters())
    run = json.loads((tmp_path / "run.json").read_text())
    assert [r["kind"] for r in run["restarts"]] == ["diverged"]
    assert run["restarts"][0]["stream"] == stream_number(1, 0)
    # A run that was stopped after its restart does not fall into the hole again.
    again = Trainer(recipe, tmp_path)
    assert (again.restarts, again.state.rate_scale) == (1, 0.5)


def test_divergence_without_end_is_named_and_the_checkpoint_stays(
    tmp_path: Path,
) -> None:
    recipe = tiny(checkpoint_every=3, max_restarts=2)
    streams = {stream_number(i, 0) for i in range(3)}
    trainer = Trainer(recipe, tmp_path, batches=broken(recipe, streams))
    with pytest.raises(BlinkloopError, match="began again 2 times") as caught:
        trainer.train(lambda p: None)
    assert "diverged at iteration 5" in str(caught.value)
    assert "\n" not in str(caught.value)
    left = Trainer(recipe, tmp_path)
    assert left.iteration == 3
    assert all(torch.isfinite(p).all() for p in left.averaged.parameters())


def test_stuck_start_gets_new_weights(tmp_path: Path) -> None:
    recipe = with_sample(
        tiny(stuck_iterations=2, stuck_loss=-1e9, max_restarts=1), empty_fraction=0.0
    )
    with pytest.raises(BlinkloopError, match="stuck at iteration 2"):
        Trainer(recipe, tmp_path).train(lambda p: None)
    left = Trainer(recipe, tmp_path)
    assert left.iteration == 0
    assert left.state.rate_scale == 1.0
    other = new_network(recipe, torch.device("cpu"), draw=1).state_dict()
    for name, value in left.network.state_dict().items():
        np.testing.assert_array_equal(value, other[name])
    # With a usual bound nothing happens.
    fine = Trainer(tiny(stuck_iterations=2, max_restarts=1), tmp_path / "fine")
    fine.train(lambda p: None)
    assert fine.restarts == 0


@pytest.mark.parametrize(
    ("measure", "values", "stops_at"),
    [
        ("nll", [3.0, 2.0, 2.5, 2.5], 4),
        ("jaccard", [0.1, 0.2, 0.1, 0.2], 4),
        ("nll", [3.0, 2.0, math.nan, 1.0, 2.0, 2.0], 6),
        ("nll", [3.0, 2.0, 1.0, 0.0], None),
    ],
    ids=["nll rises", "jaccard stays", "nan is no gain", "always better"],
)
def test_patience(measure: str, values: list[float], stops_at: int | None) -> None:
    early, over = EarlyStop(measure, 2), []
    for number, value in enumerate(values, 1):
        early.see({measure: value})
        over += [number] if early.over else []
    assert over == ([] if stops_at is None else [stops_at])
    with pytest.raises(InputError, match="does not measure"):
        early.see({"other": 1.0})


def test_early_stop_keeps_the_best_weights(tmp_path: Path) -> None:
    recipe = tiny(iterations=50, patience=2, validate_every=2)
    kept: list[dict[str, torch.Tensor]] = []

    def validate(network: torch.nn.Module) -> dict[str, float]:
        kept.append({n: v.clone() for n, v in network.state_dict().items()})
        return {"nll": (5.0, 1.0, 2.0, 3.0)[len(kept) - 1]}

    trainer = Trainer(recipe, tmp_path, validate=validate)
    trainer.train(lambda p: None)
    assert trainer.stopped_early
    assert trainer.iteration == 9  # the one after the fourth validation
    for name, value in trainer.averaged.state_dict().items():
        np.testing.assert_array_equal(value, kept[1][name])
    assert Trainer(recipe, tmp_path).finished
    # With more patience it goes on.
    more = tiny(iterations=50, patience=20, validate_every=2)
    assert not Trainer(more, tmp_path).finished
