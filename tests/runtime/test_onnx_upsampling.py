"""Convolutions before up-sampling, against the graph that doubles pixels first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.onnx_upsampling import convolve_before_upsampling

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

SIDE = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [1, 1]}


def one_step(
    fine: int = 3, coarse: int = 2, outputs: int = 4, *, seed: int = 0, **changes: Any
) -> bytes:
    """A graph with one step upwards; `changes` make it another one."""
    rng = np.random.default_rng(seed)
    make = onnx.helper.make_node
    doubled = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
        **changes.get("resize", {}),
    }
    convolution = {**SIDE, "dilations": [1, 1], "group": 1, **changes.get("conv", {})}
    nodes = [
        make("Conv", ["low", "w_half"], ["coarse"], kernel_shape=[1, 1]),
        make("Resize", ["coarse", "", "scales"], ["doubled"], **doubled),
        make("Concat", ["high", "doubled"], ["beside"], axis=1),
        make("Conv", ["beside", "weight", "bias"], ["sum"], **convolution),
        make("Relu", ["sum"], ["out"]),
        *changes.get("nodes", []),
    ]
    tensors = {
        "w_half": rng.normal(size=(coarse, 5, 1, 1)),
        "scales": np.array(changes.get("scales", [1, 1, 2, 2])),
        "weight": rng.normal(size=(outputs, fine + coarse, 3, 3)),
        "bias": rng.normal(size=outputs),
    }
    real = onnx.TensorProto.FLOAT

    def port(name: str) -> Any:
        return onnx.helper.make_tensor_value_info(name, real, [None] * 4)

    graph = onnx.helper.make_graph(
        nodes,
        "one step",
        [port("low"), port("high")],
        [port(name) for name in ("out", *changes.get("also", []))],
        [
            onnx.numpy_helper.from_array(np.asarray(value, np.float32), name)
            for name, value in tensors.items()
        ],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9
    )
    content: bytes = model.SerializeToString()
    return content


def answer(
    content: bytes, low: npt.NDArray[Any], high: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (out,) = session.run(["out"], {"low": low, "high": high})
    return np.asarray(out)


def operators(content: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(content).graph.node]


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_the_same_numbers(
    shape: tuple[int, int, int], channels: tuple[int, int, int], seed: int
) -> None:
    """Every pixel, the edges too: all are at one in images this small."""
    before = one_step(*channels, seed=seed)
    after, changed = convolve_before_upsampling(before)
    assert changed
    count, height, width = shape
    rng = np.random.default_rng(seed)
    low = rng.normal(size=(count, 5, height, width)).astype(np.float32)
    high = rng.normal(size=(count, channels[0], 2 * height, 2 * width))
    high = high.astype(np.float32)
    np.testing.assert_allclose(
        answer(after, low, high), answer(before, low, high), rtol=1e-4, atol=1e-4
    )


def test_nothing_is_doubled_any_more() -> None:
    after, _ = convolve_before_upsampling(one_step())
    assert operators(after) == ["Conv", "Conv", "ConvTranspose", "Add", "Relu"]
    model = onnx.load_from_string(after)
    onnx.checker.check_model(model, full_check=True)
    # Nor is a weight kept that nothing reads.
    read = {name for node in model.graph.node for name in node.input}
    kept = {tensor.name for tensor in model.graph.initializer}
    assert kept - read == {"scales"}
    assert convolve_before_upsampling(after) == (after, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"resize": {"mode": "linear"}},
        {"resize": {"nearest_mode": "ceil"}},
        {"resize": {"coordinate_transformation_mode": "half_pixel"}},
        {"scales": [1, 1, 3, 3]},
        {"conv": {"dilations": [2, 2], "pads": [2, 2, 2, 2]}},
        {"conv": {"strides": [2, 2]}},
        {"also": ["doubled"]},
        {"also": ["beside"]},
    ],
    ids=str,
)
def test_what_looks_different_stays(changes: dict[str, Any]) -> None:
    content = one_step(**changes)
    assert convolve_before_upsampling(content) == (content, False)


def test_a_weight_that_others_read_stays() -> None:
    twice = onnx.helper.make_node("Identity", ["weight"], ["copy"])
    content = one_step(nodes=[twice], also=["copy"])
    assert convolve_before_upsampling(content) == (content, False)


def test_every_step_of_a_network(tiny_models: dict[str, ModelFile]) -> None:
    """Two U-Nets of two levels and two of one."""
    for name, levels in (("full", 4), ("half", 2)):
        content = tiny_models[name].path.read_bytes()
        assert operators(content).count("Resize") == levels
        after, changed = convolve_before_upsampling(content)
        assert changed
        assert operators(after).count("Resize") == 0
        assert operators(after).count("ConvTranspose") == levels
        onnx.checker.check_model(onnx.load_from_string(after), full_check=True)


@given(cut=st.integers(0, 10**9), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_damaged_messages_are_never_an_error(cut: int, byte: int) -> None:
    content = one_step()
    convolve_before_upsampling(content[: cut % len(content)])
    changed = bytearray(content)
    changed[cut % len(content)] = byte
    convolve_before_upsampling(bytes(changed))
