from __future__ import annotations

import subprocess
import sys

import pytest
from cli_surface import SURFACE, surface


def test_surface_is_the_one_written_down() -> None:
    """A change that is meant: python tests/cli/cli_surface.py --write."""
    assert surface() == SURFACE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import blinkloop.cli", id="import"),
        pytest.param(
            "from click.testing import CliRunner; import blinkloop.cli; "
            "CliRunner().invoke(blinkloop.cli.main, ['--help'])",
            id="help of all verbs",
        ),
    ],
)
def test_frame_and_its_help_are_light(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"numpy", "pydantic", "rich", "torch", "onnxruntime", "blinkloop.runtime"}
    assert set(done.stdout.split()) & heavy == set()
