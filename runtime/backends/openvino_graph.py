"""A streaming graph as OpenVINO's CPU plugin computes it with the least copying.

Its convolutions keep the channels of a pixel together ("channels last"), a model file
keeps the pixels of a channel together. So the file's way of putting features of three
frames side by side, and of reading the cells around a detection, made OpenVINO turn
them all round and back, a fifth to a third of the time of a small network. Here both
are written for channels that come last; a graph that looks different stays as it is.

And with sizes that are not known beforehand the plugin turns such features round even
so, and works out every shape again in each call: `fixed` makes a graph of one size.
Measured in docs/speed.md.

Design notes: takes and gives OpenVINO's own models (`openvino.Model`); knows the names
of the ports of docs/architecture.md, but no cards.

Shape legend: T frames, H x W px, h x w feature grid, C features, m cells read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from blinkloop.extras import require

__all__ = ["fixed", "read_channels_last"]

_IN, _OUT = "features_in", "features_out"
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def read_channels_last(graph: Any) -> bool:
    """Rewrite a graph, in place, so that features are read with their channels last.

    Parameters
    ----------
    graph
        An `openvino.Model` of a streaming graph.

    Returns
    -------
    Whether it was done. Its ports `features_in` and `features_out` then are
    (2, h, w, C) in place of (2, C, h, w).
    """
    write = _Writer()
    windows = _windows(graph)
    if windows is None:
        return False
    _write_windows(windows, write)
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "GatherElements":
            _write_cells(node, write)
    _turn_ports(graph)
    return True


def fixed(graph: Any, frames: tuple[int, int, int], features: tuple[int, ...]) -> Any:
    """A copy of a graph for calls of one size.

    Parameters
    ----------
    graph
        An `openvino.Model` of a streaming graph.
    frames
        (T, H, W).
    features
        Shape of the kept features, as the graph's port has them.

    Returns
    -------
    openvino.Model. Camera maps may still be of any size.
    """
    copy = graph.clone()
    copy.reshape({"frames": list(frames), _IN: list(features)})
    return copy


class _Writer:
    """Makes nodes."""

    def __init__(self) -> None:
        self.ops = require("openvino.opset13", "The backend openvino", "openvino")

    def whole(self, *values: int) -> Any:
        """A vector of whole numbers."""
        return self.ops.constant(np.array(values, np.int64))

    def number(self, value: int) -> Any:
        return self.ops.constant(np.int64(value))

    def last(self, value: Any) -> Any:
        """(N, C, h, w) -> (N, h, w, C)."""
        return self.ops.transpose(value, self.whole(*_TO_LAST))

    def first(self, value: Any) -> Any:
        """(N, h, w, C) -> (N, C, h, w)."""
        return self.ops.transpose(value, self.whole(*_TO_FIRST))

    def rows(self, value: Any, rows: Any) -> Any:
        """Some rows of a value."""
        return self.ops.gather(value, rows, self.number(0))

    def shaped(self, value: Any, *sizes: Any) -> Any:
        """Another shape; whole numbers or vectors of sizes, -1 for what is left."""
        parts = [self.whole(n) if isinstance(n, int) else n for n in sizes]
        return self.ops.reshape(value, self.ops.concat(parts, 0), special_zero=False)


@dataclass(frozen=True, slots=True)
class _Windows:
    """What of a graph puts features side by side.

    Parameters
    ----------
    kept
        The parameter `features_in`.
    new
        The output with the features of this call's frames.
    triples
        The `Reshape` to (T, 3C, h, w).
    rows
        The output with the numbers (3T,) of the frames in it.
    keep
        The `Gather` of what is kept.
    """

    kept: Any
    new: Any
    triples: Any
    rows: Any
    keep: Any


def _readers(output: Any) -> list[Any]:
    return [port.get_node() for port in output.get_target_inputs()]


def _windows(graph: Any) -> _Windows | None:
    kept = next((p for p in graph.get_parameters() if _IN in _names(p)), None)
    if kept is None or not kept.get_output_partial_shape(0)[1].is_static:
        return None
    known = [n for n in _readers(kept.output(0)) if n.get_type_name() == "Concat"]
    if len(known) != 1 or known[0].get_input_size() != 2:
        return None
    (known,) = known
    # By name: some versions make a node of the comparison of two.
    first = known.input_value(0).get_node().get_friendly_name()
    if known.get_axis() != 0 or first != kept.get_friendly_name():
        return None
    readers = _readers(known.output(0))
    if len(readers) != 2 or any(n.get_type_name() != "Gather" for n in readers):
        return None
    keep = [node for node in readers if _OUT in _names(node)]
    taken = [node for node in readers if _OUT not in _names(node)]
    if len(keep) != 1 or len(taken) != 1:
        return None
    beyond = _readers(taken[0].output(0))
    if len(beyond) != 1 or beyond[0].get_type_name() != "Reshape":
        return None
    rows = taken[0].input_value(1)
    return _Windows(kept, known.input_value(1), beyond[0], rows, keep[0])


def _names(node: Any) -> set[str]:
    names: set[str] = node.output(0).get_names()
    return names


def _write_windows(found: _Windows, write: _Writer) -> None:
    """Features of three frames side by side, and those to keep.

    In matrices: what has four axes the plugin would turn round once more.
    """
    ops = write.ops
    kept = found.kept.output(0)
    channels = found.kept.get_output_partial_shape(0)[1].get_length()
    grid = write.rows(ops.shape_of(kept, "i64"), write.whole(2, 3))
    length = ops.multiply(
        ops.reduce_prod(grid, write.number(0), keep_dims=True), write.whole(channels)
    )
    known = ops.concat(
        [write.shaped(write.last(value), -1, length) for value in (kept, found.new)], 0
    )
    keep = write.shaped(write.rows(known, found.keep.input_value(1)), 2, grid, channels)
    _replace(found.keep.output(0), write.first(keep))
    rows = write.shaped(found.rows, -1, 3)
    three = []
    for place in range(3):
        frames = ops.gather(rows, write.number(place), write.number(1))
        three.append(write.shaped(write.rows(known, frames), -1, channels))
    triples = write.shaped(ops.concat(three, 1), -1, grid, 3 * channels)
    _replace(found.triples.output(0), write.first(triples))


def _write_cells(node: Any, write: _Writer) -> None:
    """Cells around detections: of `runtime.onnx_heads`, (N, C, h w) -> (N, C, m)."""
    ops = write.ops
    flat, spread = (node.input_value(n).get_node() for n in (0, 1))
    kinds = flat.get_type_name(), spread.get_type_name(), node.get_axis()
    if kinds != ("Reshape", "Broadcast", 2):
        return
    shared, place = flat.input_value(0), spread.input_value(0)
    shape, places = shared.get_partial_shape(), place.get_partial_shape()
    flat_shape = flat.get_output_partial_shape(0)
    if shape.rank != 4 or shape[1].is_dynamic or places.rank != 3 or places[1] != 1:
        return
    if flat_shape.rank != 3 or flat_shape[1] != shape[1]:
        return  # the pixels of a cell are not channels here
    count = write.rows(ops.shape_of(shared, "i64"), write.whole(0))
    cells = write.shaped(write.last(shared), count, -1, shape[1].get_length())
    number = ops.squeeze(place, write.whole(1))
    picked = ops.gather(cells, number, write.number(1), batch_dims=1)
    _replace(node.output(0), ops.transpose(picked, write.whole(0, 2, 1)))


def _replace(old: Any, new: Any) -> None:
    """Let everything that read one output read another, under the same names."""
    names = old.get_names()
    old.set_names(set())
    new.output(0).set_names(names)
    for port in list(old.get_target_inputs()):
        port.replace_source_output(new.output(0))


def _turn_ports(graph: Any) -> None:
    """Kept features come and go with their channels last."""
    openvino = require("openvino", "The backend openvino", "openvino")
    preprocess = require("openvino.preprocess", "The backend openvino", "openvino")
    inside, outside = openvino.Layout("NCHW"), openvino.Layout("NHWC")
    ports = preprocess.PrePostProcessor(graph)
    for port in (ports.input(_IN), ports.output(_OUT)):
        port.model().set_layout(inside)
        port.tensor().set_layout(outside)
    ports.build()
