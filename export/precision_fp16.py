"""A streaming graph whose network computes in fp16, for GPUs.

From the first convolution to the outputs of the heads everything is fp16, kept features
in between included; ports, camera units, probabilities, detection and sums stay float.
A convolution whose values come near the largest number of fp16 (65504) stays in float
with all that reads them: infinity minus infinity would be no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from blinkloop.export.precision_graph import Anatomy, anatomy, short_name, value_ranges
from blinkloop.export.verify_frames import Feed
from blinkloop.extras import require

__all__ = ["to_fp16"]

_LARGEST = 65504.0
_HEADROOM = 16.0
"""Brighter frames than those looked at must not overflow either: with 4, emitters at
the bright end of the range of `universal-2d` did."""
_FLOAT, _FLOAT16 = 1, 10


def to_fp16(model: Any, feeds: Sequence[Feed]) -> tuple[Any, tuple[str, ...]]:
    """Convert a streaming graph.

    Parameters
    ----------
    model
        `onnx.ModelProto` in fp32; it is not changed.
    feeds
        Inputs to look for large values on.

    Returns
    -------
    tuple
        The converted `onnx.ModelProto`, and the convolutions that stayed in float.
    """
    onnx = require("onnx", "Converting a model", "export")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    types = _types(onnx, model)
    chosen, floats = _chosen(model, anatomy(model.graph), types, feeds)
    _Rewriting(onnx, copy.graph, types).run(chosen)
    return copy, floats


def _types(onnx: Any, model: Any) -> dict[str, int]:
    """Element type of every value of a graph."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for port in (*graph.input, *graph.output, *graph.value_info):
        types[port.name] = port.type.tensor_type.elem_type
    return types


def _chosen(
    model: Any, places: Anatomy, types: dict[str, int], feeds: Sequence[Feed]
) -> tuple[set[int], tuple[str, ...]]:
    """Indices of the nodes that become fp16; convolutions that stay in float."""
    nodes = model.graph.node
    inside = {
        index
        for index, node in enumerate(nodes)
        if places.after[index] and (places.before[index] or node in places.first)
    }
    # What only cuts the features that are kept: fewer numbers to convert back.
    made = {name for index in inside for name in nodes[index].output}
    inside |= {
        index
        for index, node in enumerate(nodes)
        if node.op_type in ("Slice", "Gather")
        and places.before[index]
        and node.input[0] in made
        and not any(last.output[0] in node.input for last in places.last)
    }
    floats = {n for n, kind in types.items() if kind == _FLOAT}
    values = sorted(
        {n for index in inside for n in (*nodes[index].input, *nodes[index].output)}
        & floats
        - {tensor.name for tensor in model.graph.initializer}
        - {port.name for port in model.graph.input}
    )
    ranges = value_ranges(model, values, feeds)
    large = {n for n, r in ranges.items() if max(-r[0], r[1]) * _HEADROOM > _LARGEST}
    kept = {
        index for index in inside if large & {*nodes[index].input, *nodes[index].output}
    }
    names = tuple(
        short_name(nodes[index])
        for index in sorted(kept)
        if nodes[index].op_type == "Conv"
    )
    return inside - kept, names


class _Rewriting:
    """One graph on its way from fp32 to fp16."""

    def __init__(self, onnx: Any, graph: Any, types: dict[str, int]) -> None:
        self._onnx, self._graph, self._types = onnx, graph, types
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._nodes: list[Any] = []
        self._halves: dict[str, str] = {}
        """Value in float -> its name in fp16, once there is one."""
        self._only_half: set[str] = set()
        """Values that were float and exist in fp16 alone so far."""

    def run(self, chosen: set[int]) -> None:
        """Rewrite all nodes; those chosen compute in fp16."""
        graph = self._graph
        ports = {port.name for port in graph.output}
        for index, node in enumerate(graph.node):
            if index in chosen:
                self._convert(node)
            else:
                for name in node.input:
                    self._float(name)
                self._nodes.append(node)
        for name in sorted(ports & self._only_half):
            self._float(name)
        rewritten = list(self._nodes)
        del graph.node[:]
        graph.node.extend(rewritten)
        read = {name for node in rewritten for name in node.input}
        for tensor in [t for t in graph.initializer if t.name not in read]:
            graph.initializer.remove(tensor)

    def _convert(self, node: Any) -> None:
        copy = self._onnx.NodeProto()
        copy.CopyFrom(node)
        for place, name in enumerate(node.input):
            # The factors of an up-sampling are float32 whatever it works on.
            if self._types.get(name) == _FLOAT and not (
                node.op_type == "Resize" and place
            ):
                copy.input[place] = self._half(name)
        for place, name in enumerate(node.output):
            if self._types.get(name) == _FLOAT:
                copy.output[place] = self._halves[name] = f"{name}_fp16"
                self._only_half.add(name)
        self._nodes.append(copy)

    def _half(self, name: str) -> str:
        """Name of a value in fp16; a cast, or a weight in fp16, where there is none."""
        if name not in self._halves:
            half = self._halves[name] = f"{name}_fp16"
            if name in self._tensors:
                array = self._onnx.numpy_helper.to_array(self._tensors[name])
                # Weights keep their names, as their readers look for them.
                half = self._halves[name] = self._weight(name, array)
            else:
                self._cast(name, half, _FLOAT16)
        return self._halves[name]

    def _weight(self, name: str, array: Any) -> str:
        half = f"{name}_fp16"
        tensor = self._onnx.numpy_helper.from_array(array.astype(np.float16), half)
        self._graph.initializer.append(tensor)
        return half

    def _float(self, name: str) -> None:
        """Make sure that a value exists in float."""
        if name in self._only_half:
            self._only_half.discard(name)
            self._cast(self._halves[name], name, _FLOAT)

    def _cast(self, source: str, target: str, kind: int) -> None:
        make = self._onnx.helper.make_node
        self._nodes.append(make("Cast", [source], [target], f"{target}_cast", to=kind))
