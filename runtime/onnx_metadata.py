"""Read the metadata of an ONNX file without onnx, protobuf or onnxruntime.

An ONNX file is one protobuf message, `ModelProto`
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto): a run of fields, each a key
(number * 8 + wire type) and a value. The graph (field 7) holds the weights and is
skipped by seeking, so the card of a 20 MB model is read in well under a millisecond.

Design notes: this module knows nothing of model cards; it reports what it finds and
why a file cannot be one of ONNX.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from blinkloop.errors import InputError
from blinkloop.runtime.protobuf import (
    BYTES,
    VARINT,
    EndOfDataError,
    NotProtobufError,
    read_varint,
    value_length,
)

__all__ = ["read_onnx_metadata"]

_GRAPH, _METADATA = 7, 14
# Wire types of the top-level fields of ModelProto: anything else under these numbers
# tells that the file only looks like protobuf.
_WIRE_TYPES = {
    1: VARINT,  # ir_version
    2: BYTES,  # producer_name
    3: BYTES,  # producer_version
    4: BYTES,  # domain
    5: VARINT,  # model_version
    6: BYTES,  # doc_string
    _GRAPH: BYTES,
    8: BYTES,  # opset_import
    _METADATA: BYTES,
}
# Far above any field ONNX has; random bytes give larger numbers almost at once.
_MAX_FIELD = 100


def _scan(stream: BinaryIO, size: int) -> tuple[bool, list[bytes]]:
    """Whether a graph was seen, and the bytes of every metadata entry."""
    entries: list[bytes] = []
    graph = False
    while stream.tell() < size:
        key = read_varint(stream)
        number, wire = key >> 3, key & 7
        if not 1 <= number <= _MAX_FIELD or _WIRE_TYPES.get(number, wire) != wire:
            raise NotProtobufError
        length = value_length(stream, wire)
        if stream.tell() + length > size:
            raise EndOfDataError
        graph = graph or number == _GRAPH
        if number == _METADATA:
            entries.append(stream.read(length))
        else:
            stream.seek(length, os.SEEK_CUR)
    return graph, entries


def _parse_entry(entry: bytes) -> tuple[str, str]:
    """Key (field 1) and value (field 2) of one `StringStringEntryProto`."""
    texts = {1: "", 2: ""}
    stream = BytesIO(entry)
    while stream.tell() < len(entry):
        key = read_varint(stream)
        if key & 7 != BYTES:
            raise NotProtobufError
        length = read_varint(stream)
        value = stream.read(length)
        if len(value) != length:
            raise EndOfDataError
        texts[key >> 3] = value.decode("utf-8")
    return texts[1], texts[2]


def read_onnx_metadata(path: Path) -> dict[str, str]:
    """`metadata_props` of an ONNX file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        Key -> text; empty when the file has none.

    Raises
    ------
    InputError
        Missing file, a directory, an unreadable, truncated or empty file, or one that
        is not ONNX.
    """
    if path.is_dir():
        raise InputError(
            f"{path}: this is a directory, not a model file; give the .onnx file in it"
        )
    try:
        size = path.stat().st_size
        if size == 0:
            raise InputError(
                f"{path}: the model file is empty (0 bytes); copy or export it again"
            )
        with path.open("rb") as stream:
            graph, entries = _scan(stream, size)
            metadata = dict(_parse_entry(entry) for entry in entries)
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: there is no such model file; check the path, or list the "
            f"bundled models with: blinkloop models"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: the model file cannot be read ({error.strerror or error})"
        ) from error
    except EndOfDataError as error:
        raise InputError(
            f"{path}: the file ends inside a field after {size} bytes, so it is "
            f"truncated or not an ONNX model; copy or export it again"
        ) from error
    except (NotProtobufError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: this is not an ONNX model; a blinkloop model is the .onnx file "
            f"that 'blinkloop export' writes"
        ) from error
    if not graph:
        raise InputError(
            f"{path}: this is not an ONNX model (it holds no graph); a blinkloop model "
            f"is the .onnx file that 'blinkloop export' writes"
        )
    return metadata
