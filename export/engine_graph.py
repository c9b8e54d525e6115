"""The streaming graph as engines take it: same answers, no fragile arithmetic.

PyTorch exports the row of a detection, `index // width`, as a division of float32
numbers and `floor`. That is exact only where a division is rounded correctly; GPU code
generators may use an approximate one, and then a detection at the left edge would land
a whole row off. Whole numbers are divided instead. The 8 bits of int8 files are out of
the graph before it comes here (`precision_float`).

Design notes: works on the ONNX message of any float model file, so that files exported
before serve too; knows nothing of TensorRT.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blinkloop.errors import CheckFailedError
from blinkloop.export.precision_graph import drop_unused
from blinkloop.export.streaming import INPUT_NAMES, OUTPUT_NAMES
from blinkloop.extras import require
from blinkloop.schema import ModelCard

__all__ = ["FLAVOUR", "check_same_answers", "engine_graph", "number_types"]

FLAVOUR = 3
"""Version of the rewriting; part of every engine's key."""

_INT64 = 7
_FRAMES, _SEED = 3, 0
_THREADS = 1


def engine_graph(model: Any) -> Any:
    """A copy of the graph for engines.

    Parameters
    ----------
    model
        `onnx.ModelProto` of a streaming graph; it is not changed.

    Returns
    -------
    onnx.ModelProto
    """
    onnx = require("onnx", "Building an engine", "export")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    # The card and the texts are the file's business; the builder needs neither.
    del copy.metadata_props[:]
    graph = copy.graph
    makers = {name: node for node in graph.node for name in node.output}
    for node in list(graph.node):
        if node.op_type == "Floor":
            _divide_whole_numbers(onnx, graph, makers, node)
    drop_unused(graph)
    return copy


def _attribute(node: Any, name: str) -> Any:
    return next((a.i for a in node.attribute if a.name == name), None)


def _divide_whole_numbers(
    onnx: Any, graph: Any, makers: dict[str, Any], floor: Any
) -> None:
    """Cast(a), Cast(b) -> Div -> Floor -> Cast to int64  =>  Div(a, b) in int64.

    In place of Cast(b) there may be a whole number, written as float.
    """
    divide = makers.get(floor.input[0])
    if divide is None or divide.op_type != "Div":
        return
    users = [n for n in graph.node if floor.output[0] in n.input]
    casts = [n for n in users if n.op_type == "Cast" and _attribute(n, "to") == _INT64]
    whole = [_whole_number(onnx, graph, makers, name) for name in divide.input]
    if len(casts) != len(users) or None in whole:
        return
    for cast in casts:
        # Neither index nor width is ever negative, where `Div` would not be `floor`.
        new = onnx.helper.make_node("Div", whole, list(cast.output), name=cast.name)
        cast.CopyFrom(new)


def _whole_number(
    onnx: Any, graph: Any, makers: dict[str, Any], name: str
) -> str | None:
    """The int64 value of which `name` is the float; None when there is none."""
    maker = makers.get(name)
    if maker is not None:
        return str(maker.input[0]) if maker.op_type == "Cast" else None
    tensor = next((t for t in graph.initializer if t.name == name), None)
    if tensor is None:
        return None
    value = onnx.numpy_helper.to_array(tensor)
    if not np.all(value == np.floor(value)):
        return None
    whole = f"{name}_int64"
    if all(t.name != whole for t in graph.initializer):
        made = onnx.numpy_helper.from_array(value.astype(np.int64), whole)
        graph.initializer.append(made)
    return whole


def number_types(model: Any) -> tuple[str, ...]:
    """Number types of the weights inside a model, e.g. ("float16", "float32")."""
    onnx = require("onnx", "Building an engine", "export")
    names = {
        onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        for tensor in model.graph.initializer
        # Shapes and axes are whole numbers in every graph and no choice of anyone.
        if tensor.data_type not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    }
    renamed = {"float": "float32", "double": "float64"}
    return tuple(sorted(renamed.get(name, name) for name in names))


def check_same_answers(model: Any, rewritten: Any, card: ModelCard) -> None:
    """Run both graphs in ONNX Runtime and compare every output, bit by bit.

    Two frame sizes, odd and not square, one of them smaller than the rows of the
    table; a start of a segment and its continuation.

    Raises
    ------
    CheckFailedError
        An output differs.
    """
    sessions = [_session(graph) for graph in (model, rewritten)]
    rng = np.random.default_rng(_SEED)
    for height, width in ((37, 61), (5, 9)):
        grid = card.architecture.feature_size(height, width)
        kept = np.zeros((2, card.architecture.kept_channels, *grid), np.float32)
        for start in (True, False):
            # Bright enough for many detections.
            shape = (_FRAMES, height, width)
            bright = rng.random(shape) < 0.05
            photons = card.scaling.input_offset_photons + rng.poisson(10, shape)
            photons = photons + bright * 0.3 * card.scaling.photons_max
            values = (
                photons.astype(np.float32),
                kept,
                np.array([start], np.float32),
                np.zeros((1, 1), np.float32),
                np.ones((1, 1), np.float32),
                np.array([card.detection.threshold], np.float32),
            )
            feed = dict(zip(INPUT_NAMES, values, strict=True))
            ours, theirs = (s.run(list(OUTPUT_NAMES), feed) for s in sessions)
            for name, one, other in zip(OUTPUT_NAMES, ours, theirs, strict=True):
                if not np.array_equal(one, other, equal_nan=True):
                    raise CheckFailedError(
                        f"{card.name}: the graph rewritten for engines gives another "
                        f"{name!r} for frames of {height} x {width} px; please report "
                        f"this model file"
                    )
            kept = ours[OUTPUT_NAMES.index("features_out")]


def _session(model: Any) -> Any:
    ort = require("onnxruntime", "Checking an engine's graph", "cpu")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = _THREADS
    options.log_severity_level = 3
    # Compared are the graphs, not what the optimizer makes of each.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
