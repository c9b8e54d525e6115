"""Which camera facts hold: a person's word, then the source's metadata, then the card.

Design notes
------------
Takes mappings only: it does not know where they were read, movies or Micro-Manager. A
source states only what it knows; the model card knows everything, so each field of
`CameraSettings` ends up with a value and an origin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.schema import CameraSettings, ModelCard

__all__ = [
    "ResolvedCamera",
    "check_pixel_size",
    "merge_camera",
    "model_meta",
    "read_camera_file",
    "resolve_camera",
]

_SHOWN = (
    ("kind", "{}"),
    ("baseline_adu", "baseline {:g} ADU"),
    ("e_per_adu", "{:g} e per ADU"),
    ("em_gain", "EM gain {:g}"),
    ("quantum_efficiency", "QE {:g}"),
    ("read_noise_e", "read noise {:g} e"),
    ("pixel_size_nm", "pixel {:g} nm"),
)


@dataclass(frozen=True, slots=True)
class ResolvedCamera:
    """Camera facts and where each came from.

    Parameters
    ----------
    settings
        What is used.
    origin
        Field of `CameraSettings` -> "flag", "camera file", the source's name ("movie",
        "Micro-Manager") or "model card".
    """

    settings: CameraSettings
    origin: Mapping[str, str]

    @property
    def text(self) -> str:
        """One line: what is used, and from where."""
        by_origin: dict[str, list[str]] = {}
        for field, form in _SHOWN:
            fact = form.format(getattr(self.settings, field))
            by_origin.setdefault(self.origin[field], []).append(fact)
        return "camera: " + "; ".join(
            f"{', '.join(facts)} (from {_SAID.get(origin, origin)})"
            for origin, facts in by_origin.items()
        )

    def meta(self) -> dict[str, Any]:
        """For `LocalizationTable.meta`, JSON-serializable."""
        return {
            "camera": self.settings.model_dump(mode="json"),
            "camera_origin": dict(self.origin),
            "pixel_size_nm": self.settings.pixel_size_nm,
        }


_PIXELS_NM = (20.0, 2000.0)
"""Pixels of a chip are 3 to 16 um: given in um they lie below, in nm above."""

_SAID = {
    "flag": "the flags",
    "camera file": "the camera file",
    "movie": "the movie's metadata",
    "model card": "the model card",
    "recipe": "the recipe",
}


def resolve_camera(
    flags: Mapping[str, Any],
    camera_file: Path | None,
    source_facts: Mapping[str, Any],
    card: ModelCard,
    *,
    source: str = "movie",
) -> ResolvedCamera:
    """Merge camera facts; the first that knows a field wins.

    Parameters
    ----------
    flags
        Fields of `CameraSettings` a person gave; None means not given.
    camera_file
        YAML or JSON mapping of the same fields, or None.
    source_facts
        What the frames' source says, e.g. `FrameSource.camera_facts()`.
    card
        Of the model; knows the rest.
    source
        Name of the source for messages: "movie" or "Micro-Manager".

    Returns
    -------
    ResolvedCamera

    Raises
    ------
    InputError
        An unknown field, a value that cannot be, an unreadable file, or a pixel size
        that the model does not serve.
    """
    layers = [
        ("model card", card.camera.model_dump()),
        (source, _given(source_facts)),
        ("camera file", read_camera_file(camera_file) if camera_file else {}),
        ("flag", _given(flags)),
    ]
    # The card's own pixel size is the one its network was made for.
    layers[0][1]["pixel_size_nm"] = card.pixel_size_nm
    resolved = merge_camera(layers)
    pixel_nm = resolved.settings.pixel_size_nm
    _check_pixel_size(pixel_nm, resolved.origin["pixel_size_nm"], card)
    return resolved


def merge_camera(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> ResolvedCamera:
    """Merge camera facts; the last layer that knows a field wins.

    An EM gain above 1 makes the camera an EMCCD unless a later layer says another kind,
    which then has no gain.

    Parameters
    ----------
    layers
        (origin, facts), facts by field of `CameraSettings`.

    Raises
    ------
    InputError
        An unknown field, a value that cannot be, or an EM gain of another camera.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for name, facts in layers:
        for field in facts:
            if field not in CameraSettings.model_fields:
                raise InputError(
                    f"{name}: unknown camera fact {field!r}; known are "
                    f"{', '.join(CameraSettings.model_fields)}"
                )
        values.update(facts)
        origin.update(dict.fromkeys(facts, name))
        _agree(name, facts, values, origin)
    try:
        settings = CameraSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "camera"
        raise InputError(
            f"{origin.get(field, 'camera')}: {field} = {first['input']!r} cannot be "
            f"used ({first['msg']}); correct it, or say it with a flag"
        ) from error
    if origin.get("pixel_size_nm") not in (None, "model card"):
        check_pixel_size(settings.pixel_size_nm, origin["pixel_size_nm"])
    return ResolvedCamera(settings, origin)


