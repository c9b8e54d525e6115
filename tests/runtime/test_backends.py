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

from blinkloop.errors import InputError
from blinkloop.runtime.backends import backend_table, create_backend
from blinkloop.runtime.backends.contract import (
    MAPS,
    STEP_OUTPUTS,
    Port,
    check_contract,
)
from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.runtime.model import ModelFile, read_model
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
        "onnxruntime-rtx",
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


def test_every_port_is_named() -> None:
    assert MAPS not in STEP_OUTPUTS
