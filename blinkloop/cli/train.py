"""`blinkloop train`: from a recipe to a trained run folder."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from blinkloop.cli._output import next_step, note
from blinkloop.errors import InputError
from blinkloop.extras import require

if TYPE_CHECKING:
    from blinkloop.training.trainer import Progress

__all__ = ["command"]


@click.command("train", short_help="Train a network from a recipe.")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    help="Run folder; a training found there is resumed.",
)
@click.option("--iterations", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option(
    "--until", type=click.IntRange(1), help="Stop at this iteration, resumable."
)
@click.option("--seed", type=click.IntRange(0), help="Instead of the recipe's.")
@click.option("--device", help="torch device; default: cuda where there is one.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
def command(
    recipe: Path,
    folder: Path,
    iterations: int | None,
    until: int | None,
    seed: int | None,
    device: str | None,
    threads: int | None,
) -> None:
    """Train a network from a RECIPE (YAML, or the name of a bundled recipe).

    Ctrl-C saves a checkpoint; the same command goes on from it.

    Example: blinkloop train astigmatic-small -o runs/small
    """
    torch = require("torch", "Training a network", "train")
    require("yaml", "Reading a recipe", "train")
    from blinkloop.training.recipes import load_recipe
    from blinkloop.training.trainer import Trainer
    from blinkloop.training.validate import Validation

    settings = load_recipe(str(recipe))
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    if iterations is not None:
        schedule = settings.schedule.model_copy(update={"iterations": iterations})
        settings = settings.model_copy(update={"schedule": schedule})
    if threads is not None:
        torch.set_num_threads(threads)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the run to -o")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.device(chosen)
        trainer = Trainer(
            settings, folder, validate=Validation(settings), device=chosen
        )
    except (RuntimeError, AssertionError) as error:
        # AssertionError: what torch raises for a device it was not built for.
        text = str(error).splitlines()[0]
        raise InputError(
            f"--device {chosen}: torch cannot use it ({text}); try --device cpu"
        ) from error
    total = settings.schedule.iterations
    if trainer.iteration >= total:
        note(f"{folder} is trained already: {trainer.iteration} of {total} iterations")
        next_step("blinkloop", "export", folder, "-o", f"{settings.name}.onnx")
        return
    if trainer.iteration:
        note(f"resuming {folder} at iteration {trainer.iteration}")
    note(f"{settings.name}: {total} iterations on {chosen}, torch {torch.__version__}")
    with _Bar(total, folder / "log.csv") as bar:
        try:
            trainer.train(bar.update, until=until)
        except KeyboardInterrupt:
            trainer.save()
            note(f"stopped; checkpoint of iteration {trainer.iteration} is in {folder}")
            raise
    if trainer.iteration < total:
        note(f"stopped at iteration {trainer.iteration} of {total}, as asked")
        next_step("blinkloop", "train", recipe, "-o", folder)
        return
    next_step("blinkloop", "export", folder, "-o", f"{settings.name}.onnx")


class _Bar:
    """One progress bar: loss, Jaccard, RMSE, time left; plain lines without terminal.

    Every 50 iterations a row goes to the run's `log.csv`.
    """

    _EVERY = 50
    _LINE_SECONDS = 30.0

    def __init__(self, iterations: int, log: Path) -> None:
        self._iterations = iterations
        self._log_path = log
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._accuracy: dict[str, float] = {}
        self._last_line = -self._LINE_SECONDS
        self._rich: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        new = not self._log_path.exists()
        self._log = self._log_path.open("a", encoding="utf-8")
        if new:
            self._log.write(
                "iteration,loss,gradient_norm,seconds_per_iteration,jaccard,"
                "rmse_lateral_nm,rmse_axial_nm,density_bias\n"
            )
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
        self._log.close()
        if self._rich is not None:
            self._rich.stop()

    def update(self, progress: Progress) -> None:
        """Take one iteration's progress."""
        self._losses.append(progress.loss)
        self._norms.append(progress.gradient_norm)
        if progress.validation is not None:
            self._accuracy = progress.validation
        last = progress.iteration == progress.iterations
        due = progress.iteration % self._EVERY == 0 or last
        if due or progress.validation is not None:
            self._write_row(progress)
        if due:
            self._show(progress)
            self._losses, self._norms = [], []

    def _write_row(self, progress: Progress) -> None:
        measures = progress.validation or {}
        values = [
            f"{progress.iteration}",
            f"{sum(self._losses) / len(self._losses):.6g}",
            f"{sum(self._norms) / len(self._norms):.6g}",
            f"{progress.seconds_per_iteration:.4g}",
        ]
        for key in ("jaccard", "rmse_lateral_nm", "rmse_axial_nm", "density_bias"):
            values.append(f"{measures[key]:.5g}" if key in measures else "")
        self._log.write(",".join(values) + "\n")
        self._log.flush()

    def _show(self, progress: Progress) -> None:
        parts = [f"loss {sum(self._losses) / len(self._losses):.1f}"]
        if self._accuracy:
            parts.append(f"Jaccard {self._accuracy['jaccard']:.3f}")
            if math.isfinite(self._accuracy["rmse_lateral_nm"]):
                parts.append(
                    f"RMSE {self._accuracy['rmse_lateral_nm']:.0f} nm lateral, "
                    f"{self._accuracy['rmse_axial_nm']:.0f} nm axial"
                )
        parts.append(f"{_duration(progress.seconds_left)} left")
        text = "  ".join(parts)
        if self._rich is not None:
            self._rich.update(
                self._task, completed=progress.iteration, description=text
            )
        elif time.monotonic() - self._last_line >= self._LINE_SECONDS:
            self._last_line = time.monotonic()
            note(f"{progress.iteration}/{progress.iterations}  {text}")


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
