"""A detection table as long as the fullest frame of a call needs, in steps of 16 rows.

A graph writes a table of fixed length, thousands of rows: a few dozen are used in a
small frame, and in a large and dense one they are too few, which leaves detections out.
How many there are is known before the table is made (`counts`), so its length may come
from there: nothing is left out, and nothing is sorted, computed or copied for rows that
stay empty. The length differs from call to call, which engines and captured CUDA graphs
cannot do, so these keep the table of the file. Measured in docs/speed.md.

One row for four pixels is the limit (or the length in the file, if that is more):
frames that the network cannot read, noise or saturated, must not take all memory.

Design notes: finds the table by structure (`TopK` of padded scores whose positive ones
are counted); knows neither cards nor files, and leaves a graph that looks different as
it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from blinkloop.runtime.onnx_graph import OnnxGraph
from blinkloop.runtime.onnx_message import (
    GRAPH_NODE,
    GRAPH_OUTPUT,
    GRAPH_VALUE,
    VALUE_NAME,
    Node,
    encode_field,
    fields,
    first_text,
    initializer,
    with_graph,
)

__all__ = ["rows_as_needed"]

_COUNTS, _TABLE = "counts", "detections"
_PREFIX = "rows/"
_BLOCK = 16
"""Rows come by so many: OpenVINO prepares anew for every number it meets."""
_PIXELS_PER_ROW = 4
_SHAPE = (2, 1, 2)
"""Fields that lead to the shape of an output: type, tensor, shape."""
_DIMENSION, _NAME_OF_DIMENSION = 1, 2


def rows_as_needed(message: bytes) -> tuple[bytes, bool]:
    """The message with a table as long as the fullest frame needs.

    Parameters
    ----------
    message
        A serialized `ModelProto`.

    Returns
    -------
    tuple
        The new message and whether anything was changed.
    """
    return with_graph(message, _changed)


class _Table(NamedTuple):
    """Where the table is made: the best scores, the zeros behind them, its length."""

    best: Node
    padded: Node
    length: int


class _Part(NamedTuple):
    """A node and the field of a graph that holds it."""

    node: Node
    field: bytes | memoryview


def _changed(message: memoryview) -> bytes | None:
    graph = OnnxGraph(message)
    tables = [t for t in (_table(node, graph) for node in graph.nodes) if t is not None]
    if len(tables) != 1 or any(node.holds_graph for node in graph.nodes):
        return None
    (table,) = tables
    constants, made = _as_needed(table)
    old = [
        _Part(node, part.whole)
        for part in graph.parts
        if (node := graph.node_at(part)) is not None
        and node is not table.best
        and node is not table.padded
    ]
    nodes = _in_order([_Part(node, node.field()) for node in made] + old)
    if nodes is None:
        return None
    kept = [*constants, *nodes]
    for part in graph.parts:
        if part.number == GRAPH_OUTPUT and first_text(part.value, VALUE_NAME) == _TABLE:
            kept.append(encode_field(GRAPH_OUTPUT, _inside(part.value, _SHAPE, _open)))
        # What the exporter found out about values between may not be true any more.
        elif part.number not in (GRAPH_NODE, GRAPH_VALUE):
            kept.append(part.whole)
    return b"".join(kept)


def _table(node: Node, graph: OnnxGraph) -> _Table | None:
    """The table that this node makes, if it does."""
    if node.operator != "TopK" or len(node.inputs) != 2:
        return None
    if node.attributes.get("axis") != (1,) or node.attributes.get("largest") == (0,):
        return None
    padded = graph.maker(node.inputs[0], "Pad")
    if padded is None or len(padded.inputs) != 2:
        return None
    if padded.words.get("mode", "constant") != "constant":
        return None
    lengths = [graph.tensor(name) for name in (node.inputs[1], padded.inputs[1])]
    if any(n is None or n.dtype != np.int64 for n in lengths):
        return None
    (length, *more), behind = (n.tolist() for n in lengths if n is not None)
    if more or behind != [0, 0, 0, length]:
        return None
    counted = _counted(graph)
    return _Table(node, padded, length) if counted == padded.inputs[0] else None


def _counted(graph: OnnxGraph) -> str:
    """The value whose positive numbers are counted in each frame; else empty."""
    name = _COUNTS
    for operator in ("ReduceSum", "Cast", "Greater"):
        node = graph.makers.get(name)
        if node is None or node.operator != operator:
            return ""
        name = node.inputs[0]
    return name


def _as_needed(table: _Table) -> tuple[list[bytes], list[Node]]:
    """Constants and nodes in place of the table's two."""
    numbers = {
        "one": [1],
        "two": [2],
        "block": [_BLOCK],
        "pixels per row": [_PIXELS_PER_ROW],
        "length": [table.length],
        "before": [0, 0, 0],
    }
    constants = [
        initializer(_PREFIX + name, np.array(values, np.int64))
        for name, values in numbers.items()
    ]
    scores = table.padded.inputs[0]

    def node(operator: str, name: str, *inputs: str, **whole: int) -> Node:
        attributes = {key: (value,) for key, value in whole.items()}
        own = (i if i in (_COUNTS, scores) else _PREFIX + i for i in inputs)
        return Node(operator, tuple(own), (_PREFIX + name,), attributes)

    nodes = [
        node("ReduceMax", "most", _COUNTS, keepdims=1),
        node("Add", "more", "most", "block"),
        node("Div", "blocks", "more", "block"),
        node("Mul", "wanted", "blocks", "block"),
        node("Shape", "shape", scores),
        node("Slice", "pixels", "shape", "one", "two"),
        node("Div", "room", "pixels", "pixels per row"),
        node("Max", "limit", "room", "length"),
        node("Min", "rows", "wanted", "limit"),
        node("Concat", "behind", "before", "rows", axis=0),
        table.padded.reading(scores, _PREFIX + "behind"),
        table.best.reading(table.best.inputs[0], _PREFIX + "rows"),
    ]
    return constants, nodes


def _in_order(parts: Sequence[_Part]) -> list[bytes | memoryview] | None:
    """Nodes after what they read, else as they were; None if that cannot be."""
    due = {name for part in parts for name in part.node.outputs if name}
    done: list[bytes | memoryview] = []
    waiting = list(parts)
    while waiting:
        later = []
        for part in waiting:
            if due.isdisjoint(part.node.inputs):
                due.difference_update(part.node.outputs)
                done.append(part.field)
            else:
                later.append(part)
        if len(later) == len(waiting):
            return None
        waiting = later
    return done


def _inside(
    message: bytes | memoryview,
    path: Sequence[int],
    change: Callable[[bytes | memoryview], bytes],
) -> bytes:
    """A message with the one inside it changed that a path of fields leads to."""
    if not path:
        return change(message)
    number, *rest = path
    return b"".join(
        encode_field(number, _inside(part.value, rest, change))
        if part.number == number
        else part.whole
        for part in fields(message)
    )


def _open(shape: bytes | memoryview) -> bytes:
    """A shape whose second dimension is any number."""
    parts: list[bytes | memoryview] = [part.whole for part in fields(shape)]
    name = encode_field(_NAME_OF_DIMENSION, b"rows")
    if len(parts) > 1:
        parts[1] = encode_field(_DIMENSION, name)
    return b"".join(parts)
