"""Take an output, and all that is computed for it alone, out of an ONNX message.

ONNX Runtime computes every node of a graph, fetched or not. The maps of a streaming
graph are ten numbers a pixel of which a run needs one and a table, and what a run does
not need must not cost time or memory.

Design notes: knows nothing of our graphs. What cannot be read is left as it is: the
runtime that loads it says what is wrong.
"""

from __future__ import annotations

from blinkloop.runtime.onnx_message import (
    GRAPH_NODE,
    GRAPH_OUTPUT,
    fields,
    first_text,
    node_of,
    with_graph,
)

__all__ = ["without_output"]

_VALUE_NAME = 1


def without_output(message: bytes, name: str) -> tuple[bytes, bool]:
    """The message without one output and the nodes that nothing else reads.

    Parameters
    ----------
    message
        A serialized `ModelProto`.
    name
        Of the output.

    Returns
    -------
    tuple
        The new message and whether it had such an output; the message as it is when it
        had not, when a node holds a graph of its own, or when it cannot be read.
    """
    return with_graph(message, lambda graph: _graph_without(graph, name))


def _graph_without(graph: memoryview, name: str) -> bytes | None:
    """The graph's bytes without an output; None when there is nothing to take out."""
    parts = list(fields(graph))
    outputs = {
        first_text(part.value, _VALUE_NAME): part
        for part in parts
        if part.number == GRAPH_OUTPUT
    }
    if name not in outputs:
        return None
    out = {id(outputs[name])}
    needed = set(outputs) - {name}
    # Nodes are in the order of computation, so one pass from the end sees all readers.
    for part in reversed(parts):
        if part.number != GRAPH_NODE:
            continue
        node = node_of(part.value)
        if node.holds_graph:
            return None
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
        else:
            out.add(id(part))
    return b"".join(part.whole for part in parts if id(part) not in out)
