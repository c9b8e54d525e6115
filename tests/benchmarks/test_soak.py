"""The soak through the real MMCore: short here, 50,000 frames in CI (`-m soak`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("pymmcore_plus")
pytest.importorskip("mm_test_adapters")
ROOT = Path(__file__).parents[2]


def soak(*options: object) -> dict[str, Any]:
    words = [*options, "--model", ROOT / "tests" / "golden" / "tiny_half.onnx"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "soak.py"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(found: dict[str, Any], frames: int) -> None:
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert found["frames_seen"] == frames == sum(found[part] for part in parts)
    assert found["unaccounted"] == found["unaccounted_in_files"] == 0
    assert found["failure"] is None


def test_every_frame_of_a_short_soak_is_accounted_for() -> None:
    found = soak("--frames", 1500, "--size", "17x21", "--raw", "--json")
    check(found, 1500)
    assert found["raw"]["frames"] == 1500
    assert found["unaccounted_in_raw"] == 0


@pytest.mark.soak
def test_soak() -> None:
    """50,000 frames as fast as the camera gives them; memory stays."""
    found = soak("--frames", 50_000, "--size", "32x32", "--json", "--threads", 1)
    check(found, 50_000)
    memory = found["memory"]
    assert memory is not None, found["samples"]
    assert memory["mb_at_end"] - memory["mb_at_start"] < 15, memory


def test_slope_of_memory_is_found() -> None:
    """Known growth in noise lies within the interval; none means no number."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from soak import memory_slope
    finally:
        sys.path.pop(0)
    generator = np.random.default_rng(3)
    frames = np.linspace(0, 1e6, 500)
    grows = 200 + 2.5 * frames / 1e5 + generator.normal(0, 0.5, 500)
    grows[:50] += 100  # warming up is left out, and so is what comes after
    grows[-1] += 100
    found = memory_slope(np.stack([frames / 1e3, frames, grows], axis=1))
    assert found is not None
    assert abs(found["mb_per_100k_frames"] - 2.5) < found["interval_95"] < 0.2
    assert memory_slope(np.empty((0, 3))) is None
    assert memory_slope(np.zeros((5, 3))) is None
