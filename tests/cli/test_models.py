from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from cards import make_card
from click.testing import CliRunner
from onnx import TensorProto, helper

from blinkloop.cli import main, models
from blinkloop.schema import CARD_KEY, Architecture

CARD = make_card(
    name="tiny",
    architecture=Architecture(features=6, depth=1),
    pixel_size_nm=117.0,
    z_range_nm=(-400.0, 500.0),
    training_ranges={"background_photons": (1, 100), "density_per_um2": (0, 2)},
    accuracy={"jaccard": 0.71, "rmse_lateral_nm": float("nan"), "seed": 1},
)


def save(path: Path, metadata: dict[str, str]) -> Path:
    """Write a model file with a card and a graph that only copies its input."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    copied = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [value], [copied]))
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, bundled: dict[str, Path], *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(models, "bundled_models", lambda: bundled)
    result = CliRunner().invoke(main, ["models", *arguments], prog_name="blinkloop")
    return result.exit_code, result.stdout, result.stderr


def test_json_tells_the_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = save(tmp_path / "tiny.onnx", {CARD_KEY: CARD.to_json()})
    code, out, _ = run(monkeypatch, {"tiny": path}, "--json")
    (row,) = json.loads(out)
    assert code == 0
    assert (row["name"], row["file"]) == ("tiny", str(path))
    assert row["architecture"]["features"] == 6
    assert row["pixel_size_nm"] == 117.0
    assert row["z_range_nm"] == [-400.0, 500.0]
    assert row["jaccard"] == 0.71
    assert row["rmse_lateral_nm"] is None
    assert row["rmse_axial_nm"] is None


def test_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = save(tmp_path / "tiny.onnx", {CARD_KEY: CARD.to_json()})
    code, out, err = run(monkeypatch, {"tiny": path})
    assert code == 0
    assert "-400 to 500" in out
    assert err == "next: blinkloop fit MOVIE -m tiny -o locs.hdf5\n"


def test_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, {}, "--json") == (0, "[]\n", "")
    code, out, err = run(monkeypatch, {})
    assert (code, out) == (0, "")
    assert "no model is bundled" in err


@pytest.mark.parametrize(
    "metadata", [{}, {CARD_KEY: "{"}, {CARD_KEY: "{}"}], ids=["none", "cut", "empty"]
)
def test_bad_card_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, metadata: dict[str, str]
) -> None:
    path = save(tmp_path / "tiny.onnx", metadata)
    code, out, err = run(monkeypatch, {"tiny": path}, "--json")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
