"""Convolve what was up-sampled before it is up-sampled.

On its way up a U-Net doubles the pixels of its coarse features, puts those of the way
down beside them and convolves both, 3 x 3. Of nine neighbours in doubled pixels at most
four differ, so the same sum is a transposed convolution of the coarse features, 4 x 4
with stride 2, whose weights are sums of the nine: four products for each pixel instead
of nine, and nothing is doubled or put side by side:

    conv3(cat(fine, double(coarse))) = conv3(fine) + transposed4(coarse)

with weights (w0, w1, w2) -> (w2, w1 + w2, w0 + w1, w0) along each axis; what lies
beyond the edge is zero in both. Measured in docs/speed.md.

Design notes: finds the pattern by structure in any graph; knows neither cards nor files
nor U-Nets, and leaves a graph that looks different (8-bit weights, say) as it is.

Legend: O output channels, C coarse and F fine ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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

__all__ = ["convolve_before_upsampling"]

_PREFIX = "before_upsampling/"
_TWICE = (1.0, 1.0, 2.0, 2.0)
_TRANSPOSED = {"kernel_shape": (4, 4), "strides": (2, 2), "pads": (1, 1, 1, 1)}
_SAME = {
    "kernel_shape": (3, 3),
    "pads": (1, 1, 1, 1),
    "strides": (1, 1),
    "dilations": (1, 1),
    "group": (1,),
}
_DOUBLED = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "coordinate_transformation_mode": "asymmetric",
}

_Floats = npt.NDArray[np.float32]


def convolve_before_upsampling(message: bytes) -> tuple[bytes, bool]:
    """The message with every such convolution made before the up-sampling.

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


@dataclass(frozen=True, slots=True)
class _Step:
    """A convolution of fine and doubled coarse features.

    Parameters
    ----------
    convolution
        The node.
    fine, coarse
        Names of its two parts; the coarse one before it is doubled.
    weight
        (O, F + C, 3, 3).
    fine_channels
        F.
    """

    convolution: Node
    fine: str
    coarse: str
    weight: _Floats
    fine_channels: int

    def nodes(self, name: str) -> tuple[list[bytes], list[bytes]]:
        """Constants and nodes, as fields of a graph."""
        old, f = self.convolution, self.fine_channels
        parts = {
            "fine": self.weight[:, :f],
            "coarse": _transposed(self.weight[:, f:]),
        }
        constants = [
            initializer(name + part, np.ascontiguousarray(value))
            for part, value in parts.items()
        ]
        fine, coarse = name + "fine sum", name + "coarse sum"
        bias = old.inputs[2]
        nodes = (
            Node(
                "Conv",
                (self.fine, name + "fine", bias),
                (fine,),
                old.attributes,
                rest=old.rest,
            ),
            Node(
                "ConvTranspose", (self.coarse, name + "coarse"), (coarse,), _TRANSPOSED
            ),
            Node("Add", (fine, coarse), old.outputs, {}),
        )
        return constants, [node.field() for node in nodes]


def _changed(message: memoryview) -> bytes | None:
    graph = OnnxGraph(message)
    found = ((node, _step(node, graph)) for node in graph.nodes)
    steps = {id(node): step for node, step in found if step is not None}
    if not steps:
        return None
    gone = {step.convolution.inputs[1] for step in steps.values()}
    first: list[bytes | memoryview] = []
    rest: list[bytes | memoryview] = []
    for part in graph.parts:
        step = steps.get(id(graph.node_at(part)))
        if step is not None:
            constants, made = step.nodes(f"{_PREFIX}{len(first)}/")
            first += constants
            rest += made
        elif graph.tensor_at(part) not in gone:
            rest.append(part.whole)
    return without_unread(list(fields(b"".join([*first, *rest]))))


def _step(node: Node, graph: OnnxGraph) -> _Step | None:
    """What this node is, if it is one."""
    if node.operator != "Conv" or not _has(node, _SAME):
        return None
    if (len(node.inputs), len(node.outputs)) != (3, 1):
        return None
    beside = graph.maker(node.inputs[0], "Concat")
    weight = _floats(node.inputs[1], graph)
    if beside is None or weight is None or graph.readers[node.inputs[1]] != 1:
        return None
    if weight.shape[2:] != (3, 3):  # of a damaged file
        return None
    if beside.attributes.get("axis") != (1,) or len(beside.inputs) != 2:
        return None
    fine, doubled = beside.inputs
    resize = graph.maker(doubled, "Resize")
    if resize is None or not _doubles(resize, graph):
        return None
    coarse = resize.inputs[0]
    channels = _channels(coarse, graph)
    if channels is None or not 0 < channels < weight.shape[1]:
        return None
    return _Step(node, fine, coarse, weight, weight.shape[1] - channels)


def _floats(name: str, graph: OnnxGraph) -> _Floats | None:
    value = graph.tensor(name)
    return value if value is not None and value.dtype == np.float32 else None


def _doubles(node: Node, graph: OnnxGraph) -> bool:
    """Whether a `Resize` makes 2 x 2 pixels of each."""
    if len(node.inputs) != 3 or any(
        node.words.get(name) != value for name, value in _DOUBLED.items()
    ):
        return False
    scales = _floats(node.inputs[2], graph)
    return scales is not None and tuple(scales.tolist()) == _TWICE


def _channels(name: str, graph: OnnxGraph) -> int | None:
    """Channels of a value that a convolution makes."""
    maker = graph.makers.get(name)
    if maker is None or maker.operator != "Conv" or len(maker.inputs) < 2:
        return None
    weight = _floats(maker.inputs[1], graph)
    return None if weight is None or weight.ndim != 4 else weight.shape[0]


def _has(node: Node, attributes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(node.attributes.get(name) == value for name, value in attributes.items())


def _transposed(weight: _Floats) -> _Floats:
    """(O, C, 3, 3) of doubled pixels -> (C, O, 4, 4) of the transposed convolution."""

    def along_last(w: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        first, middle, last = (w[..., n] for n in range(3))
        return np.stack([last, middle + last, first + middle, first], axis=-1)

    wide = along_last(weight.astype(np.float64))
    both = along_last(wide.swapaxes(2, 3)).swapaxes(2, 3)
    return np.asarray(both.swapaxes(0, 1), np.float32)
