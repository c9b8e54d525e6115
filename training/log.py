"""Logs of a training: a CSV file always, TensorBoard when asked for.

Both take `Progress` records; neither knows the trainer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blinkloop.errors import InputError
from blinkloop.extras import installed
from blinkloop.training.progress import LOSS_TERMS, Progress

__all__ = ["CsvLog", "TensorBoardLog"]

_COLUMNS = (
    "iteration",
    "loss",
    *LOSS_TERMS,
    "gradient_norm",
    "learning_rate",
    "seconds_per_iteration",
    "restarts",
)
_MEANS = ("loss", *LOSS_TERMS, "gradient_norm")


def _values(progress: Progress) -> dict[str, float]:
    return {
        "loss": progress.loss,
        **progress.terms,
        "gradient_norm": progress.gradient_norm,
    }


class CsvLog:
    """Appends a row every `every` iterations and at every validation.

    A new measure becomes a new column; logs of older versions are taken over. Loss, its
    terms and the gradient norm are means since the row before.

    Parameters
    ----------
    path
        File to append to.
    iteration
        Where the run is: later rows, of a session that was lost, are dropped.
    restarts
        How often it began again; rows of earlier attempts stay.
    every
        Iterations.
    """

    def __init__(
        self, path: Path, *, iteration: int = 0, restarts: int = 0, every: int = 50
    ) -> None:
        self._path, self._every = path, every
        self._waiting: list[dict[str, float]] = []
        self._columns: list[str] = list(_COLUMNS)
        rows = self._old_rows()
        kept = [
            row
            for row in rows
            if int(row["iteration"]) <= iteration
            or int(row.get("restarts") or 0) < restarts
        ]
        for row in kept:
            self._columns += [key for key in row if key not in self._columns]
        self._rewrite(kept)

    def __call__(self, progress: Progress) -> None:
        """Take one iteration's progress."""
        self._waiting.append(_values(progress))
        last = progress.iteration == progress.iterations
        due = progress.iteration % self._every == 0 or last
        if not due and progress.validation is None:
            return
        row = {
            "iteration": f"{progress.iteration}",
            "learning_rate": f"{progress.learning_rate:.5g}",
            "seconds_per_iteration": f"{progress.seconds_per_iteration:.4g}",
            "restarts": f"{progress.restarts}",
        }
        # A teacher's term is there only where one is.
        for key in dict.fromkeys([*_MEANS, *self._waiting[-1]]):
            values = [old[key] for old in self._waiting if key in old]
            row[key] = f"{sum(values) / len(values):.6g}" if values else ""
        for key, value in (progress.validation or {}).items():
            row[key] = f"{value:.5g}"
        self._waiting = []
        new = [key for key in row if key not in self._columns]
        if new:
            rows = self._old_rows()
            self._columns += new
            self._rewrite([*rows, row])
        else:
            with self._path.open("a", encoding="utf-8", newline="") as file:
                file.write(self._text([row]))

    def _old_rows(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        with self._path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        # A row cut short by a crash lacks columns.
        whole = [row for row in rows if None not in row and None not in row.values()]
        return [row for row in whole if row.get("iteration", "").isdigit()]

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        temporary = self._path.with_suffix(".tmp")
        text = ",".join(self._columns) + "\n" + self._text(rows)
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.replace(self._path)

    def _text(self, rows: list[dict[str, str]]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writerows(rows)
        return text.getvalue()


class TensorBoardLog:
    """The same numbers for TensorBoard, every `every` iterations.

    Parameters
    ----------
    folder
        Where its event files go.
    iteration
        Where the run is: later points are hidden.
    every
        Iterations.

    Raises
    ------
    InputError
        The package tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, iteration: int = 0, every: int = 10) -> None:
        if not installed("tensorboard"):
            raise InputError(
                "--tensorboard needs the package 'tensorboard', which is not "
                "installed; pip install tensorboard, or leave the option out: log.csv "
                "holds the same numbers"
            )
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(
            str(folder), purge_step=iteration + 1 if iteration else None
        )
        self._every = every

    def __call__(self, progress: Progress) -> None:
        """Take one iteration's progress."""
        if progress.iteration % self._every == 0:
            values = {
                **_values(progress),
                "learning_rate": progress.learning_rate,
                "seconds_per_iteration": progress.seconds_per_iteration,
            }
            self._write("training", values, progress.iteration)
        if progress.validation is not None:
            self._write("validation", progress.validation, progress.iteration)

    def _write(self, group: str, values: Mapping[str, float], iteration: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(f"{group}/{key}", value, iteration)

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()
