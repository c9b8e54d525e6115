"""A streaming graph whose convolutions compute in int8.

Static quantization by ONNX Runtime's own tool (onnxruntime.quantization): values are
8 bits with a scale for each, weights with one for each output channel. What decides the
result is chosen here, by measurement (docs/precision.md):

* The first convolution, the outputs of the heads and the last two convolutions that all
  heads share stay in float: they cost little time, and most of the accuracy lost.
* Before an ELU nothing below -4 is told apart: exp(-4) is less than a step of what
  follows, and the steps saved go to where ELU is a line.
* Weights have 7 bits. CPUs without VNNI add two products of 8 and 8 bits in 16 bits,
  where they would saturate and the answer would depend on the CPU.
* The biases of the heads are set so that p, weighted emitters and background agree in
  the mean with the fp32 network: rounding shifts what comes before them.

Design notes: knows nothing of cards but the layout of the heads; who measures what was
lost is `verify_loss`.

Legend: N frames, C channels, h x w feature grid, s stem stride.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.export.onnx_runs import OnnxRun
from blinkloop.export.precision_graph import (
    Anatomy,
    Ranges,
    anatomy,
    short_name,
    value_ranges,
)
from blinkloop.export.verify_frames import Feed
from blinkloop.extras import require

__all__ = ["to_int8"]

_ELU_FLOOR = -4.0
_LEVELS = 255
_SMALLEST_SCALE = 1e-6
_P_WEIGHT = "head_p."
_NEWTON_STEPS = 5
_LARGEST_LOGIT = 30.0
_QUANTIZED = ("Conv", "Relu", "Resize", "Concat")


def to_int8(
    model: Any, feeds: Sequence[Feed], *, logit_clamp: float
) -> tuple[Any, tuple[str, ...]]:
    """Quantize a streaming graph.

    Parameters
    ----------
    model
        `onnx.ModelProto` in fp32; it is not changed.
    feeds
        Inputs to choose the ranges on.
    logit_clamp
        Of the card's architecture.

    Returns
    -------
    tuple
        The quantized `onnx.ModelProto`, and the convolutions that stayed in float.
    """
    places = anatomy(model.graph)
    floats = (*places.first, *places.shared, *places.last)
    kept = {node.name for node in floats}
    whole = [node for node in places.convolutions if node.name not in kept]
    others = _between(model.graph, whole)
    names = {name for node in (*whole, *others) for name in node.output}
    names |= {node.input[0] for node in whole}
    ranges = value_ranges(model, sorted(names), feeds)
    overrides = _overrides(model.graph, sorted(names), ranges)
    quantized = _quantize(
        model, feeds[0], [node.name for node in (*whole, *others)], overrides
    )
    _correct_heads(model, quantized, places, feeds, logit_clamp)
    return quantized, tuple(short_name(node) for node in floats)


def _between(graph: Any, whole: Sequence[Any]) -> list[Any]:
    """What else moves 8 bits: skip connections and what is fused with a convolution."""
    made = {name for node in whole for name in node.output}
    ups: set[str] = set()
    others: list[Any] = []
    for node in graph.node:
        if node.op_type == "Resize" and node.input[0] in made:
            others.append(node)
            ups.add(node.output[0])
        elif node.op_type == "Relu":
            if node.input[0] in made:
                others.append(node)
        elif node.op_type == "Concat" and ups & set(node.input):
            others.append(node)
    return others


def _overrides(
    graph: Any, names: Sequence[str], ranges: Ranges
) -> dict[str, list[dict[str, Any]]]:
    """Value -> its scale and zero point, as ONNX Runtime's tool takes them."""
    quantization = require("onnxruntime.quantization", "Quantizing a model", "cpu")
    users = {name: node.op_type for node in graph.node for name in node.input}
    makers = {name: node for node in graph.node for name in node.output}
    result = {}
    for name in names:
        node = makers.get(name)
        # Up-sampling copies: its own range would only round once more.
        origin = (
            node.input[0] if node is not None and node.op_type == "Resize" else name
        )
        low, high = ranges.get(origin, ranges[name])
        if users.get(name) == "Elu":
            low = max(low, _ELU_FLOOR)
        elif users.get(name) == "Relu":
            low = 0.0
        low, high = min(low, 0.0), max(high, 0.0)  # zero is exact: padding is zero
        scale = max((high - low) / _LEVELS, _SMALLEST_SCALE)
        result[name] = [
            {
                "quant_type": quantization.QuantType.QUInt8,
                "scale": np.array(scale, np.float32),
                "zero_point": np.array(round(-low / scale), np.uint8),
            }
        ]
    return result


