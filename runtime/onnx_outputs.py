"""Take an output, and all that is computed for it alone, out of an ONNX message.

ONNX Runtime computes every node of a graph, fetched or not. The maps of a streaming
graph are ten numbers a pixel of which a run needs one and a table, and what a run does
not need must not cost time or memory.

Design notes: knows nothing of our graphs. What cannot be read is left as it is: the
runtime that loads it says what is wrong.
"""

from __future__ import annotations

from blinkloop.runtime.onnx_message import (
    GRAPH_OUTPUT,
    VALUE_NAME,
    fields,
    first_text,
    with_graph,
    without_unread,
)

__all__ = ["without_output"]


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
    kept = [
        part
        for part in parts
        if part.number != GRAPH_OUTPUT or first_text(part.value, VALUE_NAME) != name
    ]
    return None if len(kept) == len(parts) else without_unread(kept)
