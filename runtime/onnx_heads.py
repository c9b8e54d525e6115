"""Compute what only detections need at detections only.

Of a streaming graph's four heads one (p) is needed in every pixel. Position and
photons, sigma and background are read where a detection is: a few dozen cells of
thousands. Each head is a 3 x 3 convolution, an activation and a 1 x 1 convolution, so
what it says of a cell depends on the 3 x 3 cells around it and can be computed from
these: the same products, in two small matrix multiplications. On a CPU that saves a
tenth to a fifth of all the work (docs/speed.md). The number of rows is that of the
fullest frame of a call, at most that of the table. It differs from call to call, which
engines and captured CUDA graphs cannot do, so these keep the graph of the file.

Design notes: finds the heads by structure, in any graph with this form of them; knows
neither cards nor files, and leaves a graph that looks different as it is.

Legend: N frames, C channels, h x w feature grid, K rows of the table, m of them in use,
s^2 pixels of a cell, R values of a cell (s^2 for each channel of a head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.onnx_graph import OnnxGraph
from blinkloop.runtime.onnx_message import (
    Node,
    fields,
    initializer,
    with_graph,
    without_unread,
)

__all__ = ["heads_at_detections"]

_COUNTS = "counts"
_PREFIX = "at_detections/"
_STEPS = ("QuantizeLinear", "DequantizeLinear")
_BETWEEN = ("Relu", "Elu", *_STEPS)
"""Operators that treat every value alike, wherever it is."""
_ROWS = 16
"""Rows are computed by so many: OpenVINO prepares anew for every number it meets."""
_INT32 = 6


def heads_at_detections(message: bytes) -> tuple[bytes, bool]:
    """The message with the heads computed at detections, where only they read them.

    Parameters
    ----------
    message
        A serialized `ModelProto`, without its output `maps`, which reads them all.

    Returns
    -------
    tuple
        The new message and whether anything was changed.
    """
    return with_graph(message, _changed)


@dataclass(frozen=True, slots=True)
class _Head:
    """A head that is read at detections only.

    Parameters
    ----------
    shared
        Features that it sees, in float.
    steps
        What rounds them to 8 bits and back, if anything.
    hidden, out
        Its convolutions.
    between
        What lies between them, in order.
    flat
        The `Reshape` to (N, -1, pixels).
    pick
        The `GatherElements` that reads the detections.
    place
        (N, 1, K) what it reads.
    """

    shared: str
    steps: tuple[Node, ...]
    hidden: Node
    between: tuple[Node, ...]
    out: Node
    flat: Node
    pick: Node
    place: str

    @property
    def reads(self) -> tuple[str, str, tuple[Node, ...]]:
        """What heads must have in common to be computed together."""
        return self.shared, self.place, self.steps


def _changed(message: memoryview) -> bytes | None:
    graph = OnnxGraph(message)
    heads = _heads(graph)
    if not heads:
        return None
    gone = {head.pick.outputs[0] for head in heads}
    order = graph.nodes
    first = next(i for i, node in enumerate(order) if gone & set(node.outputs))
    if not any(_COUNTS in node.outputs for node in order[:first]):
        return None
    new = _Nodes(_Weights(graph))
    _compute(heads, new)
    kept: list[bytes | memoryview] = [*new.constants]
    for part in graph.parts:
        node = graph.node_at(part)
        if node is order[first]:
            kept += [made.field() for made in new.nodes]
        if node is None or not gone & set(node.outputs):
            kept.append(part.whole)
    return without_unread(list(fields(b"".join(kept))))


def _heads(graph: OnnxGraph) -> list[_Head]:
    """The heads of a graph that can be computed together."""
    found = []
    for pick in graph.nodes:
        if pick.operator == "GatherElements" and pick.attributes.get("axis") == (2,):
            head = _head(pick, graph)
            if head is not None:
                found.append(head)
    return [head for head in found if head.reads == found[0].reads]


def _head(pick: Node, graph: OnnxGraph) -> _Head | None:
    maker, makers = graph.maker, graph.makers
    flat = maker(pick.inputs[0], "Reshape")
    out = None if flat is None else maker(flat.inputs[0], "Conv")
    spread = makers.get(pick.inputs[1])
    if flat is None or out is None or spread is None or spread.operator != "Expand":
        return None
    shape = makers.get(flat.inputs[1])
    if shape is None or shape.operator != "Concat" or len(shape.inputs) != 3:
        return None
    between: list[Node] = []
    name = out.inputs[0]
    while (step := maker(name, *_BETWEEN)) is not None:
        between.insert(0, step)
        name = step.inputs[0]
    hidden = maker(name, "Conv")
    if hidden is None or not (_convolution(hidden, 3) and _convolution(out, 1)):
        return None
    # Taken before they are rounded, and rounded where they are read: a reader more of
    # the 8 bits would make OpenVINO compute the others differently.
    shared, steps = hidden.inputs[0], list[Node]()
    while (step := makers.get(shared)) is not None and step.operator in _STEPS:
        steps.insert(0, step)
        shared = step.inputs[0]
    return _Head(
        shared, tuple(steps), hidden, tuple(between), out, flat, pick, spread.inputs[0]
    )


def _convolution(node: Node, side: int) -> bool:
    """Whether it is a convolution of this size with a bias that keeps the image's."""
    wanted = {
        "kernel_shape": (side, side),
        "pads": (side // 2,) * 4,
        "strides": (1, 1),
        "dilations": (1, 1),
        "group": (1,),
    }
    stated = node.attributes
    return len(node.inputs) == 3 and all(
        stated.get(name) == value for name, value in wanted.items()
    )


class _Weights:
    """Weights by the names that convolutions read."""

    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph

    def rounded(self, name: str) -> npt.NDArray[np.float32] | None:
        """What weights of 8 bits stand for; None for others.

        Were they left in 8 bits, OpenVINO would compute other layers otherwise, too.
        """
        step = self._graph.makers.get(name)
        if step is None or step.operator != "DequantizeLinear" or len(step.inputs) != 3:
            return None
        whole, scale, zero = map(self._graph.tensor, step.inputs)
        if whole is None or scale is None or zero is None:
            return None
        if scale.size > 1:
            (axis,) = step.attributes.get("axis", (1,))
            shape = [1] * whole.ndim
            shape[axis] = -1
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        # Whole numbers of at most 32 bits: their difference is exact in float64.
        value = (whole.astype(np.float64) - zero) * scale
        return np.asarray(value, np.float32)


class _Nodes:
    """New nodes and constants of a graph."""

    def __init__(self, weights: _Weights) -> None:
        self._weights = weights
        self.nodes: list[Node] = []
        self.constants: list[bytes] = []
        self._known: dict[tuple[Any, ...], str] = {}

    def add(self, operator: str, *inputs: str, name: str = "", **whole: int) -> str:
        """A node; returns the name of its output."""
        output = name or f"{_PREFIX}{len(self.nodes)}"
        attributes = {key: (value,) for key, value in whole.items()}
        self.nodes.append(Node(operator, inputs, (output,), attributes))
        return output

    def again(self, node: Node, value: str) -> str:
        """The same operation on another value."""
        output = f"{_PREFIX}{len(self.nodes)}"
        inputs = (value, *node.inputs[1:])
        again = Node(node.operator, inputs, (output,), node.attributes, rest=node.rest)
        self.nodes.append(again)
        return output

    def weight(self, name: str) -> str:
        """A weight in float."""
        rounded = self._weights.rounded(name)
        return name if rounded is None else self.constant(rounded)

    def whole(self, *values: int) -> str:
        """A vector of whole numbers."""
        return self.constant(np.array(values, np.int64))

    def constant(self, array: npt.NDArray[np.float32 | np.int64]) -> str:
        """A constant; equal ones are one."""
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"{_PREFIX}constant_{len(self._known)}"
            self.constants.append(initializer(self._known[key], array))
        return self._known[key]


@dataclass(frozen=True, slots=True)
class _Size:
    """Names of the sizes of the shared features, (1,) each."""

    channels: str
    height: str
    width: str


def _compute(heads: Sequence[_Head], new: _Nodes) -> None:
    """What the heads say of the detections, under the names it had."""
    shared, place, steps = heads[0].reads
    add, whole = new.add, new.whole
    shape = add("Shape", shared)
    size = _Size(
        *(add("Slice", shape, whole(n), whole(n + 1), whole(0)) for n in (1, 2, 3))
    )
    rows = add("Slice", add("Shape", place), whole(2), whole(3), whole(0))
    most = add("ReduceMax", _COUNTS, keepdims=1)
    blocks = add("Div", add("Add", most, whole(_ROWS)), whole(_ROWS))
    used = add("Min", add("Mul", blocks, whole(_ROWS)), rows)
    # (N, 1, m): a place is (pixel of the cell * h + row) * w + column.
    places = add("Slice", place, whole(0), used, whole(2))
    area = add("Mul", size.height, size.width)
    pixel = add("Div", places, area)
    cell = add("Sub", places, add("Mul", pixel, area))
    patches = _patches(shared, steps, size, cell, used, new)
    pixels = add("Slice", heads[0].flat.inputs[1], whole(2), whole(3), whole(0))
    squared = add("Div", pixels, area)
    zero, one = (new.constant(np.array(n, np.int64)) for n in (0, 1))
    numbers = add("Range", zero, add("Squeeze", squared), one)
    mine = add("Equal", add("Unsqueeze", pixel, whole(2)), _column(numbers, new))
    shape = add("Concat", whole(0, -1), squared, used, axis=0)
    behind = add("Concat", whole(0, 0, 0, 0, 0), add("Sub", rows, used), axis=0)
    for head in heads:
        value = _applied(head.hidden, patches, new)
        for node in head.between:
            value = new.again(node, value)
        cells = add("Reshape", _applied(head.out, value, new), shape)
        nothing = new.constant(np.zeros((), np.float32))
        picked = add("Where", mine, cells, nothing)  # (N, R / s^2, s^2, m)
        picked = add("ReduceSum", picked, whole(2), keepdims=0)
        add("Pad", picked, behind, name=head.pick.outputs[0])


def _patches(
    shared: str, steps: Sequence[Node], size: _Size, cell: str, used: str, new: _Nodes
) -> str:
    """(N, 9 C, m): the 3 x 3 cells around each detection, zeros beyond the edge."""
    add, whole = new.add, new.whole
    around = (n.reshape(9, 1).astype(np.int64) - 1 for n in np.indices((3, 3)))
    down, right = (new.constant(offset) for offset in around)
    row = add("Div", cell, size.width)
    column = add("Sub", cell, add("Mul", row, size.width))
    rows, rows_inside = _within(add("Add", row, down), size.height, new)
    columns, columns_inside = _within(add("Add", column, right), size.width, new)
    one_row = whole(0, 1, -1)
    inside = add("Reshape", add("And", rows_inside, columns_inside), one_row)
    index = add("Add", add("Mul", rows, size.width), columns)
    index = add("Cast", add("Reshape", index, one_row), to=_INT32)
    shape = add("Concat", whole(1), size.channels, whole(1), axis=0)
    flat = add("Reshape", shared, whole(0, 0, -1))
    patches = add("GatherElements", flat, add("Expand", index, shape), axis=2)
    for step in steps:
        patches = new.again(step, patches)
    patches = add("Where", inside, patches, new.constant(np.zeros((), np.float32)))
    nine = add("Mul", size.channels, whole(9))
    return add("Reshape", patches, add("Concat", whole(0), nine, used, axis=0))


def _within(index: str, size: str, new: _Nodes) -> tuple[str, str]:
    """The nearest index inside, and whether it was."""
    add, nothing = new.add, new.whole(0)
    last = add("Sub", size, new.whole(1))
    near = add("Min", add("Max", index, nothing), last)
    return near, add("Equal", near, index)


def _applied(convolution: Node, value: str, new: _Nodes) -> str:
    """A convolution's products and bias where (N, inputs, m) is all that it sees."""
    weight, bias = (new.weight(name) for name in convolution.inputs[1:])
    product = new.add("MatMul", new.add("Reshape", weight, new.whole(0, -1)), value)
    return new.add("Add", product, _column(bias, new))


def _column(value: str, new: _Nodes) -> str:
    return new.add("Reshape", value, new.whole(-1, 1))
