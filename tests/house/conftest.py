"""Where the house stands, and its wheel, built once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("training", "export", "runtime", "integrations")
FOLDERS = ("blinkloop", *ROOMS)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def installed_files() -> dict[str, Path]:
    """Path in the installed package -> file, for what the five folders hold."""
    files = {}
    for folder in FOLDERS:
        inside = (
            Path("blinkloop") if folder == "blinkloop" else Path("blinkloop", folder)
        )
        for path in (ROOT / folder).rglob("*"):
            below = path.relative_to(ROOT / folder)
            hidden = any(p == "__pycache__" or p[0] == "." for p in below.parts)
            if path.is_file() and not hidden and below.name != "ruff.toml":
                files[(inside / below).as_posix()] = path
    return files


@pytest.fixture(scope="session")
def sources() -> dict[str, Path]:
    """Path in the installed package -> file, for all .py files."""
    return {n: path for n, path in installed_files().items() if path.suffix == ".py"}


@pytest.fixture(scope="session")
def data_files() -> dict[str, Path]:
    """Path in the installed package -> file, for all others."""
    return {n: path for n, path in installed_files().items() if path.suffix != ".py"}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves `build/` behind, and reads it."""
    copy = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*_cache")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "LICENSE", "README.md"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    done = subprocess.run(
        [*command, "--outdir", str(out), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = out.glob("*.whl")
    return built
