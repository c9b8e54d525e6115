"""A streaming graph as OpenVINO's CPU plugin computes it with the least copying.

Its convolutions keep the channels of a pixel together ("channels last"), a model file
keeps the pixels of a channel together. So the file's way of putting features of three
frames side by side, and of reading the cells around a detection, made OpenVINO turn
them all round and back, a fifth to a third of the time of a small network. Here both
are written for channels that come last; a graph that looks different stays as it is.

And with sizes that are not known beforehand the plugin turns such features round even
so, and works out every shape again in each call: `fixed` makes a graph of one size.

Features that are kept come and go one frame at a time (`BEFORE`, `AFTER`), so that a
camera's frames one by one need no copy of them: `single` gives those of the new frame
alone, and whoever calls it hands the newer of the two before back as the older one.
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

__all__ = ["AFTER", "BEFORE", "fixed", "read_channels_last", "single", "split_kept"]

_IN, _OUT = "features_in", "features_out"
BEFORE = ("features_older", "features_newer")
"""Ports for the kept features of the two frames before a call, (1, ...) each."""
AFTER = ("features_older_out", "features_newer_out")
"""Ports for those to keep; of `single` the second only."""
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


def read_channels_last(graph: Any) -> bool:
    """Rewrite a graph, in place, so that features are read with their channels last.

    Parameters
    ----------
    graph
        An `openvino.Model` of a streaming graph, as it is in the file.

    Returns
    -------
    Whether it was done. Its ports then are those of `split_kept`, (1, h, w, C).
    """
    write = _Writer()
    windows = _windows(graph)
    if windows is None:
        return False
    _write_windows(graph, windows, write)
    _write_all_cells(graph, write)
    return True


def split_kept(graph: Any) -> None:
    """Give a graph, in place, a port for each frame whose features it keeps.

    Parameters
    ----------
    graph
        An `openvino.Model` with the ports of the file, (2, C, h, w), which become
        `BEFORE` and `AFTER`, (1, C, h, w) each.
    """
    write = _Writer()
    kept = next(p for p in graph.get_parameters() if _IN in _names(p))
    shape = kept.get_output_partial_shape(0)
    two = [write.port(name, [1, *list(shape)[1:]]) for name in BEFORE]
    _read_instead(kept, write.ops.concat(two, 0))
    out = _result(graph)
    keep = out.input_value(0)
    rows = [write.rows(keep, write.whole(row)) for row in (0, 1)]
    keep.set_names(keep.get_names() - {_OUT})
    _change_ports(graph, kept, two, out, dict(zip(AFTER, rows, strict=True)))


def fixed(graph: Any, frames: tuple[int, ...], features: tuple[int, ...]) -> Any:
    """A copy of a graph for calls of one size.

    Parameters
    ----------
    graph
        An `openvino.Model` with the ports `BEFORE`.
    frames
        (T, H, W).
    features
        Shape of the kept features of a frame, as the graph's ports have them.

    Returns
    -------
    openvino.Model. Camera maps may still be of any size.
    """
    copy = graph.clone()
    copy.reshape({"frames": list(frames), **{name: list(features) for name in BEFORE}})
    return copy


def single(graph: Any) -> Any:
    """A copy of a graph for calls of one frame that copies no features.

    Parameters
    ----------
    graph
        An `openvino.Model` of a streaming graph, as it is in the file.

    Returns
    -------
    openvino.Model or None
        With the ports `BEFORE` and the second of `AFTER`, (1, h, w, C), for frames of
        any size (`fixed`); None for a graph that looks different. It does not look at
        `segment_start`: the one row of a call that starts a segment means nothing.
    """
    copy = graph.clone()
    windows = _windows(copy)
    if windows is None:
        return None
    write, kept = _Writer(), windows.kept
    two = write.two_before(kept)
    channels = kept.get_output_partial_shape(0)[1].get_length()
    grid = write.rows(write.ops.shape_of(two[0], "i64"), write.whole(1, 2))
    values = [
        write.shaped(value, -1, channels) for value in (*two, write.last(windows.new))
    ]
    triple = write.shaped(write.ops.concat(values, 1), 1, grid, 3 * channels)
    _replace(windows.triples.output(0), write.first(triple))
    new = write.shaped(values[2], 1, grid, channels)
    # Their sizes are still asked for.
    _read_instead(kept, write.first(write.ops.concat(two, 0)))
    _change_ports(copy, kept, two, _result(copy), {AFTER[1]: new})
    _write_all_cells(copy, write)
    return copy


class _Writer:
    """Makes nodes."""

    def __init__(self) -> None:
        self.ops = require("openvino.opset13", "The backend openvino", "openvino")

    def port(self, name: str, shape: Any) -> Any:
        """A parameter."""
        made = self.ops.parameter(shape, np.float32, name=name)
        made.output(0).set_names({name})
        return made

    def two_before(self, kept: Any) -> list[Any]:
        """Parameters for the features of the two frames before, channels last."""
        channels = kept.get_output_partial_shape(0)[1].get_length()
        return [self.port(name, [1, -1, -1, channels]) for name in BEFORE]

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


def _write_windows(graph: Any, found: _Windows, write: _Writer) -> None:
    """Features of three frames side by side, and those to keep.

    In matrices: what has four axes the plugin would turn round once more.
    """
    ops = write.ops
    two = write.two_before(found.kept)
    channels = found.kept.get_output_partial_shape(0)[1].get_length()
    grid = write.rows(ops.shape_of(two[0], "i64"), write.whole(1, 2))
    length = ops.multiply(
        ops.reduce_prod(grid, write.number(0), keep_dims=True), write.whole(channels)
    )
    values = (*two, write.last(found.new))
    known = ops.concat([write.shaped(value, -1, length) for value in values], 0)
    which = found.keep.input_value(1)
    keep = {
        name: write.shaped(
            write.rows(known, write.rows(which, write.whole(row))), 1, grid, channels
        )
        for row, name in enumerate(AFTER)
    }
    rows = write.shaped(found.rows, -1, 3)
    three = []
    for place in range(3):
        frames = ops.gather(rows, write.number(place), write.number(1))
        three.append(write.shaped(write.rows(known, frames), -1, channels))
    triples = write.shaped(ops.concat(three, 1), -1, grid, 3 * channels)
    _replace(found.triples.output(0), write.first(triples))
    _read_instead(found.kept, write.first(ops.concat(two, 0)))
    _change_ports(graph, found.kept, two, _result(graph), keep)


def _write_all_cells(graph: Any, write: _Writer) -> None:
    for node in graph.get_ordered_ops():
        if node.get_type_name() == "GatherElements":
            _write_cells(node, write)


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


def _read_instead(old: Any, new: Any) -> None:
    """Let everything that reads a parameter read this."""
    for port in list(old.output(0).get_target_inputs()):
        port.replace_source_output(new.output(0))


def _result(graph: Any) -> Any:
    """The result `features_out`."""
    return next(r for r in graph.get_results() if _OUT in _read_names(r))


def _read_names(result: Any) -> set[str]:
    names: set[str] = result.input_value(0).get_names()
    return names


def _change_ports(
    graph: Any, kept: Any, two: list[Any], out: Any, results: dict[str, Any]
) -> None:
    """Ports of one frame each in place of those for both."""
    write = _Writer()
    graph.remove_result(out)
    graph.remove_parameter(kept)
    graph.add_parameters(two)
    for name, value in results.items():
        value.output(0).set_names({name})
        graph.add_results([write.ops.result(value.output(0))])
    graph.validate_nodes_and_infer_types()
