"""What `train` shows, where its first weights come from, and how it is stopped."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._output import note, warn

if TYPE_CHECKING:
    from blinkloop.training.distillation import Teacher
    from blinkloop.training.progress import Progress
    from blinkloop.training.start import StartWeights

__all__ = ["Bar", "StopRequest", "first_weights", "stop_request", "teacher_from"]


def first_weights(source: str) -> StartWeights:
    """Weights to fine-tune from: a run, a model file or name, a DECODE network.

    Raises
    ------
    InputError
        There is no such thing, or it cannot be read.
    """
    import torch

    from blinkloop.training.start import StartWeights, start_from_run

    path = Path(source)
    if path.is_dir() or path.suffix in (".pt", ".pth"):
        from blinkloop.export.from_official import looks_official, read_official

        if not looks_official(path):
            return start_from_run(path)
        imported = read_official(path)
        state, card = imported.network.state_dict(), imported.card
        return StartWeights(
            state, card.architecture, card.scaling, source, card.three_dimensional
        )
    from blinkloop.export.weights import read_model_weights

    arrays, card = read_model_weights(resolve_model(source))
    weights = {name: torch.tensor(value) for name, value in arrays.items()}
    return StartWeights(
        weights, card.architecture, card.scaling, source, card.three_dimensional
    )


def teacher_from(source: str) -> Teacher:
    """A network to learn from: a run, a model file or name, a DECODE network.

    Raises
    ------
    InputError
        There is no such thing, or it cannot be read.
    """
    import torch

    from blinkloop.export.weights import (
        read_model_weights,
        weights_of,
        weights_sha256,
    )
    from blinkloop.training.distillation import Teacher

    path = Path(source)
    if path.is_dir() or path.suffix in (".pt", ".pth"):
        from blinkloop.export.from_official import looks_official, read_official

        if looks_official(path):
            imported = read_official(path)
            network, card = imported.network, imported.card
        else:
            from blinkloop.export.from_run import read_run
            from blinkloop.training.card import card_from_recipe

            run = read_run(path)
            network, card = run.network, card_from_recipe(run.recipe)
        arrays = weights_of(network)
    else:
        arrays, card = read_model_weights(resolve_model(source))
    weights = {name: torch.tensor(value) for name, value in arrays.items()}
    return Teacher(weights, card, source, weights_sha256(arrays))


@dataclass(slots=True)
class StopRequest:
    """Whether a signal asked the training to stop, and which."""

    number: int | None = None

    def __call__(self) -> bool:
        """Whether one came."""
        return self.number is not None


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """While it is open, the first signal asks; a second Ctrl-C interrupts at once.

    A training stops between two iterations, so that it goes on to the bit.
    """
    asked = StopRequest()

    def ask(number: int, frame: object) -> None:
        if asked.number is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.number = number

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            if hasattr(signal, name):
                number = getattr(signal, name)
                before[number] = signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Bar:
    """One progress bar: loss, Jaccard, RMSE, time left; plain lines without terminal.

    Parameters
    ----------
    iterations
        Length of the run, as far as it is known.
    """

    _EVERY = 50
    _LINE_SECONDS = 30.0

    def __init__(self, iterations: int) -> None:
        self._iterations = iterations
        self._losses: list[float] = []
        self._accuracy: dict[str, float] = {}
        self._last_line = -math.inf
        self._rich: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._rich = Progress(
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                BarColumn(bar_width=30),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
            )
            self._rich.start()
            self._task = self._rich.add_task("starting", total=self._iterations)
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich is not None:
            self._rich.stop()

    def __call__(self, progress: Progress) -> None:
        """Take one iteration's progress."""
        if progress.event is not None:
            warn(progress.event)
            self._losses = []
            return
        self._losses.append(progress.loss)
        if progress.validation is not None:
            self._accuracy = progress.validation
        last = progress.iteration == progress.iterations
        if progress.iteration % self._EVERY == 0 or last:
            self._show(progress)
            self._losses = []

    def _show(self, progress: Progress) -> None:
        parts = [f"loss {sum(self._losses) / len(self._losses):.1f}"]
        if "jaccard" in self._accuracy:
            parts.append(f"Jaccard {self._accuracy['jaccard']:.3f}")
        if math.isfinite(self._accuracy.get("rmse_lateral_nm", math.nan)):
            parts.append(
                f"RMSE {self._accuracy['rmse_lateral_nm']:.0f} nm lateral, "
                f"{self._accuracy['rmse_axial_nm']:.0f} nm axial"
            )
        parts.append(f"{_duration(progress.seconds_left)} left")
        text = "  ".join(parts)
        if self._rich is not None:
            self._rich.update(
                self._task,
                completed=progress.iteration,
                total=progress.iterations,
                description=text,
            )
        elif time.monotonic() - self._last_line >= self._LINE_SECONDS:
            self._last_line = time.monotonic()
            note(f"{progress.iteration}/{progress.iterations}  {text}")


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
