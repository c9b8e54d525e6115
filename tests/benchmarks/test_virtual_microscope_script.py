"""The script behind the speed of the virtual microscope, small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("onnxruntime", reason="needs the extra `cpu`")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "virtual_microscope.py"


@pytest.mark.parametrize("more", [(), ("--alone", "--camera", "emccd")])
def test_it_counts_frames_and_emitters(more: tuple[str, ...]) -> None:
    words = ("--size", "40x56", "--fps", "25", "--seconds", "2", "--json", *more)
    model = ("--model", "astigmatic-lite", "--backend", "onnxruntime-cpu")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words, *model],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["density_per_um2"] == pytest.approx(1.0, rel=0.3)
    if more:
        assert found["frames_per_second"] > 5
        return
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert found["frames_seen"] == sum(found[part] for part in parts) == 50
    assert found["camera_frames_per_second"] <= 25
    assert found["late_s"] >= 0
