"""Every bundled model as an engine: a step of .ci/run of its own (`-m engines`)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason="needs the extra 'rtx'")
pytest.importorskip("onnx", reason="needs the extra 'export'")
pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")

import blinkloop
from blinkloop.engine_file import read_engine
from blinkloop.engine_kinds import engine_kind
from blinkloop.export import convert, verify
from blinkloop.export.engine import build_engine
from blinkloop.export.engine_spec import EngineSpec
from blinkloop.export.model_file import load_model
from blinkloop.export.precision_float import float_card, to_float
from blinkloop.export.verify_frames import condition_beside, loss_movies
from blinkloop.export.verify_loss import broken_limits, measure_loss
from blinkloop.runtime.backends.tensorrt_engine import find_engine
from blinkloop.runtime.model import read_model
from blinkloop.schema import CARD_KEY, LossLimits

FOLDER = Path(blinkloop.__file__).parent / "models"
MODELS = sorted(FOLDER.glob("*.onnx"))
ROUNDED = [file for file in MODELS if read_model(file).card.precision_name == "int8"]
FRAMES = 50


def test_models_are_found() -> None:
    """An empty list would build nothing and pass."""
    assert MODELS
    assert {file.suffix for file in FOLDER.iterdir() if file.is_file()} <= {
        ".onnx",
        ".py",
    }


@pytest.mark.engines
@pytest.mark.parametrize("model", MODELS, ids=lambda file: file.stem)
def test_every_bundled_model_becomes_an_engine(model: Path, tmp_path: Path) -> None:
    copy = tmp_path / model.name
    copy.write_bytes(model.read_bytes())
    out = copy.with_suffix(".rtx")
    header = build_engine(copy, out, use_cache=False)
    found, engine = read_engine(out)
    assert header == found
    assert engine[:4] == b"vtrt"
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    assert header.onnx_sha256 == sha256
    card = load_model(model)[1]
    whole = card.precision_name == "int8"
    assert header.card == (float_card(card, sha256) if whole else card)
    assert header.sizes == EngineSpec().sizes
    assert find_engine(read_model(copy), engine_kind("tensorrt-rtx")) == out


@pytest.mark.engines
@pytest.mark.parametrize("model", ROUNDED, ids=lambda file: file.stem)
def test_in_float_it_is_as_accurate(model: Path, tmp_path: Path) -> None:
    """The graph of the engine against the int8 file, in ONNX Runtime on the CPU."""
    message, card = load_model(model)
    graph = to_float(message)
    (entry,) = [e for e in graph.metadata_props if e.key == CARD_KEY]
    entry.value = float_card(card, read_model(model).sha256).to_json()
    out = tmp_path / model.name
    out.write_bytes(graph.SerializeToString())
    condition = condition_beside(card, [model.parent])
    movies = loss_movies(card, condition, seed=5, frames=FRAMES)
    loss = measure_loss(model, out, movies, condition)
    assert [row.density_per_um2 for row in loss] == [0.2, 1.0, 2.0]
    assert all(row.emitters > 300 for row in loss)
    assert broken_limits(loss, LossLimits()) == []
    # And it is another file: comparing one with itself would tell nothing.
    assert any(row.rmse_lateral_percent != 0 for row in loss)


@pytest.mark.engines
@pytest.mark.parametrize("model", ROUNDED[:1], ids=lambda file: file.stem)
def test_one_of_them_as_an_fp32_file(model: Path, tmp_path: Path) -> None:
    """An ordinary model, compared with PyTorch."""
    out = tmp_path / "float.onnx"
    card = convert(model, out, "fp32")
    assert read_model(out).card == card
    assert card.name == f"{read_model(model).card.name}-fp32"
    rows = verify(out, ["onnxruntime-cpu"])
    assert [row.backend for row in rows] == ["pytorch", "onnxruntime-cpu"]
    assert [row.problem for row in rows] == ["", ""]
