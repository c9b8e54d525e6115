"""An output taken out of an ONNX message, against the onnx library and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.onnx_outputs import without_output

onnx = pytest.importorskip("onnx")

FLOAT = onnx.TensorProto.FLOAT


def made(nodes: list[Any], outputs: tuple[str, ...]) -> bytes:
    helper = onnx.helper
    weight = onnx.numpy_helper.from_array(np.full((300,), 2, np.float32), "weight")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("a", FLOAT, [300])],
        [helper.make_tensor_value_info(name, FLOAT, [300]) for name in outputs],
        [weight],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    helper.set_model_props(model, {"key": "value"})
    content: bytes = model.SerializeToString()
    return content


def simple() -> bytes:
    node = onnx.helper.make_node
    return made(
        [
            node("Mul", ["a", "weight"], ["shared"]),
            node("Abs", ["shared"], ["wanted"]),
            node("Neg", ["shared"], ["between"]),
            node("Exp", ["between"], ["other"]),
        ],
        ("wanted", "other"),
    )


def test_only_what_the_output_needs_goes() -> None:
    content, found = without_output(simple(), "other")
    assert found
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Mul", "Abs"]
    assert [port.name for port in model.graph.output] == ["wanted"]
    whole = onnx.load_from_string(simple())
    del whole.graph.output[1:], whole.graph.node[2:]
    assert model == whole  # the weights, the metadata and all else as they were


def test_an_output_that_others_are_made_of() -> None:
    node = onnx.helper.make_node
    nodes = [node("Abs", ["a"], ["first"]), node("Neg", ["first"], ["second"])]
    content, found = without_output(made(nodes, ("first", "second")), "first")
    model = onnx.load_from_string(content)
    assert found
    assert [port.name for port in model.graph.output] == ["second"]
    assert len(model.graph.node) == 2


def test_what_is_left_as_it_is() -> None:
    content = simple()
    assert without_output(content, "nothing") == (content, False)
    assert without_output(b"", "other") == (b"", False)
    inner = onnx.helper.make_graph(
        [onnx.helper.make_node("Abs", ["a"], ["x"])],
        "inner",
        [],
        [onnx.helper.make_tensor_value_info("x", FLOAT, [300])],
    )
    node = onnx.helper.make_node
    nodes = [
        node("If", ["yes"], ["first"], then_branch=inner, else_branch=inner),
        node("Neg", ["a"], ["second"]),
    ]
    content = made(nodes, ("first", "second"))
    assert without_output(content, "second") == (content, False)


@given(cut=st.integers(0, 10_000), byte=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_damaged_messages_are_never_an_error(cut: int, byte: int) -> None:
    content = simple()
    without_output(content[: cut % len(content)], "other")
    changed = bytearray(content)
    changed[cut % len(content)] = byte
    without_output(bytes(changed), "other")


def test_a_model_answers_the_same(tiny_models: dict[str, ModelFile]) -> None:
    ort = pytest.importorskip("onnxruntime")
    for model in tiny_models.values():
        whole = model.path.read_bytes()
        lean, found = without_output(whole, "maps")
        assert found
        assert len(lean) < len(whole)
        architecture = model.card.architecture
        kept = (2, architecture.kept_channels, *architecture.feature_size(21, 35))
        rng = np.random.default_rng(0)
        feed = {
            "frames": rng.poisson(120.0, (3, 21, 35)).astype(np.float32),
            "features_in": rng.normal(size=kept).astype(np.float32),
            "segment_start": np.zeros(1, np.float32),
            "offset_adu": np.full((1, 1), 100, np.float32),
            "photons_per_adu": np.ones((1, 1), np.float32),
            "threshold": np.full(1, 0.3, np.float32),
        }
        sessions = [
            ort.InferenceSession(content, providers=["CPUExecutionProvider"])
            for content in (whole, lean)
        ]
        names = [port.name for port in sessions[1].get_outputs()]
        assert {port.name for port in sessions[0].get_outputs()} - set(names) == {
            "maps"
        }
        before, after = (session.run(names, feed) for session in sessions)
        for one, other in zip(before, after, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
