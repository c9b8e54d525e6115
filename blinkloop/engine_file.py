"""Engine files: a model built for GPUs, in one file with its card and its origin.

Layout (docs/engines.md):

    magic             8 bytes   89 42 4C 45 0D 0A 1A 0A
    header length     4 bytes   unsigned, little-endian
    header digest    32 bytes   SHA-256 of the header
    header                      JSON, UTF-8: `EngineHeader`
    engine                      what the builder serialized, `engine_bytes` long

Design notes: knows neither TensorRT nor CUDA. `runtime/` reads these files and
`export/` writes them, so the format belongs to the hall. Reading the header does not
read the engine; `read_engine` checks all of it.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blinkloop.engine_kinds import ENGINE_KINDS
from blinkloop.errors import InputError
from blinkloop.schema import ModelCard

__all__ = [
    "EngineHeader",
    "SizeRange",
    "engine_file_bytes",
    "is_engine_file",
    "platform_name",
    "read_engine",
    "read_engine_header",
]

# As in PNG: a byte no text has, then line ends that a transfer as text would change.
_MAGIC = b"\x89BLE\r\n\x1a\n"
_LENGTH = struct.Struct("<I")
_DIGEST_BYTES = 32
_MAX_HEADER_BYTES = 16 * 2**20

_T = TypeVar("_T")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SizeRange(_Strict):
    """Frame counts and sizes an engine takes: (least, best, most)."""

    frames: tuple[int, int, int] = Field(description="Frames per call.")
    height_px: tuple[int, int, int] = Field(description="Rows.")
    width_px: tuple[int, int, int] = Field(description="Columns.")

    def holds(self, height_px: int, width_px: int) -> bool:
        """Whether frames of that size can be analysed."""
        (low, _, high), (left, _, right) = self.height_px, self.width_px
        return low <= height_px <= high and left <= width_px <= right

    def size_text(self) -> str:
        """The sizes for people, height x width as everywhere on the command line."""
        (low, _, high), (left, _, right) = self.height_px, self.width_px
        return f"{low} x {left} to {high} x {right} px (height x width)"


class EngineHeader(_Strict):
    """What an engine file says of itself."""

    format_version: Literal[1] = 1
    kind: str = Field(description="Name in `ENGINE_KINDS`.")
    builder_version: str = Field(description="Of the module that built it.")
    blinkloop_version: str
    platform: str = Field(description="System and processor it was built on.")
    gpu: str = Field("", description="GPU it was built on; empty when portable.")
    compute_capabilities: tuple[str, ...] = Field(description="GPUs it runs on.")
    onnx_sha256: str = Field(description="Of the model file it was made from.")
    graph_flavour: int = Field(description="Version of the rewriting before the build.")
    precision: tuple[str, ...] = Field(description="Number types of the weights.")
    tf32: bool = Field(description="Whether float32 products may be rounded to TF32.")
    sizes: SizeRange
    key: str = Field(description="Of the engine cache: hash of all that decides it.")
    engine_bytes: int = Field(gt=0)
    engine_sha256: str
    card: ModelCard


def platform_name() -> str:
    """System and processor, e.g. "linux-x86_64"."""
    import platform

    return f"{sys.platform}-{platform.machine().lower()}"


def is_engine_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like an engine file; False when it cannot be read."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def engine_file_bytes(header: EngineHeader, engine: bytes | memoryview) -> bytes:
    """The file as bytes; the header's length and digest must be those of `engine`."""
    text = header.model_dump_json().encode()
    digest = hashlib.sha256(text).digest()
    return b"".join((_MAGIC, _LENGTH.pack(len(text)), digest, text, engine))


def read_engine_header(path: str | os.PathLike[str]) -> EngineHeader:
    """Header of an engine file, without reading the engine.

    Raises
    ------
    InputError
        Missing, foreign, truncated or damaged file, or one of a newer format.
    """
    file = Path(path)
    return _opened(file, lambda stream, size: _header(file, stream, size)[0])


