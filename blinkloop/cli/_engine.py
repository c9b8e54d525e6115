"""The options of `export` that build an engine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._bundled import bundled_models
from blinkloop.cli._options import with_options
from blinkloop.cli._output import next_step, note
from blinkloop.engine_kinds import ENGINE_KINDS
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.engine_file import EngineHeader

__all__ = ["EngineFlags", "engine_options", "export_engine", "model_source"]


@dataclass(frozen=True, slots=True)
class EngineFlags:
    """What a person asked for; `kind` is None when no engine is wanted."""

    kind: str | None = None
    size: str | None = None
    frames: str | None = None
    gpus: str | None = None
    tf32: bool = False


_OPTIONS = (
    click.option(
        "--engine",
        "engine_kind",
        type=click.Choice(list(ENGINE_KINDS)),
        help="Build an engine for NVIDIA GPUs instead of an .onnx; tensorrt-rtx needs "
        "no GPU to build.",
    ),
    click.option(
        "--engine-size",
        metavar="HxW[:HxW:HxW]",
        help="Frame sizes in px: least, best and most; default "
        "32x32:256x256:1024x1024.",
    ),
    click.option(
        "--engine-frames",
        metavar="N[:N:N]",
        help="Frames per call: least, best and most; default 1:8:64.",
    ),
    click.option(
        "--engine-gpus",
        metavar="LIST",
        help="tensorrt-rtx: compute capabilities to build for; default "
        "8.0,8.6,8.9,12.0.",
    ),
    click.option(
        "--engine-tf32",
        is_flag=True,
        help="Let float32 products be rounded to TF32: faster, less exact.",
    ),
)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--engine` and its options; the verb gets one `engine: EngineFlags`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        flags = EngineFlags(
            kind=kwargs.pop("engine_kind"),
            size=kwargs.pop("engine_size"),
            frames=kwargs.pop("engine_frames"),
            gpus=kwargs.pop("engine_gpus"),
            tf32=kwargs.pop("engine_tf32"),
        )
        if flags.kind is None and flags != EngineFlags():
            raise InputError(
                "--engine-size, --engine-frames, --engine-gpus and --engine-tf32 need "
                "--engine; give e.g. --engine tensorrt-rtx"
            )
        return function(*args, engine=flags, **kwargs)

    return with_options(wrapper, _OPTIONS)


def export_engine(
    model: Path | None,
    out: Path,
    flags: EngineFlags,
    export: Callable[[Path], object],
) -> None:
    """Build an engine from a model file, or from one that is exported on the way.

    Parameters
    ----------
    model
        Model file to build from; None: there is none yet.
    out
        Engine file.
    flags
        What to build; `kind` is set.
    export
        Writes the ONNX file it is given; called without a `model` alone.
    """
    from blinkloop.export.engine import build_engine
    from blinkloop.export.engine_spec import engine_spec

    kind = ENGINE_KINDS[str(flags.kind)]
    spec = engine_spec(flags.size, flags.frames, tf32=flags.tf32, gpus=flags.gpus)
    if out.suffix.lower() != kind.suffix:
        raise InputError(
            f"{out}: a {kind.name} engine ends in {kind.suffix}; give such a name to -o"
        )
    if model is None:
        model = out.with_suffix(".onnx")
        if model.exists():
            raise InputError(
                f"{model} exists; build the engine from it (blinkloop export {model} "
                f"--engine {kind.name} -o {out}) or give another name to -o"
            )
        export(model)
    header = build_engine(model, out, kind=kind.name, spec=spec)
    _tell(out, header)
    next_step("blinkloop", "run", "-m", out)


def model_source(source: Path, *, options_of_runs: bool, engine: bool) -> Path | None:
    """The model file that is meant by `source`; None for a training run.

    Parameters
    ----------
    source
        Model file, name of a bundled model, or training run.
    options_of_runs
        Whether options were given that only the export of a run takes.
    engine
        Whether an engine is wanted.

    Raises
    ------
    InputError
        Options that a model file does not take.
    """
    model = _model_of(source)
    if model is not None and options_of_runs:
        takes = "those that begin with --engine" if engine else "--precision"
        raise InputError(
            f"{model}: is a model file already; of the options of export it takes "
            f"{takes} alone"
        )
    return model


def _model_of(source: Path) -> Path | None:
    """The ONNX file that is meant; None for a training run."""
    # An engine is no model to build from either; who reads the file says so.
    if source.suffix.lower() in {".onnx", *(k.suffix for k in ENGINE_KINDS.values())}:
        return source
    if not source.exists():
        return bundled_models().get(str(source))
    return None


def _tell(out: Path, header: EngineHeader) -> None:
    sizes = header.sizes
    note(
        f"{out}: {header.card.name}, {out.stat().st_size / 1e6:.1f} MB, {header.kind} "
        f"{header.builder_version}, {sizes.size_text()}, {sizes.frames[0]} to "
        f"{sizes.frames[2]} frames per call, compute capability "
        f"{', '.join(header.compute_capabilities)}"
    )
    if "rounded" in header.card.provenance and header.card.precision is None:
        note(f"{out}: has the model's rounded weights, and computes in float")
