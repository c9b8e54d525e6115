from __future__ import annotations

import subprocess
import sys

from cli_surface import SURFACE, surface


def test_surface_is_the_one_written_down() -> None:
    """A change that is meant: python tests/cli/cli_surface.py --write."""
    assert surface() == SURFACE.read_text(encoding="utf-8")


def test_frame_is_light() -> None:
    code = "import blinkloop.cli, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"numpy", "pydantic", "rich", "torch", "onnxruntime", "blinkloop.runtime"}
    assert set(done.stdout.split()) & heavy == set()
