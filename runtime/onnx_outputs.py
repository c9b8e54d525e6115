"""Take an output, and all that is computed for it alone, out of an ONNX message.

ONNX Runtime computes every node of a graph, fetched or not. The maps of a streaming
graph are ten numbers a pixel of which a run needs one and a table, and what a run does
not need must not cost time or memory. Numbers of fields:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.

Design notes: knows nothing of our graphs. What cannot be read is left as it is: the
runtime that loads it says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from blinkloop.runtime.protobuf import (
    BYTES,
    EndOfDataError,
    NotProtobufError,
    encode_varint,
    read_varint,
    value_length,
)

__all__ = ["without_output"]

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_OUTPUT = 1, 12
_VALUE_NAME = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPHS = (6, 11)


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of a message: its number, all its bytes, and those of its value."""

    number: int
    whole: memoryview
    value: memoryview


def without_output(message: bytes, name: str) -> tuple[bytes, bool]:
    """The message without one output and the nodes that nothing else reads.

    Parameters
    ----------
    message
        A serialized `ModelProto`.
    name
        Of the output.

    Returns
    -------
    tuple
        The new message and whether it had such an output; the message as it is when it
        had not, when a node holds a graph of its own, or when it cannot be read.
    """
    try:
        fields = list(_fields(memoryview(message)))
        graphs = [field for field in fields if field.number == _MODEL_GRAPH]
        if len(graphs) != 1:
            return message, False
        graph = _graph_without(graphs[0].value, name)
    except (NotProtobufError, EndOfDataError, UnicodeDecodeError):
        return message, False
    if graph is None:
        return message, False
    key = encode_varint((_MODEL_GRAPH << 3) | BYTES)
    parts: list[bytes | memoryview] = []
    for field in fields:
        if field.number == _MODEL_GRAPH:
            parts += [key, encode_varint(len(graph)), graph]
        else:
            parts.append(field.whole)
    return b"".join(parts), True


def _graph_without(graph: memoryview, name: str) -> bytes | None:
    """The graph's bytes without an output; None when there is nothing to take out."""
    fields = list(_fields(graph))
    outputs = {
        _first_text(field.value, _VALUE_NAME): field
        for field in fields
        if field.number == _GRAPH_OUTPUT
    }
    if name not in outputs:
        return None
    out = {id(outputs[name])}
    needed = set(outputs) - {name}
    # Nodes are in the order of computation, so one pass from the end sees all readers.
    for field in reversed(fields):
        if field.number != _GRAPH_NODE:
            continue
        parts = list(_fields(field.value))
        if any(part.number == _NODE_ATTRIBUTE and _holds_graph(part) for part in parts):
            return None
        made = {_text(part) for part in parts if part.number == _NODE_OUTPUT}
        if made & needed:
            needed |= {_text(part) for part in parts if part.number == _NODE_INPUT}
        else:
            out.add(id(field))
    return b"".join(field.whole for field in fields if id(field) not in out)


def _holds_graph(attribute: _Field) -> bool:
    return any(field.number in _ATTRIBUTE_GRAPHS for field in _fields(attribute.value))


def _text(field: _Field) -> str:
    return str(field.value, "utf-8")


def _first_text(message: memoryview, number: int) -> str:
    return next((_text(f) for f in _fields(message) if f.number == number), "")


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message."""
    stream, size = BytesIO(message), len(message)
    while (start := stream.tell()) < size:
        key = read_varint(stream)
        length = value_length(stream, key & 7)
        begin = stream.tell()
        end = begin + length
        if end > size:
            raise EndOfDataError
        yield _Field(key >> 3, message[start:end], message[begin:end])
        stream.seek(end)
