"""`export --precision`: from what, to where, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxscript", reason="needs the extra `export`")

from verb_helpers import Verb

import blinkloop.export
from blinkloop.cli import bench
from blinkloop.cli import export as export_verb
from blinkloop.cli._bundled import bundled_models
from blinkloop.runtime.model import read_card, read_model
from blinkloop.schema import LossLimits, Precision, PrecisionLoss

BUNDLED = "astigmatic-small"


def entry(**changes: Any) -> Precision:
    row = PrecisionLoss(
        density_per_um2=0.2,
        emitters=9,
        jaccard_points=-0.25,
        rmse_lateral_percent=1.5,
        rmse_axial_percent=None,
        rmse_all_percent=(2.0,),
        density_bias_percent=(1.0, 0.25),
        z_score_sd={"x": (1.0, 1.1)},
    )
    values: dict[str, Any] = {
        "name": "int8",
        "source_sha256": "0",
        "graph_sha256": "1",
        "kept_float": ("stem.0",),
        "seed": 0,
        "photons": 3000.0,
        "background_photons": 20.0,
        "loss": (row,),
        "limits": LossLimits(),
    }
    return Precision(**values | changes)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A double of `convert`: what it was asked for; the loss is made up."""
    calls: list[Any] = []

    def convert(source: Path, path: Path, name: str, **options: Any) -> Any:
        calls.append((source, source.is_file(), path, name, options))
        path.write_bytes(source.read_bytes())
        made = None if name == "fp32" else entry(beyond_limits=options["allow_loss"])
        return read_card(source).model_copy(update={"precision": made})

    monkeypatch.setattr(blinkloop.export, "convert", convert)
    return calls


def test_a_bundled_model_in_int8(good: Verb, asked: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    said = good("export", BUNDLED, "--precision", "int8", "-o", out)
    ((source, _, path, name, options),) = asked
    assert (source, path, name) == (bundled_models()[BUNDLED], out, "int8")
    assert options["allow_loss"] is False
    assert (
        "0.2 per um^2: Jaccard -0.25 points, RMSE +1.5 % lateral, density -0.8 points"
        in said.err
    )
    assert "compared with its fp32 model" in said.err
    assert "loses more" not in said.err
    said = good("export", out, "--precision", "int8", "--allow-loss", "-o", out)
    assert "loses more than the limits" in said.err


def test_a_model_file_again_in_fp32(
    good: Verb, asked: list[Any], tmp_path: Path
) -> None:
    said = good("export", BUNDLED, "-o", tmp_path / "again.onnx")
    assert asked[0][3] == "fp32"
    assert "compared with PyTorch" in said.err


def test_a_run_goes_through_a_file_that_does_not_stay(
    good: Verb, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(run: Path, file: Path, *rest: Any) -> Any:
        file.write_bytes(bundled_models()[BUNDLED].read_bytes())
        return read_card(file)

    monkeypatch.setattr(export_verb, "_export", export)
    run, out = tmp_path / "run", tmp_path / "out" / "half.onnx"
    run.mkdir()
    out.parent.mkdir()
    good("export", run, "--precision", "fp16", "--threshold", "0.4", "-o", out)
    ((source, was_there, path, name, options),) = asked
    assert (was_there, path, name) == (True, out, "fp16")
    assert options["psf_folder"] == run
    assert not source.exists()
    assert list(out.parent.iterdir()) == [out]
    asked.clear()
    good("export", run, "-o", out)
    assert asked == []  # fp32 of a run is what `_export` writes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--allow-loss",), "--allow-loss is for fp16 and int8 models"),
        (("--precision", "int8", "--threshold", "0.4"), "is a model file already"),
        (("--precision", "int8", "--engine", "tensorrt-rtx"), "gains nothing there"),
        (("--precision", "int4"), "Invalid value for '--precision'"),
    ],
)
def test_refused(
    verb: Verb, asked: list[Any], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    said = verb("export", BUNDLED, *words, "-o", tmp_path / "x.onnx")
    assert said.code == 2
    assert message in " ".join(said.err.split())
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_an_fp16_model(
    good: Verb, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Path] = []

    def build_engine(model: Path, *rest: Any, **options: Any) -> None:
        built.append(model)
        raise RuntimeError("a double")

    monkeypatch.setattr("blinkloop.export.engine.build_engine", build_engine)
    out = tmp_path / "half.rtx"
    words = ("--precision", "fp16", "--engine", "tensorrt-rtx", "-o", out)
    with pytest.raises(AssertionError):  # of `good`: the double builds nothing
        good("export", BUNDLED, *words)
    assert built == [tmp_path / "half.onnx"]
    assert asked[0][3] == "fp16"


def test_bench_has_no_pytorch_for_fewer_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bundled_models()[BUNDLED]
    assert bench._no_torch(model) == ""
    file = read_model(model)
    card = file.card.model_copy(update={"precision": entry()})
    changed = type(file)(file.path, card, file.sha256)
    monkeypatch.setattr("blinkloop.runtime.read_model", lambda path: changed)
    assert bench._no_torch(model) == "an int8 model holds no weights for it"


def test_the_precisions_offered_are_those_there_are() -> None:
    from blinkloop.cli.export import command
    from blinkloop.schema import PRECISIONS

    (option,) = [one for one in command.params if one.name == "precision"]
    assert tuple(option.type.choices) == tuple(PRECISIONS)
