"""All that a training changes as it goes, and how it is kept in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from blinkloop.training.batches import stream_number
from blinkloop.training.distillation import Distillation, Teacher
from blinkloop.training.distributed import Ranks
from blinkloop.training.divergence import Watch
from blinkloop.training.early_stop import EarlyStop
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.optimizers import (
    make_optimizer,
    restore_optimizer,
    update_average,
)
from blinkloop.training.recipe import Recipe
from blinkloop.training.schedule import Clock
from blinkloop.training.settling import settle_sigma
from blinkloop.training.simulate import Batch
from blinkloop.training.step import TrainingStep, fastest_precision

__all__ = ["RunState", "new_network", "with_precision"]


def new_network(
    recipe: Recipe, device: torch.device, *, draw: int = 0
) -> TwoStageNetwork:
    """A network with random weights, of the recipe's seed; `draw` counts new tries."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + draw)
        network = TwoStageNetwork(recipe.architecture).to(device)
    for module in network.modules():
        if isinstance(module, torch.nn.ELU | torch.nn.ReLU):
            module.inplace = True  # saves memory, and 4 % of an iteration on a CPU
    # torch's stubs do not know this keyword.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def with_precision(
    recipe: Recipe,
    device: torch.device,
    ranks: Ranks,
    make: Callable[[int, int], Batch],
) -> Recipe:
    """The recipe with the precision that is fastest here, if it leaves it open."""
    if recipe.schedule.precision != "auto":
        return recipe
    names = ("fp32", "bf16", "fp16")
    chosen = 0.0
    if ranks.leads:
        batch = make(0, stream_number(0, 0))
        network = new_network(recipe, device)
        chosen = float(names.index(fastest_precision(network, recipe, batch)))
    index = int(ranks.total([chosen], device)[0])
    schedule = recipe.schedule.model_copy(update={"precision": names[index]})
    return recipe.model_copy(update={"schedule": schedule})


class RunState:
    """Weights, moments, counters.

    Parameters
    ----------
    recipe
        What is trained, with a precision that is decided.
    device
        torch device.
    ranks
        The processes that share the work.
    weights
        To begin with; random when None.
    source
        Where they are from.
    teacher
        Whom the recipe's `distillation` means.
    """

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        ranks: Ranks,
        *,
        weights: Mapping[str, Tensor] | None = None,
        source: str | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.recipe, self.device, self._ranks = recipe, device, ranks
        self.teacher = teacher
        self._distillation = (
            None if teacher is None else Distillation(teacher, recipe, device)
        )
        self.source = source
        self.iteration = 0
        self.clock = Clock()
        self.share = 0.0
        self.stopped_early = False
        self.rate_scale = 1.0
        self.restarts: list[dict[str, Any]] = []
        schedule = recipe.schedule
        self.watch = Watch(schedule)
        self.early = EarlyStop(schedule.stop_on, schedule.patience)
        self.best: dict[str, Tensor] | None = None
        self.settled: dict[str, Any] | None = None
        self.settled_at = -1
        self._fresh(weights, draw=0)

    def _fresh(self, weights: Mapping[str, Tensor] | None, *, draw: int) -> None:
        self.network: TwoStageNetwork = new_network(self.recipe, self.device, draw=draw)
        if weights is not None:
            self.network.load_state_dict(weights)
        self.averaged = TwoStageNetwork(self.recipe.architecture).to(self.device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.optimizer = make_optimizer(self.network, self.recipe.schedule)
        self.step = TrainingStep(
            self.network,
            self.optimizer,
            self.recipe,
            self._ranks,
            self._distillation,
        )

    def again(self) -> None:
        """Begin with other random weights, after those of the seed were stuck."""
        self.iteration = 0
        self.watch = Watch(self.recipe.schedule)
        self._fresh(None, draw=sum(row["kind"] == "stuck" for row in self.restarts))

    def average(self) -> None:
        """Let the averaged weights follow."""
        update_average(
            self.averaged,
            self.network,
            decay=self.recipe.schedule.ema_decay,
            iteration=self.iteration,
        )

    def keep_best(self) -> None:
        """Remember the averaged weights of now."""
        averaged = self.averaged.state_dict()
        self.best = {name: value.clone() for name, value in averaged.items()}

    def take_best(self) -> None:
        """Go back to the averaged weights that were remembered, if any were."""
        if self.best is not None:
            self.averaged.load_state_dict(self.best)

    def settle(
        self,
        make: Callable[[int, int], Batch],
        iterations: int,
        interrupted: Callable[[], bool],
    ) -> str:
        """Let sigma of the averaged network settle; a line about what that gave."""
        done = settle_sigma(
            self.averaged,
            self.recipe,
            make,
            iterations=iterations,
            interrupted=interrupted,
        )
        if done is None:
            return "interrupted; sigma is as it was"
        self.settled, self.settled_at = done.record(), self.iteration
        return done.line()

    def to_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "recipe": self.recipe.model_dump_json(),
            "model": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "iteration": self.iteration,
            "seconds": self.clock.seconds,
            "elapsed_s": self.clock.elapsed_s,
            "clock": asdict(self.clock),
            "source": self.source,
            "teacher": None if self.teacher is None else self.teacher.record(),
            "rate_scale": self.rate_scale,
            "restarts": self.restarts,
            "losses": self.watch.losses,
            "scaler": self.step.state(),
            "best": self.best,
            "settled": self.settled,
            "settled_at": self.settled_at,
            "stopped_early": self.stopped_early,
            "early": [self.early.best, self.early.waited],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Everything from a checkpoint; what older versions did not keep is new."""
        self.restarts = list(state.get("restarts", []))
        self.rate_scale = float(state.get("rate_scale", 1.0))
        self.source = state.get("source")
        self.best = state.get("best")
        self.settled = state.get("settled")
        # Runs of older versions that are at their end stay as they are.
        self.settled_at = int(state.get("settled_at", state["iteration"]))
        schedule = self.recipe.schedule
        self.early = EarlyStop(
            schedule.stop_on, schedule.patience, *state.get("early", [])
        )
        # More patience than before lets it go on.
        self.stopped_early = bool(state.get("stopped_early")) and self.early.over
        seconds = float(state["seconds"])
        clock = state.get("clock", {"seconds": seconds, "elapsed_s": seconds})
        self.clock = Clock(**clock)
        self.share = self.clock.share(schedule)
        self.step_back(state)

    def step_back(self, state: Mapping[str, Any]) -> None:
        """Weights and moments of a checkpoint; the time and the restarts stay."""
        self.network.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        restore_optimizer(self.optimizer, state["optimizer"])
        self.step.restore(state.get("scaler", {}))
        self.iteration = int(state["iteration"])
        self.watch = Watch(self.recipe.schedule, state.get("losses", []))
