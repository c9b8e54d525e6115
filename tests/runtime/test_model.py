"""Model files: card, hash, and everything that is no model file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.runtime.model import ModelFile, read_card, read_model
from blinkloop.schema import CARD_KEY, ModelCard

onnx = pytest.importorskip("onnx", reason="making model files needs 'export'")
Save = Callable[[bytes], Path]


def onnx_bytes(metadata: dict[str, str]) -> bytes:
    """A valid ONNX file (one Identity node) with weights-sized ballast and metadata."""
    helper = onnx.helper
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
        for name in ("a", "b")
    ]
    ballast = onnx.numpy_helper.from_array(np.ones(5000, np.float32), "ballast")
    node = helper.make_node("Identity", ["a"], ["b"])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:], [ballast])
    model = helper.make_model(graph)
    helper.set_model_props(model, metadata)
    return bytes(model.SerializeToString())


def changed(model: ModelFile, **changes: Any) -> bytes:
    """An ONNX file with the model's card, some keys changed."""
    document = json.loads(model.card.to_json())
    document.update(changes)
    return onnx_bytes({"other": "entry", CARD_KEY: json.dumps(document)})


def test_card_and_hash(tiny_model: ModelFile) -> None:
    assert tiny_model.card.architecture.features == 4
    content = tiny_model.path.read_bytes()
    assert tiny_model.sha256 == hashlib.sha256(content).hexdigest()
    assert read_card(str(tiny_model.path)) == tiny_model.card


def test_agrees_with_onnxruntime(tiny_model: ModelFile) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        str(tiny_model.path), providers=["CPUExecutionProvider"]
    )
    text = session.get_modelmeta().custom_metadata_map[CARD_KEY]
    assert ModelCard.from_json(text) == tiny_model.card


def test_long_card_with_other_letters(
    tiny_models: dict[str, ModelFile], saved: Save
) -> None:
    description = "5 µm² — Brücke " * 5000
    path = saved(changed(tiny_models["full"], description=description))
    assert read_card(path).description == description


def test_reading_a_card_imports_no_runtime(tiny_models: dict[str, ModelFile]) -> None:
    program = (
        "import sys; from blinkloop.runtime.model import read_card; "
        "read_card(sys.argv[1]); "
        "sys.exit(bool({'onnxruntime', 'onnx', 'torch'} & set(sys.modules)))"
    )
    path = str(tiny_models["full"].path)
    subprocess.run([sys.executable, "-c", program, path], check=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"II*\0" + bytes(range(256)) * 9, "not an ONNX", id="TIFF"),
        pytest.param(b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "not an ONNX", id="HDF5"),
        pytest.param(b"PK\x03\x04" + b"\0" * 999, "not an ONNX", id="zip or .pt"),
        pytest.param(b'{"a": "a text file"}', "not an ONNX|truncated", id="JSON"),
        pytest.param(b"version https://git-lfs\n", "not an ONNX|trunc", id="LFS"),
        pytest.param(b"\xff" * 64, "not an ONNX", id="endless number"),
        pytest.param(b"\x08\x08", "holds no graph", id="no graph"),
        pytest.param(onnx_bytes({}), "not a blinkloop model", id="no metadata"),
        pytest.param(
            onnx_bytes({"author": "somebody"}), "not a blinkloop model", id="no card"
        ),
        pytest.param(
            onnx_bytes({CARD_KEY: "{broken"}), "card is not valid", id="corrupt card"
        ),
        pytest.param(onnx_bytes({CARD_KEY: "[]"}), "card is not valid", id="list"),
        pytest.param(onnx_bytes({CARD_KEY: "{}"}), "card is not valid", id="bare card"),
    ],
)
def test_files_that_are_no_model(saved: Save, content: bytes, message: str) -> None:
    path = saved(content)
    with pytest.raises(InputError, match=message) as caught:
        read_model(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_truncated_files(
    tiny_models: dict[str, ModelFile], saved: Save, share: float
) -> None:
    content = tiny_models["full"].path.read_bytes()
    path = saved(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"truncated"):
        read_model(path)


def test_every_cut_is_a_clear_error(saved: Save) -> None:
    content = onnx_bytes({CARD_KEY: "{}"})
    for length in [*range(40), *range(len(content) - 60, len(content))]:
        with pytest.raises(InputError):
            read_model(saved(content[:length]))


def test_newer_card(tiny_models: dict[str, ModelFile], saved: Save) -> None:
    path = saved(changed(tiny_models["full"], format_version=7, added="later"))
    with pytest.raises(InputError, match=r"format version 7.*update"):
        read_card(path)


def test_card_with_a_wrong_value(
    tiny_models: dict[str, ModelFile], saved: Save
) -> None:
    path = saved(changed(tiny_models["full"], pixel_size_nm=-3))
    with pytest.raises(InputError, match="pixel_size_nm"):
        read_card(path)


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model file"):
        read_model(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match="directory"):
        read_model(tmp_path)
