"""From a network to the ONNX message of its streaming graph.

Frames, height and width stay dynamic; initializers keep the names of the state dict;
nothing of the machine it was made on (paths, stack traces) stays inside.

PyTorch's exporter makes one initializer of weights that are equal (as two biases of
zeros are), under one of their names. So a stand-in is exported whose weights all
differ, and the weights are put into the graph by name.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from blinkloop.export.streaming import INPUT_NAMES, OUTPUT_NAMES, StreamingNetwork
from blinkloop.export.weights import WEIGHT_PREFIX
from blinkloop.extras import require
from blinkloop.schema import CARD_KEY, DETECTION_COLUMNS, ModelCard
from blinkloop.training.network import TwoStageNetwork

__all__ = ["OPSET", "build_graph", "graph_problems", "port_shapes"]

OPSET = 18
"""Version of the ONNX operators; every ONNX Runtime from 1.14 on knows it."""

_EXPORT_FRAMES = 3
_EXPORT_BLOCKS = (2, 3)


def port_shapes(card: ModelCard) -> dict[str, tuple[str | int, ...]]:
    """Shapes of all inputs and outputs: numbers where fixed, names where dynamic."""
    channels = card.architecture.kept_channels
    features = (2, channels, "feature_height", "feature_width")
    rows = (card.detection.max_detections, len(DETECTION_COLUMNS))
    return {
        "frames": ("frame_count", "height", "width"),
        "features_in": features,
        "segment_start": (1,),
        # Names of their own: these are 1, or the height and width.
        "offset_adu": ("offset_height", "offset_width"),
        "photons_per_adu": ("gain_height", "gain_width"),
        "threshold": (1,),
        "detections": ("frame_count", *rows),
        "counts": ("frame_count",),
        "count_mean": ("frame_count",),
        "count_variance": ("frame_count",),
        "block_mean": ("frame_count", "block_rows", "block_columns"),
        "features_out": features,
        "maps": ("frame_count", 10, "height", "width"),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes to itself: what matters is checked afterwards."""
    # `torch.__trace` has a level of its own and formats every shape it sees.
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def build_graph(
    network: TwoStageNetwork, card: ModelCard, *, opset: int = OPSET
) -> Any:
    """The streaming graph with weights and card inside.

    Parameters
    ----------
    network
        Trained network; it is put into evaluation mode.
    card
        Its card.
    opset
        Version of the ONNX operators.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    MissingExtraError
        onnx or onnxscript are not installed.
    """
    require("onnx", "Exporting a network", "export")
    require("onnxscript", "Exporting a network", "export")
    architecture = card.architecture
    # Odd sizes, so that no size is taken for a multiple of the network's stride.
    height, width = (n * architecture.size_multiple + 1 for n in _EXPORT_BLOCKS)
    kept = (2, architecture.kept_channels, *architecture.feature_size(height, width))
    network.eval()
    module = StreamingNetwork(_stand_in(network), card.scaling, card.detection).cpu()
    module.eval()
    # Camera maps of 1 x 1, whose sizes appear nowhere in the graph: broadcasting then
    # takes full maps as well, which torch.export cannot say of one dimension.
    arguments = (
        torch.full((_EXPORT_FRAMES, height, width), 100.0),
        torch.zeros(kept),
        torch.ones(1),
        torch.zeros(1, 1),
        torch.ones(1, 1),
        torch.full((1,), card.detection.threshold),
    )
    free = torch.export.Dim.DYNAMIC
    dynamic: dict[str, Any] = dict.fromkeys(INPUT_NAMES)
    dynamic["frames"] = {0: free, 1: free, 2: free}
    # The size of the kept features is whole at every level of the network.
    step = architecture.grid_multiple
    blocks = (torch.export.Dim("block_rows"), torch.export.Dim("block_columns"))
    dynamic["features_in"] = {2: step * blocks[0], 3: step * blocks[1]}
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=list(INPUT_NAMES),
            output_names=list(OUTPUT_NAMES),
            opset_version=opset,
            verbose=False,
        )
    if program is None:  # only for torch's type: without a path there is a program
        raise RuntimeError("torch.onnx.export returned nothing")
    model = program.model_proto
    _put_weights(model, network)
    _tidy(model, card)
    return model


def _stand_in(network: TwoStageNetwork) -> TwoStageNetwork:
    """A network of this architecture with weights of which no two are equal."""
    double = copy.deepcopy(network)
    with torch.no_grad():
        for number, value in enumerate(double.state_dict().values(), start=2):
            # From `number` on, below the next one: no zeros and ones, nor constants.
            rising = torch.arange(value.numel()) / value.numel()
            value.copy_((number + rising).reshape(value.shape))
    return double


def _put_weights(model: Any, network: TwoStageNetwork) -> None:
    """The network's own weights in place of those of the stand-in."""
    onnx = require("onnx", "Exporting a network", "export")
    weights = network.state_dict()
    for tensor in model.graph.initializer:
        name = tensor.name.removeprefix(WEIGHT_PREFIX)
        if tensor.name.startswith(WEIGHT_PREFIX) and name in weights:
            value = weights[name].detach().cpu().float().numpy()
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))


def _tidy(model: Any, card: ModelCard) -> None:
    """Name the dimensions, leave out what tells of this machine, put the card in."""
    graph = model.graph
    shapes = port_shapes(card)
    for port in (*graph.input, *graph.output):
        dimensions = port.type.tensor_type.shape.dim
        for dimension, size in zip(dimensions, shapes[port.name], strict=True):
            if isinstance(size, str):
                dimension.dim_param = size
            else:
                dimension.dim_value = size
    # Shapes in between are those of the 1 x 1 camera maps and of torch's symbols.
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:]
    del model.functions[:]
    model.doc_string = card.description
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, card.to_json()


def graph_problems(model: Any, card: ModelCard, weight_names: set[str]) -> list[str]:
    """All that is wrong with names, types, shapes and weights of a graph.

    Parameters
    ----------
    model
        `onnx.ModelProto`.
    card
        Card the graph should carry.
    weight_names
        Names of the initializers that must be inside.

    Returns
    -------
    One sentence for each; empty when all is as docs/architecture.md says.
    """
    onnx = require("onnx", "Checking a model file", "export")
    problems = []
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's and shape inference's own classes
        problems.append(f"the ONNX checker refuses it ({' '.join(str(error).split())})")
    shapes = port_shapes(card)
    for kind, ports, names in (
        ("inputs", model.graph.input, INPUT_NAMES),
        ("outputs", model.graph.output, OUTPUT_NAMES),
    ):
        found = tuple(port.name for port in ports)
        if found != names:
            problems.append(f"its {kind} are {found}, not {names}")
        for port in ports:
            tensor = port.type.tensor_type
            shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
            if port.name in shapes and shape != shapes[port.name]:
                problems.append(f"{port.name} is {shape}, not {shapes[port.name]}")
            wanted = onnx.TensorProto.INT64 if port.name == "counts" else 1
            if tensor.elem_type != wanted:
                problems.append(f"{port.name} has element type {tensor.elem_type}")
    tensors = list(model.graph.initializer)
    missing = sorted(weight_names - {tensor.name for tensor in tensors})
    if missing:
        problems.append(f"{len(missing)} weights are missing, first {missing[0]!r}")
    outside = [t.name for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        problems.append(f"{len(outside)} weights lie outside of the file")
    return problems
