"""`blinkloop export`: a trained network, ours or official DECODE's, as a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._engine import (
    EngineFlags,
    engine_options,
    export_engine,
    model_source,
)
from blinkloop.cli._options import FiniteRange
from blinkloop.cli._output import next_step, note
from blinkloop.cli._precision import (
    PrecisionFlags,
    export_precision,
    precision_options,
)
from blinkloop.errors import InputError
from blinkloop.extras import require

if TYPE_CHECKING:
    from blinkloop.schema import DetectionSettings, ModelCard

__all__ = ["command"]

_MIRRORS = {
    "none": (),
    "rows": ("rows",),
    "columns": ("columns",),
    "both": ("rows", "columns"),
}


@click.command("export", short_help="Make one model file from a trained network.")
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
    help="Most detections per frame on a GPU; default 2048.",
)
@click.option(
    "--trained-on",
    metavar="TEXT",
    help="Hardware the network was trained on, for the card.",
)
@click.option(
    "--param",
    type=click.Path(path_type=Path),
    help="DECODE: parameter file; default: param_run.yaml beside the weights.",
)
@click.option(
    "--pixel-size-nm",
    type=FiniteRange(min=0, min_open=True),
    help="DECODE: pixel size in the sample, where the parameter file has none.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="DECODE: *_3dcal.mat of the PSF, where the parameter file names none.",
)
@click.option(
    "--mirror",
    type=click.Choice(list(_MIRRORS)),
    help="DECODE: how frames are mirrored before the network; default: as the "
    "parameter file says.",
)
@precision_options
@engine_options
def command(
    run: Path,
    out: Path,
    threshold: float | None,
    max_detections: int | None,
    trained_on: str | None,
    param: Path | None,
    pixel_size_nm: float | None,
    calibration: Path | None,
    mirror: str | None,
    precision: PrecisionFlags,
    engine: EngineFlags,
) -> None:
    """Export a network as one checked ONNX file.

    RUN is a training run (folder or checkpoint), or a network of official DECODE 0.10:
    its model_*.pt or its folder, with the parameter file; or a model file or a bundled
    model, to export again, in another --precision, or as an --engine. The file is
    written only when ONNX Runtime gives what PyTorch gives, and in fewer bits only when
    it loses no more than docs/precision.md says. With --engine, an .onnx that had to be
    made lies beside the engine.

    Example: blinkloop export runs/small -o small.onnx

    Example: blinkloop export small.onnx --precision int8 -o small-int8.onnx

    Example: blinkloop export small.onnx --engine tensorrt-rtx -o small.rtx
    """
    require("torch", "Exporting a network", "train")
    require("onnx", "Exporting a network", "export")
    require("onnxscript", "Exporting a network", "export")

    if engine.kind is None and out.suffix.lower() != ".onnx":
        raise InputError(f"{out}: a model file ends in .onnx; give such a name to -o")
    given = {"threshold": threshold, "max_detections": max_detections}
    detection = {key: value for key, value in given.items() if value is not None}
    provenance = {"trained_on": trained_on} if trained_on else None
    official: dict[str, Any] = {
        "parameters": param,
        "pixel_size_nm": pixel_size_nm,
        "calibration": calibration,
        "mirrored": None if mirror is None else _MIRRORS[mirror],
    }
    of_runs = bool(detection or provenance) or any(
        value is not None for value in official.values()
    )
    model = model_source(run, options_of_runs=of_runs, engine=engine.kind is not None)

    def export(file: Path) -> ModelCard:
        if model is None and not precision.converts:
            return _export(run, file, detection, provenance, official)
        return export_precision(
            model,
            run,
            file,
            precision,
            lambda plain: _export(run, plain, detection, provenance, official),
        )

    if engine.kind is not None:
        if precision.name == "int8":
            raise InputError(
                "an engine computes in float what int8 rounds between layers, so int8 "
                "gains nothing there; leave --precision out, or give --precision fp16"
            )
        ready = None if precision.converts else model
        export_engine(ready, out, engine, export)
        return
    card = export(out)
    size = out.stat().st_size
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
    against = "PyTorch" if card.precision is None else "its fp32 model"
    note(f"{out}: {card.name}, {shown}, compared with {against}")
    if "rounded" in card.provenance and card.precision is None:
        note(f"{out}: has rounded weights; what rounding them lost stays lost")
    if "origin" in card.provenance:  # imported: its PSF's file may be elsewhere
        next_step("blinkloop", "verify", out)
    else:
        next_step("blinkloop", "evaluate", out, *_psf(run, card), "--write-card")


def _psf(run: Path, card: ModelCard) -> tuple[object, ...]:
    """The run's copy of a measured PSF, which `evaluate` may not find by itself."""
    file = getattr(card.psf, "file", None)
    folder = run if run.is_dir() else run.parent
    if file is None or not (folder / file).is_file():
        return ()
    return ("--psf", folder / file)


def _export(
    run: Path,
    out: Path,
    detection: dict[str, Any],
    provenance: dict[str, Any] | None,
    official: dict[str, Any],
) -> ModelCard:
    from blinkloop.export import export_official, export_run, looks_official

    checked = _detection(detection)
    if official["parameters"] is not None or looks_official(run):
        card = export_official(
            run,
            out,
            name=out.stem,
            detection=detection,
            provenance=provenance,
            **official,
        )
        for line in card.provenance["assumed"]:
            note(f"not in the parameter file, taken as DECODE does: {line}")
        return card
    needless = [key for key, value in official.items() if value is not None]
    if needless:
        raise InputError(
            f"{run}: is no network of DECODE, so it takes none of --param, "
            f"--pixel-size-nm, --calibration and --mirror; leave them out"
        )
    card = export_run(run, out, detection=checked, provenance=provenance)
    _say_silence(run)
    return card


def _say_silence(run: Path) -> None:
    """A line when levels of the network only cost time; the file is good anyhow."""
    from blinkloop.export.from_run import read_run
    from blinkloop.training.silence import silence_of_run

    trained = read_run(run)
    folder = run if run.is_dir() else run.parent
    said = silence_of_run(trained.network, trained.recipe, folder)
    if said is not None:
        note(f"{run}: {said}")


def _detection(values: dict[str, Any]) -> DetectionSettings:
    from pydantic import ValidationError

    from blinkloop.schema import DetectionSettings

    try:
        return DetectionSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"export: {first['loc'][0]} = {first['input']} cannot be used: "
            f"{first['msg']}"
        ) from error
