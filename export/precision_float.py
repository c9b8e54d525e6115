"""An int8 graph in float: the rounded weights, and nothing rounded between the layers.

What `precision_int8` wrote serves CPUs: 8 bits with a zero point between layers, which
engines do not take. Here every weight becomes exactly the float32 number that it stands
for, and the steps between layers go. Of a step one thing stays: where it let nothing
below zero pass (a ReLU that the tool put into it), a ReLU stands again.

Design notes: works by structure on any graph with QuantizeLinear and DequantizeLinear;
knows neither engines nor files. A step's upper end goes, too: it was the largest value
seen in the frames the ranges were chosen on, no part of the network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import CheckFailedError
from blinkloop.export.precision_graph import drop_unused
from blinkloop.extras import require
from blinkloop.schema import ModelCard, Tolerances

__all__ = ["float_card", "to_float"]

_DEFAULT_AXIS = 1
_WHOLE = "_quantized"
"""How ONNX Runtime's tool ends the name of a weight it rounded."""


def to_float(model: Any) -> Any:
    """A quantized graph in float.

    Parameters
    ----------
    model
        `onnx.ModelProto`; it is not changed.

    Returns
    -------
    onnx.ModelProto
        Weights have the names they had before they were rounded.

    Raises
    ------
    CheckFailedError
        A step is of a form that no int8 file of ours has.
    """
    onnx = require("onnx", "Taking the steps out of a graph", "export")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    names: dict[str, str] = {}
    for node in list(graph.node):
        if node.op_type != "DequantizeLinear":
            continue
        if node.input[0] in tensors:
            name = node.input[0].removesuffix(_WHOLE)
            value = onnx.numpy_helper.from_array(_value(node, tensors), name)
            graph.initializer.append(value)
            names[node.output[0]] = name
            graph.node.remove(node)
            continue
        step = makers.get(node.input[0])
        if step is None or step.op_type != "QuantizeLinear":
            raise CheckFailedError(
                f"the graph reads 8 bits in {node.name!r} that it did not make; give "
                f"the fp32 model that it was made from"
            )
        kind = "Relu" if _nothing_below_zero(step, tensors) else "Identity"
        make = onnx.helper.make_node
        node.CopyFrom(make(kind, [step.input[0]], list(node.output), node.name))
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = names.get(name, name)
    drop_unused(graph)
    return copy


def _value(node: Any, tensors: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """What a weight stands for (ONNX, DequantizeLinear), in float32."""
    whole, scale = tensors[node.input[0]], tensors[node.input[1]]
    zero = tensors[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale)
    if scale.ndim:
        axis = next((a.i for a in node.attribute if a.name == "axis"), _DEFAULT_AXIS)
        shape = [1] * whole.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    # Whole numbers of at most 32 bits: their difference is exact in float64.
    steps = (whole.astype(np.float64) - zero).astype(np.float32)
    return np.asarray(steps * scale, np.float32)


def _nothing_below_zero(step: Any, tensors: dict[str, npt.NDArray[Any]]) -> bool:
    """Whether the zero point of a step is the smallest number of its type."""
    if len(step.input) < 3:
        return True  # uint8 with a zero point of 0, when nothing is said
    zero = tensors[step.input[2]]
    return bool((zero == np.iinfo(zero.dtype).min).all())


def float_card(card: ModelCard, sha256: str) -> ModelCard:
    """The card of what `to_float` makes of an int8 file.

    Parameters
    ----------
    card
        Of the int8 file.
    sha256
        Of the int8 file.

    Returns
    -------
    The card of an fp32 model that says where its weights come from. What the int8 file
    was measured to do is not true of it and stays behind.
    """
    if card.precision is None:
        raise ValueError("the card is that of an fp32 model already")
    own = {"record", "weights_sha256"}
    provenance = {k: v for k, v in card.provenance.items() if k not in own}
    provenance["rounded"] = {
        "weights": "int8, by output channel",
        "between_layers": "float",
        "kept_float": list(card.precision.kept_float),
        "int8_model": card.name,
        "int8_sha256": sha256,
        "fp32_sha256": card.precision.source_sha256,
    }
    return card.model_copy(
        update={
            "precision": None,
            "tolerances": Tolerances(),
            "accuracy": {},
            "provenance": provenance,
        }
    )
