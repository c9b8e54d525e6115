"""The few messages of ONNX that changing a graph takes, without the onnx package.

Numbers of fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.

Design notes: knows nothing of our graphs. A field keeps all its bytes, so what nobody
changes is written as it was read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.protobuf import (
    BYTES,
    VARINT,
    EndOfDataError,
    NotProtobufError,
    encode_varint,
    read_varint,
    value_length,
)

__all__ = [
    "GRAPH_INITIALIZER",
    "GRAPH_NODE",
    "GRAPH_OUTPUT",
    "GRAPH_VALUE",
    "VALUE_NAME",
    "Field",
    "Node",
    "encode_field",
    "fields",
    "first_text",
    "initializer",
    "initializer_name",
    "node_of",
    "tensor_of",
    "with_graph",
    "without_unread",
]

GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_OUTPUT, GRAPH_VALUE = 1, 5, 12, 13
VALUE_NAME = 1
"""Of an output of a graph."""
_MODEL_GRAPH = 7
_INPUT, _OUTPUT, _NAME, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_TEXT = 1, 3, 4
_ATTRIBUTE_INTS, _ATTRIBUTE_TYPE = 8, 20
_ATTRIBUTE_GRAPHS = (6, 11)
_INT, _INTS = 2, 7
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA = 1, 2, 8, 9
_FLOATS, _INT32S, _INT64S = 4, 5, 7
_DATA_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its number, all its bytes, and those of its value."""

    number: int
    whole: bytes | memoryview
    value: bytes | memoryview

    @property
    def text(self) -> str:
        """The value as text."""
        return str(self.value, "utf-8")


def fields(message: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message.

    Raises
    ------
    EndOfDataError, NotProtobufError
        It ends inside a field, or is none.
    """
    view = memoryview(message)
    stream, size = BytesIO(view), len(view)
    while (start := stream.tell()) < size:
        key = read_varint(stream)
        length = value_length(stream, key & 7)
        begin = stream.tell()
        end = begin + length
        if end > size:
            raise EndOfDataError
        yield Field(key >> 3, view[start:end], view[begin:end])
        stream.seek(end)


def first_text(message: bytes | memoryview, number: int) -> str:
    """The first field of this number as text; empty where there is none."""
    return next((field.text for field in fields(message) if field.number == number), "")


def encode_field(number: int, value: bytes | memoryview) -> bytes:
    """A field of bytes."""
    key = encode_varint((number << 3) | BYTES)
    return b"".join((key, encode_varint(len(value)), value))


def _encode_whole(number: int, value: int) -> bytes:
    """A field of one whole number that is not negative."""
    return encode_varint((number << 3) | VARINT) + encode_varint(value)


def with_graph(
    message: bytes, change: Callable[[memoryview], bytes | None]
) -> tuple[bytes, bool]:
    """A `ModelProto` with its graph changed.

    Parameters
    ----------
    message
        The model.
    change
        Gets the bytes of the graph; returns those of the new one, or None.

    Returns
    -------
    tuple
        The new message and True; the message as it is and False when nothing is to be
        changed or it cannot be read: the runtime that loads it says what is wrong.
    """
    try:
        parts = list(fields(message))
        graphs = [part for part in parts if part.number == _MODEL_GRAPH]
        graph = change(memoryview(graphs[0].value)) if len(graphs) == 1 else None
    except (NotProtobufError, EndOfDataError, UnicodeDecodeError):
        return message, False
    if graph is None:
        return message, False
    new = encode_field(_MODEL_GRAPH, graph)
    whole = (new if part.number == _MODEL_GRAPH else part.whole for part in parts)
    return b"".join(whole), True


@dataclass(frozen=True, slots=True)
class Node:
    """One operation of a graph.

    Parameters
    ----------
    operator
        Name of its operator, e.g. "Conv".
    inputs, outputs
        Names of values; an input left out is empty.
    attributes
        Name -> whole numbers; of those of other types the name alone.
    words
        Name -> text of the attributes that are text.
    holds_graph
        Whether one of them is a graph of its own.
    rest
        The fields of its attributes and its domain, as they were.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, tuple[int, ...]]
    holds_graph: bool = False
    rest: bytes = b""
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def field(self) -> bytes:
        """It as a field of a graph, named after its first output."""
        parts = [encode_field(_INPUT, name.encode()) for name in self.inputs]
        parts += [encode_field(_OUTPUT, name.encode()) for name in self.outputs]
        parts.append(encode_field(_NAME, self.outputs[0].encode()))
        parts.append(encode_field(_OPERATOR, self.operator.encode()))
        if self.rest:
            parts.append(self.rest)
        else:
            parts += [_attribute(name, *v) for name, v in self.attributes.items()]
        return encode_field(GRAPH_NODE, b"".join(parts))

    def reading(self, *inputs: str) -> Node:
        """The same operation, under the same names, on other values."""
        return dataclasses.replace(self, inputs=inputs)


