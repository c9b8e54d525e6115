"""Model files on disk: load one, replace one in one step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blinkloop.engine_file import is_engine_file
from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.schema import CARD_KEY, ModelCard

__all__ = ["load_model", "replacing"]


def load_model(path: str | os.PathLike[str]) -> tuple[Any, ModelCard]:
    """The ONNX message of a model file (`onnx.ModelProto`) and its card.

    Raises
    ------
    InputError
        The file is missing, not ONNX, or not a blinkloop model.
    MissingExtraError
        The package onnx is not installed.
    """
    onnx = require("onnx", "Reading the graph of a model file", "export")
    file = Path(path)
    if is_engine_file(file):
        raise InputError(
            f"{file}: is an engine, which holds no graph to read; give the .onnx file "
            f"that it was built from"
        )
    try:
        model = onnx.load(os.fspath(file), load_external_data=False)
    except FileNotFoundError as error:
        raise InputError(
            f"{file}: there is no such model file; check the path"
        ) from error
    except Exception as error:  # protobuf's decode errors share no public base
        raise InputError(
            f"{file}: the model file cannot be read ({type(error).__name__}); it is "
            f"truncated or not ONNX, so copy or export it again"
        ) from error
    cards = [entry.value for entry in model.metadata_props if entry.key == CARD_KEY]
    if not cards:
        raise InputError(
            f"{file}: this file is not a blinkloop model (it has no model card); use a "
            f"file that 'blinkloop export' wrote"
        )
    return model, ModelCard.from_json(cards[0], source=str(file))


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `file` when the block ends well.

    Until then, and when the block raises, `file` is what it was.

    Raises
    ------
    InputError
        `file` is a folder, or its folder is missing or cannot be written to.
    """
    if file.is_dir():
        raise InputError(f"{file}: is a folder; give the model file to write")
    try:
        # In the same folder, for replacing works only within one file system.
        handle, name = tempfile.mkstemp(
            prefix=f".{file.stem}-", suffix=".onnx", dir=file.parent
        )
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); give a file in a folder "
            f"that exists and that you may write to"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; a model file is as public as any other.
        temporary.chmod(0o644)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