def _quantize(
    model: Any, feed: Feed, nodes: list[str], overrides: dict[str, list[dict[str, Any]]]
) -> Any:
    onnx = require("onnx", "Quantizing a model", "export")
    tool = require("onnxruntime.quantization", "Quantizing a model", "cpu")

    class OneFeed(tool.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """The tool looks for ranges of its own, though all of them are given."""

        def __init__(self) -> None:
            self._left = iter([feed])

        def get_next(self) -> Any:
            return next(self._left, None)

    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        file = Path(folder) / "int8.onnx"
        tool.quantize_static(
            plain,
            file,
            OneFeed(),
            quant_format=tool.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=True,
            activation_type=tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            extra_options={"TensorQuantOverrides": overrides, "WeightSymmetric": True},
        )
        quantized = onnx.load(file)
    quantized.producer_name = model.producer_name
    quantized.producer_version = model.producer_version
    return quantized


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tool's advice to itself: it speaks through the root logger."""
    root = logging.getLogger()
    nobody, level = logging.NullHandler(), root.level
    root.addHandler(nobody)  # without one, `logging.warning` would install its own
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(nobody)


def _correct_heads(
    model: Any,
    quantized: Any,
    places: Anatomy,
    feeds: Sequence[Feed],
    logit_clamp: float,
) -> None:
    """Shift the heads' biases until their means agree with the fp32 network's."""
    onnx = require("onnx", "Quantizing a model", "export")
    heads = {node.input[2]: node.output[0] for node in places.last}
    values = sorted(heads.values())
    before = _joined(OnnxRun(model, values), values, feeds)
    after = _joined(OnnxRun(quantized, values), values, feeds)
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    (p_value,) = [heads[bias] for bias in heads if _P_WEIGHT in bias]
    p = _sigmoid(before[p_value], logit_clamp)
    for bias, value in heads.items():
        if value == p_value:
            shift = _shift_of_p(p, after[value], logit_clamp)
        else:
            # A head of n channels has n * s * s here; the s * s are the pixels of p.
            weight = np.tile(p, (1, after[value].shape[1] // p.shape[1], 1, 1))
            difference = weight * (before[value] - after[value])
            shift = difference.sum((0, 2, 3)) / weight.sum((0, 2, 3))
        old = onnx.numpy_helper.to_array(tensors[bias])
        new = (old + shift).astype(np.float32)
        tensors[bias].CopyFrom(onnx.numpy_helper.from_array(new, bias))


def _joined(
    run: OnnxRun, values: Sequence[str], feeds: Sequence[Feed]
) -> dict[str, npt.NDArray[np.float64]]:
    """Value -> (N, C, h, w) over all feeds, without the meaningless first rows."""
    parts: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in values}
    for feed in feeds:
        for name, value in run.values(values, feed):
            parts[name].append(value[1:].astype(np.float64))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _sigmoid(logit: npt.NDArray[np.float64], clamp: float) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logit, -clamp, clamp)))


def _shift_of_p(
    p: npt.NDArray[np.float64], logit: npt.NDArray[np.float64], clamp: float
) -> npt.NDArray[np.float64]:
    """(C,) shift of the logits that gives each channel the sum of p (Newton)."""
    shift = np.zeros(p.shape[1])
    for _ in range(_NEWTON_STEPS):
        now = _sigmoid(logit + shift[:, None, None], clamp)
        slope = (now * (1 - now)).sum((0, 2, 3))
        step = (p - now).sum((0, 2, 3)) / np.maximum(slope, np.finfo(float).tiny)
        shift = np.clip(shift + step, -_LARGEST_LOGIT, _LARGEST_LOGIT)
    return shift
