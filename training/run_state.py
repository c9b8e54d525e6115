"""All that a training changes as it goes, and how it is kept in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

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
from blinkloop.training.step import TrainingStep

__all__ = ["RunState", "new_network"]


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
            "stopped_early": self.stopped_early,
            "early": [self.early.best, self.early.waited],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Everything from a checkpoint; what older versions did not keep is new."""
        self.restarts = list(state.get("restarts", []))
        self.rate_scale = float(state.get("rate_scale", 1.0))
        self.source = state.get("source")
        self.best = state.get("best")
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
