"""The options of `export` that choose the number type of the network."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._options import with_options
from blinkloop.cli._output import note, warn
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.schema import ModelCard

__all__ = ["PrecisionFlags", "export_precision", "precision_options"]

_NAMES = ("fp32", "fp16", "int8")
# `blinkloop.schema.PRECISIONS`, which a help text must not wait for.


@dataclass(frozen=True, slots=True)
class PrecisionFlags:
    """What a person asked for."""

    name: str = "fp32"
    allow_loss: bool = False

    @property
    def converts(self) -> bool:
        """Whether the network is to have fewer bits."""
        return self.name != "fp32"


_OPTIONS = (
    click.option(
        "--precision",
        type=click.Choice(list(_NAMES)),
        default="fp32",
        show_default=True,
        help="Number type of the network: fp16 for GPUs, int8 for CPUs; its loss is "
        "measured.",
    ),
    click.option(
        "--allow-loss",
        is_flag=True,
        help="Write an fp16 or int8 model even when it loses more than it may.",
    ),
)


def precision_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--precision` and `--allow-loss`; the verb gets `precision`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        flags = PrecisionFlags(kwargs.pop("precision"), kwargs.pop("allow_loss"))
        if flags.allow_loss and not flags.converts:
            raise InputError(
                "--allow-loss is for fp16 and int8 models; give e.g. --precision int8"
            )
        return function(*args, precision=flags, **kwargs)

    return with_options(wrapper, _OPTIONS)


def export_precision(
    model: Path | None,
    run: Path,
    out: Path,
    flags: PrecisionFlags,
    export: Callable[[Path], object],
) -> ModelCard:
    """Write a model file in the number type that was asked for, and say what it costs.

    Parameters
    ----------
    model
        Model file to start from; None: `run` is a training run.
    run
        What was given.
    out
        Model file to write.
    flags
        What was asked for.
    export
        Exports `run` in fp32 as the file it is given; called without a `model` alone.
    """
    from blinkloop.export import convert

    folder = run if run.is_dir() else run.parent
    with tempfile.TemporaryDirectory() as scratch:
        source = model
        if source is None:
            source = Path(scratch) / out.name
            export(source)
        if flags.converts:
            note(f"{flags.name}: measuring what it loses on simulated movies")
        card = convert(
            source, out, flags.name, allow_loss=flags.allow_loss, psf_folder=folder
        )
    if card.precision is not None:
        for row in card.precision.loss:
            before, after = row.density_bias_percent
            axial = row.rmse_axial_percent
            note(
                f"{row.density_per_um2:g} per um^2: Jaccard {row.jaccard_points:+.2f} "
                f"points, RMSE {row.rmse_lateral_percent:+.1f} % lateral"
                f"{'' if axial is None else f', {axial:+.1f} % axial'}, density "
                f"{after - before:+.1f} points"
            )
        if card.precision.beyond_limits:
            warn(f"{out}: loses more than the limits; its card says so")
    return card
