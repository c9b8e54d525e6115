"""A graph of an ONNX message as what changes it needs to see it.

Design notes: reads, changes nothing; knows nothing of our graphs.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy.typing as npt

from blinkloop.runtime.onnx_message import (
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    VALUE_NAME,
    Field,
    Node,
    fields,
    first_text,
    initializer_name,
    node_of,
    tensor_of,
)

__all__ = ["OnnxGraph"]


class OnnxGraph:
    """Nodes by what they make, how often a value is read, constants by name.

    Parameters
    ----------
    message
        A serialized `GraphProto`.

    Raises
    ------
    EndOfDataError, NotProtobufError, UnicodeDecodeError
        It is damaged.
    """

    def __init__(self, message: memoryview) -> None:
        self.parts: list[Field] = list(fields(message))
        """All fields, in order."""
        self._nodes = {
            id(part): node_of(part.value)
            for part in self.parts
            if part.number == GRAPH_NODE
        }
        self.nodes: list[Node] = list(self._nodes.values())
        """In the order of computation."""
        self.makers = {name: node for node in self.nodes for name in node.outputs}
        """Value -> the node that makes it."""
        self.readers = Counter(name for node in self.nodes for name in node.inputs)
        """Value -> how many inputs of nodes and outputs of the graph read it."""
        self.readers.update(
            first_text(part.value, VALUE_NAME)
            for part in self.parts
            if part.number == GRAPH_OUTPUT
        )
        self._tensors = {
            initializer_name(part.value): part.value
            for part in self.parts
            if part.number == GRAPH_INITIALIZER
        }

    def node_at(self, part: Field) -> Node | None:
        """The node that one of `parts` holds, if it does."""
        return self._nodes.get(id(part))

    def tensor_at(self, part: Field) -> str | None:
        """The name of the constant that one of `parts` holds, if it does."""
        constant = part.number == GRAPH_INITIALIZER
        return initializer_name(part.value) if constant else None

    def maker(self, name: str, *operators: str) -> Node | None:
        """What makes a value, if it is of these operators and read once."""
        node = self.makers.get(name)
        fits = node is not None and node.operator in operators
        return node if fits and self.readers[name] == 1 else None

    def tensor(self, name: str) -> npt.NDArray[Any] | None:
        """A constant; None where there is none of a known type."""
        content = self._tensors.get(name)
        return None if content is None else tensor_of(content)
