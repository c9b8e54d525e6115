"""Run an ONNX message in ONNX Runtime and look at any value inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.extras import require

__all__ = ["OnnxRun"]

_THREADS = 1


class OnnxRun:
    """A session on the CPU.

    Parameters
    ----------
    model
        `onnx.ModelProto`; it is not changed.
    values
        Names of values inside the graph that become outputs too.
    as_written
        True: every operator on its own, without any rewriting by ONNX Runtime, so that
        the answer is what the file says and not what an optimizer makes of it.
    """

    def __init__(
        self, model: Any, values: Sequence[str] = (), *, as_written: bool = False
    ) -> None:
        ort = require("onnxruntime", "Running a graph", "cpu")
        onnx = require("onnx", "Running a graph", "export")
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        present = {port.name for port in copy.graph.output}
        for name in values:
            if name not in present:
                copy.graph.output.append(onnx.ValueInfoProto(name=name))
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = _THREADS
        options.log_severity_level = 3
        if as_written:
            level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.graph_optimization_level = level
        self._session = ort.InferenceSession(
            copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def values(
        self, names: Sequence[str], feed: Mapping[str, npt.NDArray[Any]]
    ) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """(name, value) of outputs and of the values asked for."""
        found = self._session.run(list(names), dict(feed))
        yield from zip(names, found, strict=True)

    def value(
        self, name: str, feed: Mapping[str, npt.NDArray[Any]]
    ) -> npt.NDArray[np.float32]:
        """One of them."""
        (found,) = self._session.run([name], dict(feed))
        return np.asarray(found, np.float32)
