"""One line says all that a live verb lacks, before anything is opened."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from blinkloop.cli import _needs
from blinkloop.cli._needs import check_needs
from blinkloop.errors import InputError

WITHOUT = """
import sys
for name in {missing!r}.split():
    sys.modules[name] = None  # type: ignore[assignment]
import importlib.util
find = importlib.util.find_spec
hidden = set({missing!r}.split())
importlib.util.find_spec = lambda name, *more: (
    None if name.partition(".")[0] in hidden else find(name, *more)
)
from blinkloop.cli import main
main(args={words!r})
"""

BACKENDS = "onnxruntime openvino tensorrt tensorrt_rtx"


def without(missing: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line where these packages are not installed."""
    code = WITHOUT.format(missing=missing, words=list(words))
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("missing", "words", "packages", "extras"),
    [
        pytest.param(
            f"{BACKENDS} zarr h5py yaml pymmcore_plus",
            ("run", "-m", "astigmatic-lite"),
            "'pymmcore_plus', 'onnxruntime', 'zarr', 'h5py' and 'yaml'",
            "cpu,io,micromanager",
            id="nothing at all",
        ),
        pytest.param(
            f"{BACKENDS} zarr h5py",
            ("run", "-m", "astigmatic-lite", "--pycromanager"),
            "'onnxruntime', 'zarr' and 'h5py'",
            "cpu,io",
            id="only pycromanager",
            marks=pytest.mark.skipif(
                find_spec("pycromanager") is None, reason="needs the extra"
            ),
        ),
        pytest.param(
            "pycromanager",
            ("run", "-m", "astigmatic-lite", "--pycromanager"),
            "'pycromanager'",
            "pycromanager",
            id="only micromanager",
        ),
        pytest.param(
            "zarr",
            ("run", "-m", "astigmatic-lite", "--watch", "movie.tif"),
            "'zarr'",
            "io",
            id="watch",
        ),
        pytest.param(
            BACKENDS,
            ("replay", "movie.tif", "-m", "astigmatic-lite", "--fps", "5"),
            "'onnxruntime'",
            "cpu",
            id="replay",
        ),
        pytest.param(
            "matplotlib", ("demo",), "'matplotlib'", "demo", id="demo"
        ),
    ],
)  # fmt: skip
def test_one_line(
    missing: str,
    words: tuple[str, ...],
    packages: str,
    extras: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = without(missing, *words)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: `blinkloop {words[0]}` needs the package")
    assert f" {packages}, which " in line
    assert line.endswith(f'pip install "blinkloop[{extras}]"')
    assert not list(tmp_path.iterdir())


def test_a_backend_that_was_named_speaks_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("blinkloop.runtime.backends.backend_table", list)
    check_needs("run", backend="tensorrt")
    with pytest.raises(InputError, match="'onnxruntime'"):
        check_needs("run")
    monkeypatch.setattr(_needs, "installed", lambda name: name != "h5py")
    with pytest.raises(InputError, match=r"'onnxruntime' and 'h5py', which are"):
        check_needs("run")
