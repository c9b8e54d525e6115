"""The training loop: resumable to the bit, reporting through a callback.

Design notes: the trainer knows neither terminals nor metrics. It yields progress
records; who prints them and who measures accuracy is decided outside. Batches depend
only on (seed, stream, iteration), the network has no random layer, so a checkpoint
needs no random state. With several processes all see the same numbers (`Ranks`), so
that all decide alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blinkloop.errors import BlinkloopError
from blinkloop.training.batches import BatchAhead, stream_number
from blinkloop.training.checkpoint import (
    CHECKPOINT_FILE,
    STABLE_FILE,
    finished_in,
    load_checkpoint,
    resumable,
    write_checkpoint,
)
from blinkloop.training.denormals import denormals_are_zero
from blinkloop.training.distillation import Teacher, teacher_for, write_teacher
from blinkloop.training.distributed import ALONE, Ranks
from blinkloop.training.microscopes import check_files
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.progress import Progress
from blinkloop.training.recipe import Recipe
from blinkloop.training.run_files import located, run_files
from blinkloop.training.run_folder import RunRecord, write_recipe
from blinkloop.training.run_state import RunState, with_precision
from blinkloop.training.schedule import (
    decay_begins,
    in_decay,
    learning_rate,
    settling_iterations,
)
from blinkloop.training.simulate import Batch, Simulator
from blinkloop.training.start import StartWeights, fine_tuned
from blinkloop.training.step import StepResult

__all__ = ["Trainer"]


class Trainer:
    """Trains a recipe in a run folder; finds a checkpoint there and goes on from it.

    Parameters
    ----------
    recipe
        What to train.
    folder
        Run folder: `recipe.yaml`, `checkpoint.pt`, `run.json`.
    validate
        Called with the (averaged) network every `validate_every` iterations; returns
        measures by name.
    device
        torch device.
    start
        Weights of a new run; random when None.
    finish_in
        Bring a `wsd` run down within so many iterations from here.
    ranks
        The processes that share the work.
    batches
        Makes the batch of (iteration, stream); the recipe's simulator when None.
    base
        Paths in the recipe are relative to this folder.
    teacher
        Whom the recipe's `distillation` means; a run that goes on has its own.

    Raises
    ------
    InputError
        The folder holds another run, or `start`, `finish_in` or the teacher cannot be
        used.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        validate: Callable[[TwoStageNetwork], dict[str, float]] | None = None,
        device: str = "cpu",
        start: StartWeights | None = None,
        finish_in: int | None = None,
        ranks: Ranks = ALONE,
        batches: Callable[[int, int], Batch] | None = None,
        base: Path = Path(),
        teacher: Teacher | None = None,
    ) -> None:
        self.folder, self.validate, self._ranks = folder, validate, ranks
        self.notes: list[str] = []
        place = torch.device(device)
        saved: dict[str, Any] | None = None
        weights: dict[str, Tensor] | None = None
        source: str | None = None
        if (folder / CHECKPOINT_FILE).exists():
            finishing = finish_in is not None
            saved, recipe, self.notes = resumable(
                folder, recipe, finishing=finishing, base=base
            )
        elif start is not None:
            recipe, weights, self.notes = fine_tuned(start, recipe)
            source = start.source
        own = None if saved is None else folder
        recipe, self._files = run_files(recipe, base, own)
        simulator = Simulator(located(recipe, self._files), own or base)
        if batches is None:
            check_files(
                simulator.recipe, simulator.folder
            )  # while there is no run folder yet
        self._make = batches or (lambda i, stream: simulator.batch(i, stream=stream))
        recipe = with_precision(recipe, place, ranks, self._make)
        if finish_in is not None:
            at = saved or {"iteration": 0, "seconds": 0.0}
            recipe, said = finished_in(recipe, at, finish_in)
            self.notes.append(said)
        teacher = teacher_for(recipe, teacher, folder if saved is not None else None)
        self.state = RunState(
            recipe, place, ranks, weights=weights, source=source, teacher=teacher
        )
        if saved is not None:
            self.state.restore(saved)
        self._interrupted = self._enough = False
        decaying = in_decay(recipe.schedule, self.iteration, self.state.clock.elapsed_s)
        self._kept_stable = decaying and (folder / STABLE_FILE).exists()
        ranks.wait(place)  # all have looked into the folder
        if ranks.leads:
            folder.mkdir(parents=True, exist_ok=True)
            write_recipe(recipe, folder, self._files)
            if teacher is not None and saved is None:
                write_teacher(teacher, folder)
            self._record = RunRecord(
                folder, place, processes=ranks.size, iteration=self.iteration
            )

    @property
    def recipe(self) -> Recipe:
        """As it is trained: nothing is left to the machine."""
        return self.state.recipe

    @property
    def simulated(self) -> Recipe:
        """The same, with the files it names where they are on this computer."""
        return located(self.recipe, self._files)

    @property
    def network(self) -> TwoStageNetwork:
        """In training."""
        return self.state.network

    @property
    def averaged(self) -> TwoStageNetwork:
        """The running average of the weights, which is validated and exported."""
        return self.state.averaged

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self.state.iteration

    @property
    def restarts(self) -> int:
        """How often the training began again."""
        return len(self.state.restarts)

    @property
    def stopped_early(self) -> bool:
        """Whether the validation no longer improved."""
        return self.state.stopped_early

    @property
    def iterations(self) -> int:
        """Length of the run; an estimate where a time budget decides."""
        state = self.state
        if self.trained:
            return state.iteration
        return state.clock.iterations(state.recipe.schedule, state.iteration)

    @property
    def finished(self) -> bool:
        """Whether the run is at its end, and sigma settled."""
        return self.trained and not self._left_to_settle()

    @property
    def trained(self) -> bool:
        """Whether all iterations of the whole network are done."""
        state, schedule = self.state, self.recipe.schedule
        if schedule.minutes is not None:
            return state.stopped_early or state.share >= 1.0
        return state.stopped_early or state.iteration >= schedule.iterations

    def save(self) -> None:
        """Write the checkpoint and `run.json`."""
        if not self._ranks.leads:
            return
        state = self.state
        write_checkpoint(state.to_dict(), self.folder / CHECKPOINT_FILE)
        self._record.write(
            name=self.recipe.name,
            seed=self.recipe.seed,
            source=state.source,
            teacher=None if state.teacher is None else state.teacher.record(),
            files=[file.record() for file in self._files],
            iterations=state.iteration,
            finished=self.finished,
            stopped_early=state.stopped_early,
            minutes=round(state.clock.elapsed_s / 60.0, 3),
            restarts=state.restarts,
            sigma=state.settled,
        )

    def train(
        self,
        report: Callable[[Progress], None],
        *,
        until: int | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Run to the end of the schedule, or to iteration `until`, and save.

        Parameters
        ----------
        report
            Gets every iteration's progress.
        until
            Stop at this iteration.
        interrupted
            Asked every iteration; True stops after it.
        say
            Gets a line when sigma settles, and one about what that gave.

        Raises
        ------
        BlinkloopError
            When the training goes wrong again and again; the last checkpoint stays.
        """
        state = self.state
        self._interrupted = False
        if not (self.folder / CHECKPOINT_FILE).exists():
            self._ranks.wait(state.device)  # all have looked
            self.save()
        with denormals_are_zero(), BatchAhead(self._make) as batches:
            while not (self.trained or self._interrupted or self._reached(until)):
                started = time.perf_counter()
                self._keep_stable()
                stream = stream_number(len(state.restarts), self._ranks.rank)
                batch = batches.get(state.iteration, stream)
                report(self._iterate(batch, started, interrupted()))
        left = self._left_to_settle()
        if state.stopped_early and state.settled_at != state.iteration:
            state.take_best()
        if self.trained and left and not self._interrupted:
            self._settle(left, interrupted, say)
        self.save()

    def _left_to_settle(self) -> int:
        """Iterations of sigma alone that are still due at the end."""
        state = self.state
        if state.settled_at == state.iteration:
            return 0
        pace = state.clock.pace_s
        return settling_iterations(self.recipe.schedule, state.iteration, pace)

    def _settle(
        self, left: int, interrupted: Callable[[], bool], say: Callable[[str], None]
    ) -> None:
        began = time.perf_counter()
        say(f"{left} iterations of sigma alone, on the errors of what is detected")
        with denormals_are_zero():
            said = self.state.settle(self._make, left, interrupted)
        self.state.clock.elapsed_s += time.perf_counter() - began
        say(said)

    def _reached(self, until: int | None) -> bool:
        return until is not None and self.state.iteration >= until

    def _iterate(self, batch: Batch, started: float, interrupted: bool) -> Progress:
        """One iteration and what is due after it."""
        state, schedule = self.state, self.recipe.schedule
        share = None if schedule.minutes is None else state.share
        rate = state.rate_scale * learning_rate(schedule, state.iteration, share)
        used = state.clock.share(schedule) if self._ranks.leads else 0.0
        tell = (float(interrupted), float(self._enough), used)
        result = state.step(batch, rate, tell)
        state.iteration += 1
        stop, enough, state.share = result.told
        state.stopped_early, self._interrupted = enough > 0, stop > 0
        wrong = self._wrong(result)
        if wrong is None:
            state.average()
        took = time.perf_counter() - started
        state.clock.step(took)
        measures, event = None, None
        if wrong is None:
            measures = self._measures()
            if state.iteration % schedule.checkpoint_every == 0 and state.watch.calm:
                self.save()
        at, total = state.iteration, self.iterations
        if wrong is not None:
            event = self._begin_again(*wrong)
        state.clock.elapsed_s += time.perf_counter() - started - took
        return Progress(
            at,
            total,
            result.loss,
            result.gradient_norm,
            state.clock.pace_s,
            measures,
            result.terms,
            rate,
            len(state.restarts),
            event,
        )

    def _wrong(self, result: StepResult) -> tuple[str, str] | None:
        """Kind and reason, when the training must begin again."""
        state = self.state
        reason = state.watch.see(result.loss, finite=result.finite)
        if reason is not None:
            return "diverged", reason
        if state.source is None:
            at, loss = state.iteration, result.location_per_emitter
            reason = state.watch.see_start(at, loss)
        return None if reason is None else ("stuck", reason)

    def _begin_again(self, kind: str, reason: str) -> str:
        """Go back to good weights; says so in one line."""
        state, schedule = self.state, self.recipe.schedule
        at, scale = state.iteration, state.rate_scale
        if len(state.restarts) >= schedule.max_restarts:
            raise BlinkloopError(
                f"training {kind} at iteration {at}: {reason}; it began again "
                f"{len(state.restarts)} times already: lower schedule.learning_rate "
                f"and train into another folder (the last checkpoint is in "
                f"{self.folder})"
            )
        if kind == "diverged":
            scale *= 0.5
            state.step_back(load_checkpoint(self.folder / CHECKPOINT_FILE))
        state.restarts.append(
            {
                "kind": kind,
                "iteration": at,
                "reason": reason,
                "rate_scale": scale,
                "stream": stream_number(len(state.restarts) + 1, 0),
            }
        )
        if kind == "stuck":
            state.again()
        state.rate_scale = scale
        self._ranks.wait(state.device)  # all have read the checkpoint
        self.save()
        return (
            f"{kind} at iteration {at} ({reason}): goes on from iteration "
            f"{state.iteration} with other batches"
            + (f" and {scale:g} of the learning rate" if kind == "diverged" else "")
        )

    def _measures(self) -> dict[str, float] | None:
        state, schedule = self.state, self.recipe.schedule
        due = state.iteration % schedule.validate_every == 0
        last = self.trained and not state.stopped_early
        if self.validate is None or not (due or last):
            return None
        if not self._ranks.leads:
            return None
        began = time.perf_counter()
        state.averaged.eval()
        with torch.inference_mode():
            measures = self.validate(state.averaged)
        state.clock.reserve_s = time.perf_counter() - began
        if state.early.wanted:
            if state.early.see(measures):
                state.keep_best()
            self._enough = state.early.over
        return measures

    def _keep_stable(self) -> None:
        """Keep the state before the decay of a `wsd` run."""
        elapsed = self.state.clock.elapsed_s
        begins = decay_begins(self.recipe.schedule, self.iteration, elapsed)
        if self._kept_stable or not begins:
            return
        self._kept_stable = True
        if self._ranks.leads:
            write_checkpoint(self.state.to_dict(), self.folder / STABLE_FILE)
