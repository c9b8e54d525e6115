"""The scripts behind the numbers on speed, in their dry mode."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from blinkloop.cli._bundled import bundled_models

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_gpu_dry_run(tmp_path):
    tiny = Path(__file__).parents[1] / "golden" / "tiny_full.onnx"
    folder = tmp_path / "bring"
    folder.mkdir()
    # A model and, in the place of its half, itself.
    for name in ("tiny.onnx", "tiny-fp16.onnx"):
        (folder / name).write_bytes(tiny.read_bytes())
    done = run("gpu.py", folder, "--dry", "--json", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert "no speed" in report["device"]
    rows = {row["what"]: row for row in report["rows"]}
    assert {row["model"] for row in report["rows"]} == {"tiny"}
    assert {"onnxruntime-cpu fp32", "onnxruntime-cpu fp16"} <= set(rows)
    assert rows["pytorch-three-frame fp32"]["times_three_frame"] == 1
    # Whatever cannot run is named with its reason, and has no row.
    assert report["not_measured"]
    assert not set(report["not_measured"]) & set(rows)
    assert all(report["not_measured"].values())


def test_gpu_brings_int8_models_in_float(tmp_path, monkeypatch):
    """Neither PyTorch nor a GPU takes them as they are."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    gpu = importlib.import_module("gpu")
    asked = []
    monkeypatch.setattr(gpu, "convert", lambda *words: asked.append(words))
    for name, path in bundled_models().items():
        whole = gpu.read_model(path).card.precision_name == "int8"
        target = tmp_path / f"{name}.onnx"
        gpu.bring(path, target)
        assert target.is_file() != whole
        assert ((path, target, "fp32") in asked) == whole


def test_gpu_needs_a_gpu():
    done = run("gpu.py")
    assert done.returncode == 2
    assert "--prepare" in done.stderr


@pytest.mark.parametrize("script", ["cpu_graphs.py", "heads.py", "streaming.py"])
def test_networks_that_detect_something(script):
    """What is computed at detections must be in the times."""
    pytest.importorskip("openvino")
    done = run(script, "--dry")
    assert done.returncode == 0, done.stderr
    (found,) = set(re.findall(r"([\d.]+) detections", done.stdout))
    assert float(found) >= 2
    assert "times as fast" in done.stdout


def test_memory_of_a_run_of_its_own():
    done = run("memory.py", "--dry", "--backend", "onnxruntime-cpu")
    assert done.returncode == 0, done.stderr
    assert re.search(r"20 frames at 100 frames/s, \d+ localized", done.stdout)
    (peak,) = re.findall(r"peak (\d+) MB", done.stdout)
    assert 50 < int(peak) < 400


def test_live_counts_every_frame():
    pytest.importorskip("pymmcore_plus")
    options = ("--size", "48x64", "--fps", 25, "--seconds", 2, "--json")
    options = (*options, "--backend", "onnxruntime-cpu")
    done = run("live.py", *options)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    found = record["frames_localized"] + record["frames_skipped"]
    assert record["frames_seen"] == found + record["frames_lost"] > 0
    assert record["peak_memory_mb"] > 50
    assert run("live.py", "--size", "nonsense").returncode == 1


def test_part_borders():
    tiny = Path(__file__).parents[1] / "golden" / "tiny_half.onnx"
    words = ("--frames", 4, "--part", 32, "--margin", 16)
    done = run("part_borders.py", tiny, 1, *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["0 to 8 px", "8 to 16 px", "all"]
    ratios = [float(line.split("part / whole ")[1].split()[0]) for line in lines]
    assert 0.3 < min(ratios) <= ratios[-1] <= max(ratios) < 3
