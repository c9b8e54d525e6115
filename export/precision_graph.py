"""What number types ask of a graph: its convolutions, their order, their ranges.

Design notes: knows ONNX messages, neither int8 nor fp16. Works by structure, not by
names of layers, so that any network between frames and heads will do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blinkloop.export.onnx_runs import OnnxRun
from blinkloop.export.verify_frames import Feed
from blinkloop.export.weights import WEIGHT_PREFIX
from blinkloop.extras import require

__all__ = [
    "Anatomy",
    "Ranges",
    "anatomy",
    "drop_unused",
    "graph_sha256",
    "short_name",
    "value_ranges",
]

Ranges = Mapping[str, tuple[float, float]]
"""Value of the graph -> smallest and largest number seen."""

_LAST_SHARED = 2


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Convolutions of a graph by their place; nodes in order of the graph.

    Parameters
    ----------
    convolutions
        All of them.
    first
        Those that see frames and no other convolution.
    last
        Those that no other convolution sees: the outputs of the heads.
    shared
        The last two that all heads see.
    before, after
        Index of each node of the graph -> indices of the convolutions that it sees,
        and whether one of `last` sees it.
    """

    convolutions: tuple[Any, ...]
    first: tuple[Any, ...]
    last: tuple[Any, ...]
    shared: tuple[Any, ...]
    before: tuple[frozenset[int], ...]
    after: tuple[bool, ...]


def anatomy(graph: Any) -> Anatomy:
    """Where the convolutions of a graph are (`onnx.GraphProto`, in order)."""
    sees: dict[str, frozenset[int]] = {}
    before: list[frozenset[int]] = []
    found: list[int] = []
    for index, node in enumerate(graph.node):
        behind = frozenset().union(
            *(sees.get(name, frozenset()) for name in node.input)
        )
        before.append(behind)
        if node.op_type == "Conv":
            found.append(index)
            behind |= {index}
        for name in node.output:
            sees[name] = behind
    seen = frozenset().union(*(before[index] for index in found))
    last = [index for index in found if index not in seen]
    common = frozenset.intersection(*(before[index] for index in last))
    shared = sorted(common)[-_LAST_SHARED:]
    first = [index for index in found if not before[index]]

    wanted = {name for index in last for name in graph.node[index].input}
    after = [index in last for index in range(len(graph.node))]
    for index in reversed(range(len(graph.node))):
        node = graph.node[index]
        if wanted & set(node.output):
            after[index] = True
            wanted |= set(node.input)

    def nodes(indices: Iterable[int]) -> tuple[Any, ...]:
        return tuple(graph.node[index] for index in indices)

    return Anatomy(
        nodes(found),
        nodes(first),
        nodes(last),
        nodes(shared),
        tuple(before),
        tuple(after),
    )


def short_name(convolution: Any) -> str:
    """Name of a convolution for people, e.g. `context.out`."""
    name: str = convolution.input[1]
    return name.removeprefix(WEIGHT_PREFIX).removesuffix(".weight")


def drop_unused(graph: Any) -> None:
    """Take out nodes and weights of an `onnx.GraphProto` that nobody reads any more."""
    while True:
        read = {name for node in graph.node for name in node.input}
        read |= {port.name for port in graph.output}
        unused = [node for node in graph.node if not read & set(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)


def value_ranges(model: Any, names: Sequence[str], feeds: Sequence[Feed]) -> Ranges:
    """Smallest and largest number of values inside a graph over some inputs."""
    run = OnnxRun(model, names)
    ranges: dict[str, tuple[float, float]] = {}
    for feed in feeds:
        for name, value in run.values(names, feed):
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (
                min(low, float(value.min())),
                max(high, float(value.max())),
            )
    return ranges


def graph_sha256(model: Any) -> str:
    """Hash of operators and numbers of a graph, whatever wrote the file around them."""
    onnx = require("onnx", "Reading the graph of a model file", "export")
    digest = hashlib.sha256()
    for node in model.graph.node:
        named = sorted((a.name, a.SerializeToString()) for a in node.attribute)
        words = (node.op_type, node.domain, list(node.input), list(node.output), named)
        digest.update(repr(words).encode())
    for tensor in sorted(model.graph.initializer, key=lambda tensor: str(tensor.name)):
        array = onnx.numpy_helper.to_array(tensor)
        digest.update(f"{tensor.name}{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
