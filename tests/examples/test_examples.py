"""Every example runs, and the README's Python and shell lines name real things."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from blinkloop.cli import main as cli
from blinkloop.cli._frame import VERBS

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "golden" / "tiny_half.onnx"


def run(name: str, *words: str) -> str:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_localize_array() -> None:
    assert "50 frames" in run("localize_array.py", str(MODEL))


def test_own_camera(tmp_path: Path) -> None:
    said = run("own_camera.py", str(MODEL), str(tmp_path))
    assert "seen 60 = localized 60 + skipped 0 + lost 0" in said


def test_attach_to_mda(tmp_path: Path) -> None:
    said = run("attach_to_mda.py", str(MODEL), str(tmp_path))
    # pymmcore-plus asks for images first and for the end of the sequence second: the
    # last image may come in between and stay in the ring. It is counted then.
    lost = int(said.rpartition(" ")[2])
    assert lost in (0, 1)
    assert f"seen 60 = localized {60 - lost} + skipped 0 + lost {lost}" in said
    assert (tmp_path / "run-001" / "localizations.zarr").is_dir()


def test_every_example_is_tried() -> None:
    tried = Path(__file__).read_text(encoding="utf-8")
    for path in (ROOT / "examples").glob("*.py"):
        assert f'run("{path.name}"' in tried


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [
        line.split("#")[0].strip()
        for block in re.findall(r"```bash\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ]
    return [
        part.strip()
        for line in lines
        for part in line.split("&&")
        if part.strip().startswith("blinkloop ")
    ]


@pytest.mark.parametrize("line", readme_commands())
def test_readme_options_exist(line: str) -> None:
    _, verb, *words = line.split()
    assert verb in VERBS
    command = cli.get_command(
        cli.make_context("blinkloop", ["--help"], resilient_parsing=True), verb
    )
    assert command is not None
    known = {name for parameter in command.params for name in parameter.opts}
    for word in words:
        if word.startswith("-"):
            assert word in known, f"{verb} has no option {word}"


def test_readme_extras_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = {
        e for group in re.findall(r'"\.\[([a-z,]+)\]"', text) for e in group.split(",")
    }
    assert asked
    for extra in asked:
        assert re.search(rf"^{extra} = \[", project, re.M), extra
