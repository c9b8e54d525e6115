"""A model file: one ONNX file that carries its weights and its card.

Reading the card needs neither onnxruntime nor onnx. Nothing in a model file is ever
executed as code: the card is JSON, the graph is data for the backend.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from blinkloop.engine_file import is_engine_file, read_engine_header
from blinkloop.engine_kinds import ENGINE_KINDS
from blinkloop.errors import InputError
from blinkloop.runtime.onnx_metadata import read_onnx_metadata
from blinkloop.schema import CARD_FORMAT_VERSION, CARD_KEY, ModelCard

__all__ = ["ModelFile", "read_card", "read_model"]

_ENGINE_SUFFIXES = frozenset(kind.suffix for kind in ENGINE_KINDS.values())


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file whose card has been read and found valid.

    Parameters
    ----------
    path
        Where it lies.
    card
        Its card.
    sha256
        Hash of the ONNX file, hexadecimal; names the model in results and logs. Of an
        engine it is that of the file it was built from: the same model.
    """

    path: Path
    card: ModelCard
    sha256: str


def _is_engine(file: Path) -> bool:
    """Whether a file is an engine, or called one: its reader then says what it is."""
    return is_engine_file(file) or file.suffix.lower() in _ENGINE_SUFFIXES


def _newer_version(text: str) -> object | None:
    """The card's format version when it is newer than ours, else None."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    version = document.get("format_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > CARD_FORMAT_VERSION:
        return version
    return None


def read_card(path: str | os.PathLike[str]) -> ModelCard:
    """Card of a model file, without loading the network.

    Parameters
    ----------
    path
        A model or engine file written by `blinkloop export`.

    Raises
    ------
    InputError
        The file is missing, a directory, truncated, not ONNX, not a blinkloop model,
        or its card is damaged or of a newer version.
    """
    file = Path(path)
    if _is_engine(file):
        return read_engine_header(file).card
    text = read_onnx_metadata(file).get(CARD_KEY)
    if text is None:
        raise InputError(
            f"{file}: this ONNX file is not a blinkloop model (it has no model card "
            f"under {CARD_KEY!r}); use a file that 'blinkloop export' wrote"
        )
    newer = _newer_version(text)
    if newer is not None:
        raise InputError(
            f"{file}: the model card has format version {newer}, this blinkloop reads "
            f"up to {CARD_FORMAT_VERSION}; update it: pip install --upgrade blinkloop"
        )
    return ModelCard.from_json(text, source=str(file))


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Card and hash of a model file; see `read_card` for the errors."""
    file = Path(path)
    if _is_engine(file):
        header = read_engine_header(file)
        return ModelFile(path=file, card=header.card, sha256=header.onnx_sha256)
    card = read_card(file)
    try:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{file}: the model file cannot be read ({error.strerror or error})"
        ) from error
    return ModelFile(path=file, card=card, sha256=digest)
