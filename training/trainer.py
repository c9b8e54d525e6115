"""The training loop: resumable to the bit, reporting through a callback.

Design notes: the trainer knows neither terminals nor metrics. It yields progress
records; who prints them and who measures accuracy is decided outside. Batches depend
only on (seed, iteration), the network has no random layer, so a checkpoint needs no
random state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blinkloop.errors import BlinkloopError, InputError
from blinkloop.training.loss import localization_loss
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe, ScheduleSettings
from blinkloop.training.simulate import Batch, Simulator
from blinkloop.training.targets import scaled_frames, to_targets

__all__ = ["Progress", "Trainer", "learning_rate"]

CHECKPOINT_FILE = "checkpoint.pt"
RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True, slots=True)
class Progress:
    """State after an iteration; `validation` is filled when one was made."""

    iteration: int
    iterations: int
    loss: float
    gradient_norm: float
    seconds_per_iteration: float
    validation: dict[str, float] | None = None

    @property
    def seconds_left(self) -> float:
        """Estimated time to the end."""
        return (self.iterations - self.iteration) * self.seconds_per_iteration


def learning_rate(schedule: ScheduleSettings, iteration: int) -> float:
    """Learning rate of iteration 0, 1, ...: linear warm-up, then cosine or steps."""
    rate = schedule.learning_rate
    if iteration < schedule.warmup_iterations:
        return rate * (iteration + 1) / schedule.warmup_iterations
    if schedule.schedule == "step":
        return float(rate * 0.9 ** (iteration // schedule.step_every))
    span = max(1, schedule.iterations - schedule.warmup_iterations)
    done = (iteration - schedule.warmup_iterations) / span
    return rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


class Trainer:
    """Trains a recipe in a run folder; finds a checkpoint there and goes on from it.

    Parameters
    ----------
    recipe
        What to train.
    folder
        Run folder: `recipe.yaml`, `checkpoint.pt`.
    validate
        Called with the (averaged) network every `validate_every` iterations; returns
        measures by name.
    device
        torch device.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        validate: Callable[[TwoStageNetwork], dict[str, float]] | None = None,
        device: str = "cpu",
    ) -> None:
        self.recipe = recipe
        self.folder = folder
        self.device = torch.device(device)
        self._validate = validate
        torch.manual_seed(recipe.seed)
        self.network = TwoStageNetwork(recipe.architecture).to(self.device)
        # torch's stubs do not know this keyword.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = TwoStageNetwork(recipe.architecture).to(self.device)
        self.averaged.load_state_dict(self.network.state_dict())
        schedule = recipe.schedule
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=schedule.learning_rate,
            weight_decay=schedule.weight_decay,
        )
        self.iteration = 0
        self.seconds = 0.0
        self._simulator = Simulator(recipe)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT_FILE).exists():
            self._resume()
        else:
            recipe.save(folder / RECIPE_FILE)

    def _resume(self) -> None:
        state = load_checkpoint(self.folder / CHECKPOINT_FILE)
        if state["recipe"] != self.recipe.model_dump_json():
            raise InputError(
                f"{self.folder}: holds a run of another recipe; resume with its own "
                f"{RECIPE_FILE}, or choose an empty folder"
            )
        self.network.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.iteration = int(state["iteration"])
        self.seconds = float(state["seconds"])

    def save(self) -> None:
        """Write the checkpoint; the old one stays until the new one is whole."""
        path = self.folder / CHECKPOINT_FILE
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "format_version": 1,
                "recipe": self.recipe.model_dump_json(),
                "model": self.network.state_dict(),
                "averaged": self.averaged.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "iteration": self.iteration,
                "seconds": self.seconds,
                "torch": str(torch.__version__),
            },
            temporary,
        )
        temporary.replace(path)

    def train(
        self, report: Callable[[Progress], None], *, until: int | None = None
    ) -> None:
        """Run to the end of the schedule, or to iteration `until`, and save.

        Raises
        ------
        BlinkloopError
            When the loss is no longer a number; the last checkpoint stays.
        """
        schedule = self.recipe.schedule
        end = min(until or schedule.iterations, schedule.iterations)
        with ThreadPoolExecutor(1) as pool:
            upcoming = pool.submit(self._simulator.batch, self.iteration)
            try:
                while self.iteration < end:
                    started = time.perf_counter()
                    batch = upcoming.result()
                    upcoming = pool.submit(self._simulator.batch, self.iteration + 1)
                    loss, norm = self._step(batch)
                    self.iteration += 1
                    took = time.perf_counter() - started
                    self.seconds += took
                    measures = self._measures()
                    if self.iteration % schedule.checkpoint_every == 0:
                        self.save()
                    report(
                        Progress(
                            self.iteration,
                            schedule.iterations,
                            loss,
                            norm,
                            self.seconds / self.iteration,
                            measures,
                        )
                    )
            finally:
                upcoming.cancel()
        self.save()

    def _measures(self) -> dict[str, float] | None:
        schedule = self.recipe.schedule
        due = self.iteration % schedule.validate_every == 0
        last = self.iteration == schedule.iterations
        if self._validate is None or not (due or last):
            return None
        self.averaged.eval()
        with torch.inference_mode():
            return self._validate(self.averaged)

    def _step(self, batch: Batch) -> tuple[float, float]:
        schedule, scaling = self.recipe.schedule, self.recipe.scaling()
        frames = scaled_frames(batch, scaling).to(self.device)
        targets = to_targets(batch, scaling, self.recipe.sample.photons_floor)
        targets = type(targets)(
            targets.frame.to(self.device),
            targets.position.to(self.device),
            targets.background.to(self.device),
        )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(schedule, self.iteration)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=schedule.precision == "bf16"
        ):
            heads = self._heads(frames)
        p, position, sigma, background = (head.float() for head in heads)
        maps = self.network.activate(p, position, sigma, background)
        loss = localization_loss(maps, targets, self.recipe.loss, p).total()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise BlinkloopError(
                f"training diverged at iteration {self.iteration}: the loss is "
                f"{value}; lower schedule.learning_rate and resume from {self.folder}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), schedule.clip_norm
        )
        self.optimizer.step()
        self._average()
        return value, float(norm)

    def _heads(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heads of the inner frames; every frame of a movie is analysed once."""
        movies, length, height, width = frames.shape
        flat = frames.reshape(movies * length, 1, height, width)
        kept = self.network.analyse(flat.contiguous(memory_format=torch.channels_last))
        kept = kept.reshape(movies, length, *kept.shape[1:])
        triples = torch.cat([kept[:, :-2], kept[:, 1:-1], kept[:, 2:]], dim=2)
        triples = triples.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        heads: tuple[Tensor, Tensor, Tensor, Tensor] = self.network.raw_maps(triples)
        return heads

    @torch.no_grad()
    def _average(self) -> None:
        # A young average follows quickly, so that it forgets the random start.
        young = self.iteration / (self.iteration + 10)
        decay = min(self.recipe.schedule.ema_decay, young)
        for slow, fast in zip(
            self.averaged.parameters(), self.network.parameters(), strict=True
        ):
            slow.lerp_(fast, 1.0 - decay)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it (`weights_only`)."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no checkpoint there; train first") from error
    except Exception as error:
        raise InputError(
            f"{path}: not a checkpoint of blinkloop ({type(error).__name__})"
        ) from error
    if not isinstance(state, dict) or state.get("format_version") != 1:
        raise InputError(f"{path}: not a checkpoint of this version of blinkloop")
    return state
