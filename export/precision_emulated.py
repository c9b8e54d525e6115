"""An fp16 graph as a GPU rounds it, for a CPU that would not.

ONNX Runtime's CPU provider has no fp16 convolutions: it computes them in float and
leaves out the roundings in between, so that it sees nothing of what a GPU would lose.
Here every value that is fp16 in the file is rounded to fp16 after every operator; only
the order of the sums inside one is left open.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blinkloop.extras import require

__all__ = ["with_roundings"]

_FLOAT, _FLOAT16 = 1, 10


def with_roundings(model: Any) -> Any:
    """The same graph in float, every fp16 value rounded; others are returned as is.

    Parameters
    ----------
    model
        `onnx.ModelProto`; it is not changed.

    Returns
    -------
    onnx.ModelProto
    """
    onnx = require("onnx", "Rounding a graph", "export")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    halves = {t.name for t in inferred.initializer if t.data_type == _FLOAT16}
    weights = set(halves)
    for port in inferred.value_info:
        if port.type.tensor_type.elem_type == _FLOAT16:
            halves.add(port.name)
    if not halves:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    del graph.value_info[:]
    for tensor in graph.initializer:
        if tensor.name in weights:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    nodes = [part for node in graph.node for part in _rounded(onnx, node, halves)]
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def _rounded(onnx: Any, node: Any, halves: set[str]) -> list[Any]:
    """A node in float, and the roundings of what it gives."""
    make = onnx.helper.make_node
    if node.op_type == "Cast" and node.input[0] in halves:
        return [make("Identity", list(node.input), list(node.output), node.name)]
    same = onnx.NodeProto()
    same.CopyFrom(node)
    if node.op_type == "Cast" and node.output[0] in halves:
        same = make("Identity", list(node.input), list(node.output), node.name)
    after = []
    for place, name in enumerate(node.output):
        if name in halves:
            raw, half = f"{name}_exact", f"{name}_half"
            same.output[place] = raw
            after.append(make("Cast", [raw], [half], f"{half}_rounding", to=_FLOAT16))
            after.append(make("Cast", [half], [name], f"{name}_back", to=_FLOAT))
    return [same, *after]
