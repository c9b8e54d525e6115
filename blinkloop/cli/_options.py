"""Options that several verbs share, so that they look and mean the same everywhere."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from blinkloop.cli._bundled import resolve_model

__all__ = [
    "CameraFlags",
    "FiniteRange",
    "FrameSize",
    "camera_options",
    "json_option",
    "model_option",
    "with_options",
]

_F = TypeVar("_F", bound=Callable[..., Any])

if TYPE_CHECKING:
    _SizeType = click.ParamType[tuple[int, int]]
else:
    _SizeType = click.ParamType  # not generic at run time in every version

_CAMERA_FLAGS = (
    ("--baseline", "baseline_adu", "Offset of a dark pixel in ADU."),
    ("--e-per-adu", "e_per_adu", "Electrons (after EM gain) per ADU."),
    ("--em-gain", "em_gain", "Electron multiplication; above 1 = an EMCCD."),
    ("--qe", "quantum_efficiency", "Photoelectrons per photon, 0 to 1."),
    ("--read-noise", "read_noise_e", "Read noise (SD) in electrons."),
    ("--pixel-size-nm", "pixel_size_nm", "Pixel size in the sample in nm."),
)
"""Option, field of `CameraSettings`, help. All are numbers."""


@dataclass(frozen=True, slots=True)
class CameraFlags:
    """Camera facts a person gave on the command line.

    Parameters
    ----------
    file
        `--camera FILE`, if given.
    values
        The single flags that were given, by field of `CameraSettings`.
    """

    file: Path | None = None
    values: Mapping[str, float] = field(default_factory=dict)


class FiniteRange(click.FloatRange):
    """A number within limits; unlike click's own it takes neither nan nor inf."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Number of a text."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class FrameSize(_SizeType):
    """(height, width) in px of a text such as 256x256."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Height and width; a pair stays as it is."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) != 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
            self.fail(f"{value!r} is not HEIGHTxWIDTH in px, such as 256x256", param)
        return int(parts[0]), int(parts[1])


def with_options(
    function: Callable[..., Any], options: Sequence[Callable[..., Any]]
) -> Callable[..., Any]:
    """A command with click options, in the order in which its help names them."""
    for option in reversed(options):
        function = option(function)
    return function


def camera_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--camera` and its flags; the verb gets one `camera_flags: CameraFlags`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        file = kwargs.pop("camera_file")
        given = {name: kwargs.pop(name) for _, name, _ in _CAMERA_FLAGS}
        values = {name: value for name, value in given.items() if value is not None}
        return function(*args, camera_flags=CameraFlags(file, values), **kwargs)

    file = click.option(
        "--camera",
        "camera_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Camera description, YAML or JSON; the flags below overrule it.",
    )
    flags = (
        click.option(option, name, type=float, help=text)
        for option, name, text in _CAMERA_FLAGS
    )
    return with_options(wrapper, (file, *flags))


def json_option(function: _F) -> _F:
    """Add `--json`; the verb gets `as_json: bool`."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print one JSON value on stdout and nothing else.",
    )(function)


def model_option(*, required: bool = True) -> Callable[[_F], _F]:
    """Add `-m/--model`; the verb gets `model: Path` (or None when not required)."""
    return click.option(
        "-m",
        "--model",
        metavar="MODEL",
        callback=_resolve,
        required=required,
        help="Name of a bundled model (see: blinkloop models) or path of an .onnx.",
    )


def _resolve(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> Path | None:
    return None if value is None else resolve_model(value)
