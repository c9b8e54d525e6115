"""`blinkloop train`: from a recipe to a trained run folder."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._output import next_step, note
from blinkloop.errors import InputError
from blinkloop.extras import require

if TYPE_CHECKING:
    from blinkloop.training.progress import Progress
    from blinkloop.training.recipe import Recipe
    from blinkloop.training.trainer import Trainer

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
@click.option(
    "--from",
    "source",
    metavar="RUN|MODEL",
    help="Begin with the weights of a run folder, checkpoint or (bundled) model.",
)
@click.option(
    "--teacher",
    metavar="RUN|MODEL",
    help="Learn from this network too, beside the truth; instead of the recipe's.",
)
@click.option("--iterations", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Time budget instead of a number of iterations; resumed runs count on.",
)
@click.option(
    "--until", type=click.IntRange(1), help="Stop at this iteration, resumable."
)
@click.option(
    "--finish-in",
    type=click.IntRange(1),
    metavar="N",
    help="Bring a run with schedule: wsd down within N iterations from where it is.",
)
@click.option("--seed", type=click.IntRange(0), help="Instead of the recipe's.")
@click.option("--device", help="torch device; default: cuda where there is one.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Log for TensorBoard too, in the folder tensorboard of the run.",
)
def command(recipe: Path, folder: Path, **options: Any) -> int | None:
    """Train a network from a RECIPE (YAML, or the name of a bundled recipe).

    Ctrl-C saves a checkpoint; the same command goes on from it. On several GPUs:
    torchrun --nproc-per-node N -m blinkloop.cli train RECIPE -o RUN

    Example: blinkloop train astigmatic -o runs/small
    """
    torch = require("torch", "Training a network", "train")
    require("yaml", "Reading a recipe", "train")
    from blinkloop.training.distributed import join_ranks

    asked = _Asked(recipe, folder, **options)
    settings = asked.settings()
    if asked.threads is not None:
        torch.set_num_threads(asked.threads)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the run to -o")
    chosen = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    with join_ranks(chosen) as (ranks, device):
        trainer = asked.trainer(settings, device, ranks)
        if not ranks.leads:
            from blinkloop.cli._training import stop_request

            with stop_request() as stop:
                trainer.train(lambda _: None, until=asked.until, interrupted=stop)
            return None
        return _lead(
            asked,
            trainer,
            device if ranks.size == 1 else f"{device}, {ranks.size} processes",
        )


@dataclass(frozen=True, slots=True)
class _Asked:
    """The command as it was typed."""

    recipe: Path
    folder: Path
    source: str | None
    teacher: str | None
    iterations: int | None
    minutes: float | None
    until: int | None
    finish_in: int | None
    seed: int | None
    device: str | None
    threads: int | None
    tensorboard: bool

    @property
    def base(self) -> Path:
        """Paths in the recipe are relative to this folder."""
        return self.recipe.parent if self.recipe.exists() else Path()

    def settings(self) -> Recipe:
        """The recipe, with what was asked for instead."""
        from blinkloop.training.recipes import load_recipe

        if self.iterations is not None and self.minutes is not None:
            raise InputError(
                "--iterations and --minutes both set the length of the training; give "
                "one of them"
            )
        settings = load_recipe(str(self.recipe))
        update: dict[str, Any] = {}
        if self.iterations is not None:
            update = {"iterations": self.iterations, "minutes": None}
        if self.minutes is not None:
            update = {"minutes": self.minutes}
            if settings.schedule.schedule == "step":
                raise InputError(
                    "--minutes: a step schedule counts iterations; set schedule: "
                    "cosine or wsd in the recipe, or give --iterations"
                )
        schedule = settings.schedule.model_copy(update=update)
        seed = settings.seed if self.seed is None else self.seed
        update = {"schedule": schedule, "seed": seed}
        if self.teacher is not None:
            from blinkloop.training.recipe import DistillationSettings

            known = settings.distillation
            named = {"teacher": self.teacher}
            update["distillation"] = (
                known.model_copy(update=named)
                if known
                else DistillationSettings(**named)
            )
        return settings.model_copy(update=update)

    def trainer(self, settings: Recipe, device: str, ranks: Any) -> Trainer:
        """The trainer, resumed when there is a run."""
        import torch

        from blinkloop.cli._training import first_weights, teacher_from
        from blinkloop.training.checkpoint import CHECKPOINT_FILE
        from blinkloop.training.trainer import Trainer
        from blinkloop.training.validate import Validation
        from blinkloop.training.validation_loss import ValidationLoss, all_measures

        resumed = (self.folder / CHECKPOINT_FILE).exists()
        start = first_weights(self.source) if self.source and not resumed else None
        learns = settings.distillation if not resumed else None
        teacher = teacher_from(learns.teacher) if learns else None
        try:
            torch.empty(1, device=torch.device(device))
        except (RuntimeError, AssertionError) as error:
            # AssertionError: what torch raises for a device it was not built for.
            text = str(error).splitlines()[0]
            raise InputError(
                f"--device {device}: torch cannot use it ({text}); try --device cpu"
            ) from error
        trainer = Trainer(
            settings,
            self.folder,
            device=device,
            start=start,
            finish_in=self.finish_in,
            ranks=ranks,
            base=self.base,
            teacher=teacher,
        )
        # Of the trainer's recipe: a fine-tuned network has units of its own.
        recipe = trainer.simulated
        trainer.validate = all_measures(Validation(recipe), ValidationLoss(recipe))
        return trainer

    def words(self) -> list[object]:
        """The command that goes on."""
        words: list[object] = ["blinkloop", "train", self.recipe, "-o", self.folder]
        for name in ("teacher", "iterations", "minutes", "finish_in", "seed"):
            value = getattr(self, name)
            if value is not None:
                words += ["--" + name.replace("_", "-"), value]
        return words


def _lead(asked: _Asked, trainer: Trainer, where: str) -> int | None:
    """Train, show and log; the process that leads."""
    import torch

    from blinkloop.cli._training import Bar, stop_request
    from blinkloop.training.log import CsvLog, TensorBoardLog

    folder, recipe = asked.folder, trainer.recipe
    after = ("blinkloop", "export", folder, "-o", f"{recipe.name}.onnx")
    for line in trainer.notes:
        note(f"{folder}: {line}")
    total = trainer.iterations
    if trainer.finished:
        note(f"{folder} is trained already: {trainer.iteration} of {total} iterations")
        next_step(*after)
        return None
    if trainer.iteration:
        note(f"resuming {folder} at iteration {trainer.iteration}")
    minutes, precision = recipe.schedule.minutes, recipe.schedule.precision
    length = f"{total} iterations" if minutes is None else f"{minutes:g} minutes"
    note(f"{recipe.name}: {length} on {where}, {precision}, torch {torch.__version__}")
    with ExitStack() as stack:
        at = trainer.iteration
        log = CsvLog(folder / "log.csv", iteration=at, restarts=trainer.restarts)
        sinks: list[Any] = [log, stack.enter_context(Bar(total))]
        if asked.tensorboard:
            board = TensorBoardLog(folder / "tensorboard", iteration=at)
            stack.callback(board.close)
            sinks.append(board)
        stop = stack.enter_context(stop_request())

        def report(progress: Progress) -> None:
            for sink in sinks:
                sink(progress)

        trainer.train(report, until=asked.until, interrupted=stop, say=note)
    if trainer.finished:
        if trainer.stopped_early:
            note(f"stopped early at iteration {trainer.iteration}: no gain any more")
        from blinkloop.training.silence import silence_of_run

        silence = silence_of_run(trainer.averaged, trainer.recipe, folder)
        if silence is not None:
            note(f"{folder}: {silence}")
        next_step(*after)
        return None
    if stop.number is not None:
        note(f"stopped; checkpoint of iteration {trainer.iteration} is in {folder}")
        next_step(*asked.words())
        return 128 + stop.number
    note(f"stopped at iteration {trainer.iteration} of {trainer.iterations}, as asked")
    next_step(*asked.words())
    return None
