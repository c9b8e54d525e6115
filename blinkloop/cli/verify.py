"""`blinkloop verify`: compare every backend with the reference."""

from __future__ import annotations

from pathlib import Path

import click

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._options import json_option
from blinkloop.cli._output import print_json, print_table
from blinkloop.cli._try import next_is_to_try
from blinkloop.extras import require

__all__ = ["command"]


@click.command(
    "verify", short_help="Compare a model file with PyTorch on every backend."
)
@click.argument("model")
@click.option(
    "--backend", "backends", multiple=True, help="Only this backend; may be repeated."
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Run folder or checkpoint the model was exported from.",
)
@click.option("--seed", default=0, show_default=True, help="Of the test movies.")
@json_option
def command(
    model: str, backends: tuple[str, ...], run: Path | None, seed: int, as_json: bool
) -> None:
    """Compare a MODEL with PyTorch, channel by channel, on every backend here.

    An fp16 or int8 model is compared with its own graph, operator by operator, because
    it is not the fp32 network (docs/precision.md). Exit code 1 when a difference
    exceeds the tolerances in the model's card.

    Example: blinkloop verify astigmatic
    """
    require("torch", "Verifying a model", "train")
    require("onnx", "Verifying a model", "export")
    from blinkloop.export import raise_if_failed, verify
    from blinkloop.runtime import read_model
    from blinkloop.runtime.benchmarking import backend_notes, remember_backends

    path = resolve_model(model)
    rows = verify(path, list(backends) or None, run=run, seed=seed)
    # `auto` takes no backend that failed here; that all is well needs no note, unless
    # there is one that says otherwise.
    file, verdicts = read_model(path), {row.backend: row.passed for row in rows[1:]}
    if not all(verdicts.values()) or backend_notes(file).passed:
        remember_backends(file, passed=verdicts)
    if as_json:
        print_json(
            [
                {
                    "backend": row.backend,
                    "max_abs_difference": row.max_abs_difference,
                    "detections_lost": row.detections_lost,
                    "detections_added": row.detections_added,
                    "passed": row.passed,
                    "problem": row.problem,
                }
                for row in rows
            ]
        )
    else:
        converted = file.card.precision is not None
        reference = "its own graph" if converted else "PyTorch"
        # The first row of a converted model tells of the file, not of numbers.
        channels = list(rows[-1 if converted else 0].max_abs_difference)
        print_table(
            f"{path.name}: largest difference to {reference}, by channel",
            ["backend", *channels, "lost", "added", "passed"],
            [
                [
                    row.backend,
                    *(row.max_abs_difference.get(name) for name in channels),
                    row.detections_lost,
                    row.detections_added,
                    row.passed,
                ]
                for row in rows
            ],
        )
    raise_if_failed(rows, source=str(path))
    next_is_to_try(model, path)