def _attribute(name: str, *values: int) -> bytes:
    """An attribute of one whole number, or of a list of several."""
    one = len(values) == 1
    parts = [encode_field(_ATTRIBUTE_NAME, name.encode())]
    number = _ATTRIBUTE_INT if one else _ATTRIBUTE_INTS
    parts += [_encode_whole(number, value) for value in values]
    parts.append(_encode_whole(_ATTRIBUTE_TYPE, _INT if one else _INTS))
    return encode_field(_ATTRIBUTE, b"".join(parts))


def node_of(message: bytes | memoryview) -> Node:
    """Read a `NodeProto`."""
    parts = list(fields(message))

    def texts(number: int) -> tuple[str, ...]:
        return tuple(part.text for part in parts if part.number == number)

    attributes: dict[str, tuple[int, ...]] = {}
    words: dict[str, str] = {}
    holds_graph = False
    for part in parts:
        if part.number == _ATTRIBUTE:
            inside = list(fields(part.value))
            holds_graph |= any(field.number in _ATTRIBUTE_GRAPHS for field in inside)
            name = first_text(part.value, _ATTRIBUTE_NAME)
            attributes[name] = _wholes(inside)
            for field in inside:
                if field.number == _ATTRIBUTE_TEXT:
                    words[name] = field.text
    rest = (part.whole for part in parts if part.number in (_ATTRIBUTE, _DOMAIN))
    return Node(
        operator="".join(texts(_OPERATOR)),
        inputs=texts(_INPUT),
        outputs=texts(_OUTPUT),
        attributes=attributes,
        holds_graph=holds_graph,
        rest=b"".join(rest),
        words=words,
    )


def _wholes(attribute: Sequence[Field]) -> tuple[int, ...]:
    """Whole numbers of an attribute; a list of them may be packed into one field."""
    numbers = (_ATTRIBUTE_INT, _ATTRIBUTE_INTS)
    return tuple(n for f in attribute if f.number in numbers for n in _varints(f))


def _varints(field: Field) -> Iterator[int]:
    stream = BytesIO(field.value)
    while stream.tell() < len(field.value):
        yield read_varint(stream)


def tensor_of(message: bytes | memoryview) -> npt.NDArray[Any] | None:
    """Read a `TensorProto`; None for types and forms that are not known."""
    parts = list(fields(message))
    shape = [n for part in parts if part.number == _DIMS for n in _varints(part)]
    numbers = [n for part in parts if part.number == _DATA_TYPE for n in _varints(part)]
    kind = _DATA_TYPES.get(numbers[0]) if numbers else None
    if kind is None:
        return None
    for part in parts:
        if part.number in (_RAW_DATA, _FLOATS):
            values = np.frombuffer(part.value, np.uint8)
            if len(values) != kind.itemsize * math.prod(shape):
                return None
            return values.view(kind.newbyteorder("<")).reshape(shape).astype(kind)
    wholes = [n for p in parts if p.number in (_INT32S, _INT64S) for n in _varints(p)]
    if len(wholes) != math.prod(shape):
        return None
    # Negative numbers are written as what 2^64 more would be.
    return np.array(wholes, np.uint64).view(np.int64).reshape(shape).astype(kind)


def initializer_name(message: bytes | memoryview) -> str:
    """The name of a `TensorProto`."""
    return first_text(message, _TENSOR_NAME)


def initializer(name: str, array: npt.NDArray[np.float32 | np.int64]) -> bytes:
    """A constant as a field of a graph: float32 or int64."""
    parts = [_encode_whole(_DIMS, size) for size in array.shape]
    number = next(n for n, kind in _DATA_TYPES.items() if kind == array.dtype)
    parts.append(_encode_whole(_DATA_TYPE, number))
    parts.append(encode_field(_TENSOR_NAME, name.encode()))
    little = array.astype(array.dtype.newbyteorder("<"))
    parts.append(encode_field(_RAW_DATA, little.tobytes()))
    return encode_field(GRAPH_INITIALIZER, b"".join(parts))


def without_unread(graph: Sequence[Field]) -> bytes | None:
    """A graph without the nodes that no output needs.

    Parameters
    ----------
    graph
        Its fields.

    Returns
    -------
    bytes or None
        None when a node holds a graph of its own, which may read any value.
    """
    needed = {
        first_text(p.value, VALUE_NAME) for p in graph if p.number == GRAPH_OUTPUT
    }
    kept: list[bytes | memoryview] = []
    # Nodes are in the order of computation, so one pass from the end sees all readers.
    for part in reversed(graph):
        if part.number == GRAPH_NODE:
            node = node_of(part.value)
            if node.holds_graph:
                return None
            if not needed.intersection(node.outputs):
                continue
            needed.update(node.inputs)
        kept.append(part.whole)
    return b"".join(reversed(kept))
