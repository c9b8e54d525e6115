"""Options that several verbs share, so that they look and mean the same everywhere."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from blinkloop.cli._bundled import resolve_model
from blinkloop.errors import InputError
from blinkloop.extras import require

__all__ = ["CameraFlags", "camera_options", "json_option", "model_option"]

_F = TypeVar("_F", bound=Callable[..., Any])

_CAMERA_FLAGS = (
    ("--baseline", "baseline_adu", "Offset of a dark pixel in ADU."),
    ("--e-per-adu", "e_per_adu", "Electrons (after EM gain) per ADU."),
    ("--em-gain", "em_gain", "Electron multiplication; 1 = none."),
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

    def facts(self) -> dict[str, Any]:
        """Facts of the file, overruled by the flags; only those given.

        Returns
        -------
        dict
            Keyword arguments of `CameraSettings`, each checked on its own.

        Raises
        ------
        InputError
            The file cannot be read, has an unknown key or a value out of range.
        """
        facts = {} if self.file is None else _read_camera_file(self.file)
        _check(facts, str(self.file))
        _check(self.values, "the camera flags")
        return {**facts, **self.values}


def camera_options(function: _F) -> _F:
    """Add `--camera` and its flags; the verb gets one `camera_flags: CameraFlags`."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        file = kwargs.pop("camera_file")
        given = {name: kwargs.pop(name) for _, name, _ in _CAMERA_FLAGS}
        values = {name: value for name, value in given.items() if value is not None}
        return function(*args, camera_flags=CameraFlags(file, values), **kwargs)

    decorated: Any = wrapper
    for option, name, text in reversed(_CAMERA_FLAGS):
        decorated = click.option(option, name, type=float, help=text)(decorated)
    return click.option(  # type: ignore[no-any-return]
        "--camera",
        "camera_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Camera description, YAML or JSON; the flags below overrule it.",
    )(decorated)


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


def _read_camera_file(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(
            f"{file}: the camera description cannot be read ({reason}); give an "
            f"existing YAML or JSON file to --camera"
        ) from error
    try:
        if file.suffix.lower() == ".json":
            content = json.loads(text)
        else:
            content = _parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{file}: not a valid camera description: {error}") from error
    if not isinstance(content, dict):
        raise InputError(
            f"{file}: a camera description is a list of 'name: value' lines, got "
            f"{type(content).__name__}; e.g. 'baseline_adu: 100'"
        )
    return {str(key): value for key, value in content.items()}


def _parse_yaml(text: str) -> Any:
    yaml = require("yaml", "Reading a YAML camera description", "io")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check(facts: Mapping[str, Any], source: str) -> None:
    # Imported here: pydantic would make up most of the time of `blinkloop --help`.
    from pydantic import ValidationError

    from blinkloop.schema import CameraSettings

    unknown = sorted(set(facts) - set(CameraSettings.model_fields))
    if unknown:
        raise InputError(
            f"{source}: unknown camera fact {unknown[0]!r}; known are "
            f"{', '.join(CameraSettings.model_fields)}"
        )
    try:
        CameraSettings(**facts)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{source}: {name} = {first['input']!r} cannot be used: {first['msg']}"
        ) from error
