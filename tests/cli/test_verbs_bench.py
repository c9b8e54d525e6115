"""`blinkloop bench`: rows, comparison, choice, and what it refuses."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from verb_helpers import Verb

from blinkloop.cli import _bench_race
from blinkloop.cli._bench_race import Contestant, race, rows_of
from blinkloop.runtime import create_backend, make_camera_maps, read_model
from blinkloop.runtime.benchmarking import backend_notes

pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")
CPU = "onnxruntime-cpu"
QUICK = ("--seconds", "0.02", "--threads", "1", "--size", "13x21")
KEYS = {
    "backend": str,
    "precision": str,
    "height": int,
    "width": int,
    "frames_per_call": int,
    "frames_per_second": float,
    "megapixels_per_second": float,
    "latency_ms": dict,
    "peak_rss_mb": float,
}


@pytest.fixture
def own_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in a folder that may be written."""
    monkeypatch.setenv("BLINKLOOP_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copy(model, tmp_path / "own.onnx"))


def test_rows_have_the_keys_of_the_design(good: Verb, model: Path) -> None:
    words = ("bench", "-m", model, "--backend", CPU, "--no-torch", *QUICK)
    rows = good(*words, "--frames-per-call", "1,3", "--json").json
    assert [row["frames_per_call"] for row in rows] == [1, 3]
    for row in rows:
        assert {key: type(row[key]) for key in KEYS} == KEYS
        assert (row["backend"], row["precision"]) == (CPU, "fp32")
        assert (row["height"], row["width"]) == (13, 21)
        latency = row["latency_ms"]
        assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= latency["max"]
        pixels = row["frames_per_second"] * 13 * 21 / 1e6
        assert row["megapixels_per_second"] == pytest.approx(pixels)
        # A process of its own: this one, with pytest and torch, is far larger.
        assert 20 < row["peak_rss_mb"] < 200
        assert row["times_pytorch_eager"] is None


def test_comparison_with_pytorch(good: Verb, model: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    said = good("bench", "-m", model, "--backend", CPU, *QUICK, "--json")
    rows = {row["backend"]: row for row in said.json}
    assert set(rows) == {CPU, "pytorch-eager"}
    assert rows["pytorch-eager"]["times_pytorch_eager"] == 1
    assert rows[CPU]["times_pytorch_eager"] > 1


def test_choice_is_kept_and_followed(good: Verb, own_model: Path) -> None:
    words = ("bench", "-m", own_model, "--no-torch", "--choose", *QUICK)
    said = good(*words)
    file = read_model(own_model)
    notes = backend_notes(file)
    assert notes.passed[CPU]
    fastest = max(notes.frames_per_second, key=notes.frames_per_second.__getitem__)
    assert f"auto now takes {fastest}" in said.err
    backend = create_backend("auto", file, make_camera_maps(file.card.camera))
    assert backend.name == fastest
    backend.close()
    assert own_model.with_name("own.onnx.backends.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", "64"), "HEIGHTxWIDTH"),
        (("--size", "0x4"), "HEIGHTxWIDTH"),
        (("--frames-per-call", "0"), "above 0"),
        (("--frames-per-call", "1,x"), "above 0"),
        (("--backend", "gpu"), "no backend 'gpu'"),
        pytest.param(
            ("--backend", "openvino:int3"),
            "no variant 'int3'",
            marks=pytest.mark.skipif(
                find_spec("openvino") is None, reason="needs the extra 'openvino'"
            ),
        ),
        (("--backend", CPU, "--precision", "bf16"), "measured in bf16"),
        (("--seconds", "nan"), "nan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_refusals(
    verb: Verb, model: Path, words: tuple[str, ...], message: str
) -> None:
    said = verb("bench", "-m", model, *words)
    assert said.code == 2
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not said.out


def test_a_contestant_that_fails_is_named_and_the_others_run(model: Path) -> None:
    case = {"height": 13, "width": 21, "frames_per_call": 1}
    done = race(["no-such", CPU], model, case, threads=1, seconds=0.02)
    assert "no backend 'no-such'" in done[0].problem
    assert [row["backend"] for row in rows_of(done, case)] == [CPU]


def test_a_contestant_that_dies_leaves_its_last_words(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "dies"
    script.write_text("#!/bin/sh\necho out of memory >&2\n")
    script.chmod(0o755)
    monkeypatch.setattr(_bench_race.sys, "executable", str(script))
    case = {"height": 13, "width": 21, "frames_per_call": 1}
    (one,) = race([CPU], model, case, threads=1, seconds=0.02)
    assert one.problem == "out of memory"


def test_ratio_is_taken_within_rounds() -> None:
    case = {"height": 10, "width": 20, "frames_per_call": 2}
    eager = Contestant("pytorch-eager", "fp32", [[1.0], [10.0], [4.0]])
    ours = Contestant("openvino:bf16", "bf16", [[0.5], [5.0], [1.0, 1.0]], 7.0)
    broken = Contestant(CPU, problem="fell over")
    rows = rows_of([eager, ours, broken], case)
    assert [row["backend"] for row in rows] == ["pytorch-eager", "openvino"]
    assert rows[1]["times_pytorch_eager"] == 2.0
    assert rows[1]["frames_per_second"] == pytest.approx(2 * 4 / 7.5)