def read_engine(path: str | os.PathLike[str]) -> tuple[EngineHeader, bytes]:
    """Header and engine; every byte of the file has been checked.

    Raises
    ------
    InputError
        See `read_engine_header`; also when the engine's bytes are damaged.
    """
    file = Path(path)

    def read(stream: BinaryIO, size: int) -> tuple[EngineHeader, bytes]:
        header, start = _header(file, stream, size)
        stream.seek(start)
        engine = stream.read()
        if hashlib.sha256(engine).hexdigest() != header.engine_sha256:
            raise InputError(
                f"{file}: the engine is damaged (its checksum is not the header's); "
                f"copy the file again or build it again: {_build_command(header)}"
            )
        return header, engine

    return _opened(file, read)


def _opened(file: Path, read: Callable[[BinaryIO, int], _T]) -> _T:
    if file.is_dir():
        raise InputError(f"{file}: is a folder, not an engine file")
    try:
        with file.open("rb") as stream:
            return read(stream, os.fstat(stream.fileno()).st_size)
    except FileNotFoundError as error:
        raise InputError(
            f"{file}: there is no such engine file; build one with: blinkloop export "
            f"MODEL.onnx --engine tensorrt-rtx -o {file.name}"
        ) from error
    except OSError as error:
        raise InputError(
            f"{file}: the engine file cannot be read ({error.strerror or error})"
        ) from error


def _header(file: Path, stream: BinaryIO, size: int) -> tuple[EngineHeader, int]:
    """Header, and where the engine starts."""
    magic = stream.read(len(_MAGIC))
    if magic != _MAGIC[: len(magic)] or not magic:
        raise InputError(
            f"{file}: this is not a blinkloop engine file; an engine that another "
            f"program wrote lacks the model card, so build one with: blinkloop export "
            f"MODEL.onnx --engine tensorrt-rtx"
        )
    head = stream.read(_LENGTH.size + _DIGEST_BYTES)
    if len(head) < _LENGTH.size + _DIGEST_BYTES:
        raise _truncated(file, size)
    (length,) = _LENGTH.unpack_from(head)
    if length > _MAX_HEADER_BYTES:
        raise _damaged(file)
    text = stream.read(length)
    if len(text) < length:
        raise _truncated(file, size)
    if hashlib.sha256(text).digest() != head[_LENGTH.size :]:
        raise _damaged(file)
    header = _parse(file, text)
    start = len(_MAGIC) + len(head) + length
    missing = start + header.engine_bytes - size
    if missing > 0:
        raise _truncated(file, size)
    if missing < 0:
        raise InputError(
            f"{file}: {-missing} bytes follow the engine, so the file is damaged; copy "
            f"it again or build it again: {_build_command(header)}"
        )
    return header, start


def _parse(file: Path, text: bytes) -> EngineHeader:
    try:
        header = EngineHeader.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{file}: this engine file was written by another version of blinkloop "
            f"({where or 'header'}: {first['msg']}); build it again from its .onnx file"
        ) from error
    if header.kind not in ENGINE_KINDS:
        raise InputError(
            f"{file}: holds an engine of the unknown kind {header.kind!r}; known: "
            f"{', '.join(ENGINE_KINDS)}; update blinkloop or build it again"
        )
    return header


def _build_command(header: EngineHeader) -> str:
    return f"blinkloop export MODEL.onnx --engine {header.kind}"


def _truncated(file: Path, size: int) -> InputError:
    return InputError(
        f"{file}: the engine file is truncated (it ends after {size} bytes); copy it "
        f"again or build it again from its .onnx file"
    )


def _damaged(file: Path) -> InputError:
    return InputError(
        f"{file}: the header of the engine file is damaged (its checksum does not "
        f"fit); copy it again or build it again from its .onnx file"
    )