def _agree(
    name: str, facts: Mapping[str, Any], values: dict[str, Any], origin: dict[str, str]
) -> None:
    """Make kind and EM gain one camera's after a layer that says one of them."""
    gain = values.get("em_gain", 1)
    if not isinstance(gain, int | float) or gain <= 1:
        return  # none, or no number: refused with the other values
    kind = values.get("kind", CameraSettings.model_fields["kind"].default)
    if kind == "emccd" or not facts.keys() & {"kind", "em_gain"}:
        return
    if "kind" not in facts:
        values["kind"], origin["kind"] = "emccd", name
    elif "em_gain" not in facts:
        values["em_gain"], origin["em_gain"] = 1.0, name
    elif name not in ("model card", "recipe"):  # these are what a network is made with
        raise InputError(
            f"{_SAID.get(name, name)}: a camera of kind {kind} has no EM gain, got "
            f"{gain:g}; say kind emccd, or an EM gain of 1"
        )


def check_pixel_size(pixel_nm: float, origin: str = "") -> None:
    """Refuse a pixel size that no microscope has: most likely it is not in nm.

    Parameters
    ----------
    pixel_nm
        In the sample.
    origin
        Who says so, for the message.

    Raises
    ------
    InputError
        Outside of 20 to 2000 nm: um given as nm, or the pixel of the camera's chip.
    """
    low, high = _PIXELS_NM
    if low <= pixel_nm <= high:
        return
    said = f" ({_SAID.get(origin, origin)})" if origin else ""
    raise InputError(
        f"a pixel size of {pixel_nm:g} nm{said} cannot be used (in the sample pixels "
        f"are {low:g} to {high:g} nm wide); give that in the sample (camera pixel / "
        f"magnification) in nm, e.g. 100"
    )


def read_camera_file(path: Path) -> dict[str, Any]:
    """Camera facts of a YAML or JSON file.

    Raises
    ------
    InputError
        When it cannot be read or is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(
            f"{path}: the camera file cannot be read ({reason}); check the path"
        ) from error
    try:
        is_json = path.suffix.lower() == ".json"
        content = json.loads(text) if is_json else _yaml(text)
    except ValueError as error:
        raise InputError(
            f"{path}: the camera file is not valid "
            f"({' '.join(str(error).split())}); correct it"
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: a camera file holds lines such as 'baseline_adu: 100', this one "
            f"holds {type(content).__name__}"
        )
    return {str(key): value for key, value in content.items()}


def model_meta(card: ModelCard) -> dict[str, Any]:
    """What a table must know of the model, for `LocalizationTable.meta`."""
    return {
        "model": card.name,
        "model_card_sha256": card.sha256(),
        "psf": card.psf.model_dump(mode="json"),
        "three_dimensional": card.three_dimensional,
        "z_range_nm": list(card.z_range_nm),
    }


def _given(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None}


def _yaml(text: str) -> Any:
    yaml = require("yaml", "Reading a YAML camera file", "io")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _check_pixel_size(pixel_nm: float, origin: str, card: ModelCard) -> None:
    if card.serves_pixel_size(pixel_nm):
        return
    said = f"the pixel size is {pixel_nm:g} nm ({_SAID.get(origin, origin)}), but"
    if card.pixel_size_range_nm is not None:
        low, high = card.pixel_size_range_nm
        raise InputError(
            f"{said} the model {card.name!r} serves {low:g} to {high:g} nm, so the PSF "
            f"has a width in px that it does not know; train and export a model for "
            f"{pixel_nm:g} nm, or say the true size with --pixel-size-nm"
        )
    raise InputError(
        f"{said} the model {card.name!r} was trained for {card.pixel_size_nm:g} nm, so "
        f"its PSF has another width in px; train and export a model for "
        f"{pixel_nm:g} nm, or say --pixel-size-nm {card.pixel_size_nm:g} if that is "
        f"the true value"
    )
