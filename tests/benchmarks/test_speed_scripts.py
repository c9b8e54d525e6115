"""The scripts behind the numbers on speed, in their dry mode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_gpu_dry_run(tmp_path):
    done = run("gpu.py", "--dry", "--json", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert "no speed" in report["device"]
    rows = {row["what"]: row for row in report["rows"]}
    assert "onnxruntime-cpu" in rows
    assert rows["pytorch-three-frame fp32"]["times_three_frame"] == 1
    # Whatever cannot run is named with its reason, and has no row.
    assert report["not_measured"]
    assert not set(report["not_measured"]) & set(rows)
    assert all(report["not_measured"].values())


def test_gpu_needs_a_gpu():
    done = run("gpu.py")
    assert done.returncode == 2
    assert "--prepare" in done.stderr


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
