"""Backend table, graph contract, and the ONNX Runtime CPU backend."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.backends import backend_table, create_backend
from blinkloop.runtime.backends.contract import (
    MAPS,
    STEP_OUTPUTS,
    Port,
    check_contract,
)
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.protocols import BackendOutput
from blinkloop.runtime.records import Frame
from blinkloop.schema import CARD_KEY

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")
CPU = "onnxruntime-cpu"


@pytest.fixture
def frames_THW(make_movie: Callable[..., list[Frame]]) -> np.ndarray:
    movie = make_movie(list(range(5)))
    return np.stack([frame.pixels for frame in movie]).astype(np.float32)


def backend_for(model: ModelFile, **options: Any) -> Any:
    maps = options.pop("maps", make_camera_maps(model.card.camera))
    return create_backend(CPU, model, maps, threads=1, **options)


def test_table_order_and_reasons() -> None:
    rows = backend_table()
    assert [row.name for row in rows] == [
        "tensorrt",
        "tensorrt-rtx",
        "onnxruntime-cuda",
        "onnxruntime-directml",
        "openvino",
        CPU,
    ]
    for row in rows:
        assert row.available == (row.reason == "")
    assert rows[-1].available


def test_table_imports_nothing_heavy() -> None:
    program = (
        "import sys; from blinkloop.runtime.backends import backend_table; "
        "backend_table(); sys.exit(bool({'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_auto_takes_the_first_available(tiny_models: dict[str, ModelFile]) -> None:
    model = tiny_models["full"]
    backend = create_backend("auto", model, make_camera_maps(model.card.camera))
    available = [row.name for row in backend_table() if row.available]
    assert backend.name == available[0]
    backend.close()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        pytest.param("gpu", {}, "no backend 'gpu'; known: auto, tensorrt", id="name"),
        pytest.param("tensorrt", {}, "cannot be used here", id="not available"),
        pytest.param(CPU, {"threshold": 1.5}, "between 0 and 1, got 1.5", id="high"),
        pytest.param(CPU, {"threshold": float("nan")}, "got nan", id="nan"),
        pytest.param(CPU, {"threads": 0}, "at least 1, got 0", id="threads"),
    ],
)
def test_refused_choices(
    tiny_models: dict[str, ModelFile], name: str, options: Any, message: str
) -> None:
    model = tiny_models["full"]
    with pytest.raises(InputError, match=message):
        create_backend(name, model, make_camera_maps(model.card.camera), **options)


def ports(model: ModelFile) -> tuple[list[Port], list[Port]]:
    session = onnxruntime.InferenceSession(
        str(model.path), providers=["CPUExecutionProvider"]
    )
    inputs = [Port(p.name, p.type, tuple(p.shape)) for p in session.get_inputs()]
    outputs = [Port(p.name, p.type, tuple(p.shape)) for p in session.get_outputs()]
    return inputs, outputs


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        pytest.param("frames", None, "has no input 'frames'", id="input missing"),
        pytest.param("counts", None, "has no output 'counts'", id="output missing"),
        pytest.param("frames", {"type": "tensor(uint16)"}, "uint16", id="type"),
        pytest.param(
            "frames",
            {"shape": ("t", 64, 64)},
            r"shape \(\?, 64, 64\), not \(\?, \?, \?\)",
            id="fixed size",
        ),
        pytest.param(
            "features_in", {"shape": (2, 48, "h", "w")}, r"48.*4", id="features"
        ),
        pytest.param("detections", {"shape": ("t", 2048)}, "2048", id="rank"),
        pytest.param("maps", {"name": "extra"}, "unknown output 'extra'", id="name"),
    ],
)
def test_contract(
    tiny_models: dict[str, ModelFile],
    name: str,
    change: dict[str, Any] | None,
    message: str,
) -> None:
    model = tiny_models["full"]

    def altered(given: list[Port]) -> list[Port]:
        kept = [port for port in given if port.name != name or change is not None]
        return [replace(p, **change) if change and p.name == name else p for p in kept]

    inputs, outputs = ports(model)
    check_contract(model.path, model.card, inputs, outputs)
    with pytest.raises(InputError, match=message):
        check_contract(model.path, model.card, altered(inputs), altered(outputs))


def test_graph_of_something_else(
    tiny_models: dict[str, ModelFile], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    port = [helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1])]
    out = [helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("Abs", ["a"], ["b"])], "g", port, out)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    helper.set_model_props(model, {CARD_KEY: tiny_models["full"].card.to_json()})
    path = tmp_path / "other.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="not a blinkloop streaming graph"):
        backend_for(read_model(path))


def test_damaged_graph_with_a_good_card(
    tiny_models: dict[str, ModelFile], tmp_path: Path
) -> None:
    content = bytearray(tiny_models["full"].path.read_bytes())
    middle = content.index(b"Conv")
    content[middle : middle + 4] = b"Cony"
    path = tmp_path / "damaged.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot load this graph") as caught:
        backend_for(read_model(path))
    assert "\n" not in str(caught.value)


def test_same_numbers_as_a_plain_session(
    tiny_model: ModelFile, frames_THW: np.ndarray
) -> None:
    card = tiny_model.card
    maps = make_camera_maps(card.camera)
    size = card.architecture.feature_size(*frames_THW.shape[1:])
    session = onnxruntime.InferenceSession(
        str(tiny_model.path), providers=["CPUExecutionProvider"]
    )
    features = np.zeros((2, card.architecture.features, *size), np.float32)
    backend = backend_for(tiny_model)
    for start, part in ((True, frames_THW[:3]), (False, frames_THW[3:])):
        given = part.copy()
        output = backend.step(given, segment_start=start)
        np.testing.assert_array_equal(given, part)
        *expected, features = session.run(
            list(STEP_OUTPUTS),
            {
                "frames": part,
                "features_in": features,
                "segment_start": np.array([start], np.float32),
                "offset_adu": maps.offset_adu,
                "photons_per_adu": maps.photons_per_adu,
                "threshold": np.array([card.detection.threshold], np.float32),
            },
        )
        rows = slice(1 if start else 0, None)
        for name, value in zip(STEP_OUTPUTS[:-1], expected, strict=True):
            got = getattr(output, name)
            assert got.dtype == value.dtype
            np.testing.assert_allclose(got[rows], value[rows], rtol=1e-3, atol=1e-3)


def test_outputs_survive_the_next_step(
    tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    backend = backend_for(tiny_models["full"])
    first = backend.step(frames_THW[:2], segment_start=True)
    kept = first.detections.copy()
    for _ in range(3):
        backend.step(frames_THW[2:4] * 1.5, segment_start=False)
    np.testing.assert_array_equal(first.detections, kept)


def test_maps_agree_with_the_sums_and_change_nothing(
    tiny_model: ModelFile, frames_THW: np.ndarray
) -> None:
    backend, other = backend_for(tiny_model), backend_for(tiny_model)
    for one in (backend, other):
        one.step(frames_THW[:2], segment_start=True)
    maps = backend.maps(frames_THW[2:], segment_start=False)
    assert maps.shape == (3, 10, *frames_THW.shape[1:])
    output: BackendOutput = backend.step(frames_THW[2:], segment_start=False)
    undisturbed = other.step(frames_THW[2:], segment_start=False)
    np.testing.assert_array_equal(output.detections, undisturbed.detections)
    np.testing.assert_allclose(maps[:, 0].sum((1, 2)), output.count_mean, rtol=1e-4)
    np.testing.assert_allclose(
        output.block_mean.sum((1, 2)), output.count_mean, rtol=1e-4
    )


def test_threshold(tiny_models: dict[str, ModelFile], frames_THW: np.ndarray) -> None:
    model = tiny_models["full"]
    counts = []
    for threshold in (0.05, None, 0.999):
        output = backend_for(model, threshold=threshold).step(
            frames_THW, segment_start=True
        )
        scores = output.detections[1:, :, 0]
        limit = model.card.detection.threshold if threshold is None else threshold
        assert scores[scores > 0].min() >= limit
        counts.append(int(output.counts[1:].sum()))
    assert counts[0] >= counts[1] > counts[2]


def test_camera_maps_reach_the_graph(
    tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    model = tiny_models["full"]
    constant = make_camera_maps(model.card.camera)
    rng = np.random.default_rng(0)
    fixed = rng.uniform(-30, 30, frames_THW.shape[1:]).astype(np.float32)
    per_pixel = CameraMaps(constant.offset_adu + fixed, constant.photons_per_adu)
    plain = backend_for(model)
    expected = plain.step(frames_THW, segment_start=True)
    plain.set_camera(per_pixel)
    corrected = plain.step(frames_THW + fixed, segment_start=True)
    uncorrected = backend_for(model).step(frames_THW + fixed, segment_start=True)
    np.testing.assert_allclose(
        corrected.count_mean[1:], expected.count_mean[1:], rtol=1e-3
    )
    difference = np.abs(uncorrected.count_mean - expected.count_mean)[1:]
    assert difference.max() > 0.01 * expected.count_mean.max()


def test_misuse(tiny_models: dict[str, ModelFile], frames_THW: np.ndarray) -> None:
    backend = backend_for(tiny_models["full"])
    with pytest.raises(ValueError, match="no segment"):
        backend.step(frames_THW, segment_start=False)
    with pytest.raises(ValueError, match=r"\(T, H, W\)"):
        backend.step(frames_THW[0], segment_start=True)
    with pytest.raises(ValueError, match=r"\(T, H, W\)"):
        backend.step(frames_THW[:0], segment_start=True)
    backend.step(frames_THW, segment_start=True)
    with pytest.raises(ValueError, match="frame size"):
        backend.step(frames_THW[:, :5], segment_start=False)
    backend.close()
    with pytest.raises(ValueError, match="closed"):
        backend.step(frames_THW, segment_start=True)
    backend.close()


def test_a_failing_graph_is_a_device_error(
    tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    backend = backend_for(tiny_models["full"])
    backend.step(frames_THW, segment_start=True)
    wrong = np.zeros((3, 2), np.float32)
    backend.set_camera(CameraMaps(wrong, wrong + 1))
    with pytest.raises(DeviceError, match="failed on 5 frames of 21 x 13 px") as caught:
        backend.step(frames_THW, segment_start=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no segment"):
        backend.step(frames_THW, segment_start=False)


def test_every_port_is_named() -> None:
    assert MAPS not in STEP_OUTPUTS


def test_arithmetic_of_the_program_is_left_alone(tiny_model: ModelFile) -> None:
    """A session must not switch the thread to flushing subnormal numbers."""
    smallest = np.nextafter(np.float64(0), np.float64(1))
    backend = create_backend(
        "onnxruntime-cpu", tiny_model, make_camera_maps(tiny_model.card.camera)
    )
    backend.step(np.full((1, 16, 24), 120, np.float32), segment_start=True)
    np.testing.assert_array_less(0.0, smallest * np.float64(1.0))
    backend.close()
