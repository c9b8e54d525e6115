"""One iteration: forward, loss, backward, update.

Design notes: a step knows neither schedules nor files. What is not finite is not
applied, so the weights stay good.

Shapes: S movies of T frames, C features.
"""

from __future__ import annotations

import math
import statistics
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from blinkloop.training.distillation import Distillation
from blinkloop.training.distributed import Ranks
from blinkloop.training.loss import localization_loss
from blinkloop.training.network import MovieHeads, TwoStageNetwork
from blinkloop.training.progress import LOSS_TERMS
from blinkloop.training.recipe import Recipe
from blinkloop.training.simulate import Batch
from blinkloop.training.targets import scaled_frames, to_targets

__all__ = ["Precision", "StepResult", "TrainingStep", "fastest_precision"]

Precision = Literal["fp32", "bf16", "fp16"]

_TYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class StepResult:
    """An iteration in numbers, the same in every process.

    Parameters
    ----------
    loss
        Mean over all frames of the sum of the terms.
    gradient_norm
        Before clipping.
    terms
        Mean over frames of each term; `distillation` where there is a teacher.
    location_per_emitter
        The localization term per emitter; NaN without emitters.
    finite
        Whether the gradient was; otherwise the weights did not change.
    told
        Sum over processes of what each had to tell.
    """

    loss: float
    gradient_norm: float
    terms: dict[str, float]
    location_per_emitter: float
    finite: bool
    told: list[float]


class TrainingStep:
    """Trains a network in place, batch by batch.

    Parameters
    ----------
    network
        On its device.
    optimizer
        Of its parameters.
    recipe
        Loss, scaling, clip norm and precision ("auto" must have been decided).
    ranks
        The processes that share the work.
    distillation
        The teacher's term of the loss; None: the truth alone.
    """

    def __init__(
        self,
        network: TwoStageNetwork,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        ranks: Ranks,
        distillation: Distillation | None = None,
    ) -> None:
        self._distillation = distillation
        self._network, self._optimizer, self._ranks = network, optimizer, ranks
        self._recipe, self._scaling = recipe, recipe.scaling()
        self._device = next(network.parameters()).device
        self._heads = ranks.wrap(MovieHeads(network), self._device)
        self._type = _TYPES[recipe.schedule.precision]
        # fp16 has a small range: its gradients are scaled up, and a step that overflows
        # is left out. With bf16 and fp32 the scaler does nothing.
        self._scaler = torch.amp.GradScaler(
            self._device.type, enabled=recipe.schedule.precision == "fp16"
        )

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return self._scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """From the checkpoint; empty but for fp16."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)

    def __call__(
        self, batch: Batch, rate: float, tell: tuple[float, ...] = ()
    ) -> StepResult:
        """Take one step.

        Parameters
        ----------
        batch
            Of this process.
        rate
            Learning rate.
        tell
            Numbers for all processes; they get the sums.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss, means, told = self._forward(batch, tell)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.unscale_(self._optimizer)
        norm = float(
            torch.nn.utils.clip_grad_norm_(
                self._network.parameters(), self._recipe.schedule.clip_norm
            )
        )
        terms = dict(zip(LOSS_TERMS, means[:4], strict=True))
        value = sum(means[:4])
        if self._distillation is not None:
            terms["distillation"] = means[5]
            value += means[5]
        # The scaler leaves a step out and halves its scale; at 1 it is not the scale.
        scaled = self._scaler.is_enabled() and self._scaler.get_scale() > 1
        finite = math.isfinite(norm) or scaled
        if finite and math.isfinite(value):
            self._scaler.step(self._optimizer)
        self._scaler.update()
        located = means[4] / means[6] if means[6] else math.nan
        return StepResult(value, norm, terms, located, finite, told)

    def _forward(
        self, batch: Batch, tell: tuple[float, ...]
    ) -> tuple[Tensor, list[float], list[float]]:
        """Loss of this process; of all: terms, location, teacher, emitters, told."""
        frames = scaled_frames(batch, self._scaling).to(self._device)
        targets = to_targets(batch, self._recipe, estimated=True)
        targets = targets.to(self._device)
        with self._autocast():
            heads = self._heads(frames)
        p, position, sigma, background = (head.float() for head in heads)
        maps = self._network.activate(p, position, sigma, background)
        terms = localization_loss(
            maps,
            targets,
            self._recipe.loss,
            p,
            three_dimensional=self._recipe.three_dimensional,
        )
        loss, taught = terms.total(), torch.zeros((), device=self._device)
        if self._distillation is not None:
            taught = self._distillation(batch, maps, p, targets.weight)
            loss = loss + taught
        means = torch.stack(
            [
                *(getattr(terms, name).detach().mean() for name in LOSS_TERMS),
                terms.location.detach().sum(),
                taught.detach(),
            ]
        ).tolist()
        emitters = float(targets.frame.numel())
        summed = self._ranks.total([*means, emitters, *tell], self._device)
        means = [value / self._ranks.size for value in summed[:7]]
        return loss, means, summed[7:]

    def _autocast(self) -> AbstractContextManager[None]:
        enabled = self._type != torch.float32
        cast: AbstractContextManager[None] = torch.autocast(
            self._device.type, self._type if enabled else None, enabled=enabled
        )
        return cast

    def seconds(self, batch: Batch) -> float:
        """Time of forward and backward (of the processor on a CPU); no update."""
        # Of the processor: what else the machine does matters less.
        clock = time.process_time if self._device.type == "cpu" else time.perf_counter
        started = clock()
        loss, _, _ = self._forward(batch, ())
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._optimizer.zero_grad(set_to_none=True)
        return clock() - started


def fastest_precision(
    network: TwoStageNetwork, recipe: Recipe, batch: Batch, *, repeats: int = 3
) -> Precision:
    """What `precision: auto` means on this machine.

    A GPU takes bf16 where it has it, else fp16. A CPU takes what is faster here, fp32
    or bf16: with AMX bf16 is, with plain AVX-512 it was 1.3 times slower
    (docs/training.md).
    """
    device = next(network.parameters()).device
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    if device.type != "cpu":
        return "fp32"
    names: tuple[Precision, ...] = ("fp32", "bf16")
    steps = {}
    for name in names:
        schedule = recipe.schedule.model_copy(update={"precision": name})
        chosen = recipe.model_copy(update={"schedule": schedule})
        idle = torch.optim.SGD(network.parameters(), lr=0.0)
        steps[name] = TrainingStep(network, idle, chosen, Ranks())
        steps[name].seconds(batch)
    # They take turns, so that what else the machine does falls on both alike.
    times: dict[Precision, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            times[name].append(steps[name].seconds(batch))
    return min(names, key=lambda name: statistics.median(times[name]))
