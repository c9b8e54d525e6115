"""`blinkloop export`: from a training run to one model file."""

from __future__ import annotations

from pathlib import Path

import click

from blinkloop.cli._output import next_step, note
from blinkloop.extras import require

__all__ = ["command"]


@click.command("export", short_help="Make one model file from a training run.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Model file to write, e.g. model.onnx.",
)
@click.option("--threshold", type=float, help="Detection threshold for the card.")
@click.option(
    "--max-detections",
    type=click.IntRange(1),
    help="Rows of the detection table per frame; default 2048.",
)
@click.option(
    "--trained-on",
    metavar="TEXT",
    help="Hardware the network was trained on, for the card.",
)
def command(
    run: Path,
    out: Path,
    threshold: float | None,
    max_detections: int | None,
    trained_on: str | None,
) -> None:
    """Export a training RUN (folder or checkpoint) as one checked ONNX file.

    The file is written only when ONNX Runtime gives what PyTorch gives.

    Example: blinkloop export runs/small -o small.onnx
    """
    require("torch", "Exporting a network", "train")
    require("onnx", "Exporting a network", "export")
    require("onnxscript", "Exporting a network", "export")
    from pydantic import ValidationError

    from blinkloop.errors import InputError
    from blinkloop.export import export_run
    from blinkloop.schema import DetectionSettings

    if out.suffix.lower() != ".onnx":
        raise InputError(f"{out}: a model file ends in .onnx; give such a name to -o")
    given = {"threshold": threshold, "max_detections": max_detections}
    try:
        detection = DetectionSettings(
            **{key: value for key, value in given.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"export: {first['loc'][0]} = {first['input']} cannot be used: "
            f"{first['msg']}"
        ) from error
    card = export_run(
        run,
        out,
        detection=detection,
        provenance={"trained_on": trained_on} if trained_on else None,
    )
    size = out.stat().st_size
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    note(f"{out}: {card.name}, {shown}, compared with PyTorch")
    next_step("blinkloop", "evaluate", out, "--write-card")
