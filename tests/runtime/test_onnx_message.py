"""ONNX messages read and written without the onnx package, against the package."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from blinkloop.runtime.onnx_message import (
    Node,
    fields,
    initializer,
    initializer_name,
    node_of,
    tensor_of,
)

onnx = pytest.importorskip("onnx")

TYPES = (np.float32, np.uint8, np.int8, np.int32, np.int64)


@given(
    array=st.sampled_from(TYPES).flatmap(
        lambda kind: arrays(kind, array_shapes(min_dims=0, min_side=0, max_side=4))
    )
)
def test_tensors_are_read_in_both_forms(array: Any) -> None:
    raw = onnx.numpy_helper.from_array(array, "weight")
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    plain = onnx.helper.make_tensor("weight", kind, array.shape, array.ravel())
    for tensor in (raw, plain):
        got = tensor_of(tensor.SerializeToString())
        assert got is not None
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
        assert initializer_name(tensor.SerializeToString()) == "weight"


def test_tensors_of_other_types_are_none() -> None:
    for array in (np.ones(3, np.float16), np.ones(3, np.float64), np.ones(2, bool)):
        message = onnx.numpy_helper.from_array(array, "w").SerializeToString()
        assert tensor_of(message) is None
    cut = onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")
    cut.raw_data = cut.raw_data[:-1]
    assert tensor_of(cut.SerializeToString()) is None


@given(
    array=st.sampled_from((np.float32, np.int64)).flatmap(
        lambda kind: arrays(kind, array_shapes(min_dims=0, max_side=4))
    )
)
def test_constants_are_written(array: Any) -> None:
    graph = onnx.GraphProto()
    graph.ParseFromString(initializer("constant", array))
    (tensor,) = graph.initializer
    assert tensor.name == "constant"
    got = onnx.numpy_helper.to_array(tensor)
    assert (got.dtype, got.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(got, array)


def test_nodes_are_written_and_read() -> None:
    node = Node("ReduceMax", ("a", ""), ("b",), {"keepdims": (1,), "axis": (300,)})
    graph = onnx.GraphProto()
    graph.ParseFromString(node.field())
    (made,) = graph.node
    assert (made.op_type, list(made.input), list(made.output)) == (
        "ReduceMax",
        ["a", ""],
        ["b"],
    )
    values = {a.name: onnx.helper.get_attribute_value(a) for a in made.attribute}
    assert values == {"keepdims": 1, "axis": 300}
    again = node_of(made.SerializeToString())
    assert (again.operator, again.inputs, again.outputs) == (
        "ReduceMax",
        ("a", ""),
        ("b",),
    )
    assert dict(again.attributes) == {"keepdims": (1,), "axis": (300,)}


def test_attributes_of_every_type_survive() -> None:
    inner = onnx.helper.make_graph([], "inner", [], [])
    made = onnx.helper.make_node(
        "Any", ["a"], ["b"], domain="ours", ints=[3, 1], f=0.5, s="text", g=inner
    )
    node = node_of(made.SerializeToString())
    assert node.holds_graph
    assert node.attributes["ints"] == (3, 1)
    graph = onnx.GraphProto()
    graph.ParseFromString(node.field())
    made.name = "b"
    assert graph.node[0] == made


def test_fields_keep_their_bytes() -> None:
    message = onnx.helper.make_node("Abs", ["a"], ["b"]).SerializeToString()
    assert b"".join(field.whole for field in fields(message)) == message
