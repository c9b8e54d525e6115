"""Verbs called as a person calls them, on a tiny random network and small movies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from verb_helpers import Said, Verb

from blinkloop.cli import _session, main
from blinkloop.cli._bundled import bundled_models

GOLDEN = Path(__file__).parent.parent / "golden"
BUNDLED = "astigmatic-small"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What runs of these tests find out about backends is not kept with the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLINKLOOP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live verbs called in this process take the first backend without measuring."""
    monkeypatch.setattr(_session, "live_backend", lambda *_: "auto")


@pytest.fixture
def verb() -> Verb:
    """Runs `blinkloop ...` in this process."""

    def run(*words: object) -> Said:
        result = CliRunner().invoke(main, [str(word) for word in words])
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def good(verb: Verb) -> Verb:
    """As `verb`, for what must succeed."""

    def run(*words: object) -> Said:
        said = verb(*words)
        assert said.code == 0, said.err
        return said

    return run


@pytest.fixture
def signalled(tmp_path: Path) -> Callable[..., Said]:
    """Runs `blinkloop ...` as a process and sends it a signal.

    The signal is sent when `ready` says so, asked every 20 ms.
    """
    if sys.platform == "win32":
        pytest.skip("signals are sent in the way of POSIX")

    def run(number: signal.Signals, ready: Callable[[], bool], *words: object) -> Said:
        process = subprocess.Popen(
            [sys.executable, "-m", "blinkloop.cli", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
        try:
            deadline = time.monotonic() + 240
            while not ready() and process.poll() is None:
                assert time.monotonic() < deadline, "the run never began"
                time.sleep(0.02)
            process.send_signal(number)
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
            process.wait()
        return Said(process.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def model() -> Path:
    """A random network of 43 kB; its detections mean nothing."""
    return GOLDEN / "tiny_half.onnx"


@pytest.fixture(scope="session")
def bundled() -> str:
    """Name of the bundled model, for tests whose numbers mean something."""
    if BUNDLED not in bundled_models():
        pytest.skip(f"no model {BUNDLED} is bundled with this checkout")
    return BUNDLED


@pytest.fixture(scope="session")
def frames() -> npt.NDArray[np.uint16]:
    """(12, 21, 34): spots on a noisy background, odd-sized and not square."""
    rng = np.random.default_rng(11)
    movie = rng.poisson(40, (12, 21, 34)) + 100
    for frame in movie:
        rows, columns = rng.integers(2, 19, 5), rng.integers(2, 32, 5)
        frame[rows, columns] += rng.integers(500, 3000, 5)
    return movie.astype(np.uint16)


@pytest.fixture
def movie(tmp_path: Path, frames: npt.NDArray[np.uint16]) -> Path:
    """The frames as a multi-page TIFF."""
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, frames)
    return path


@pytest.fixture
def long_movie(tmp_path: Path, frames: npt.NDArray[np.uint16]) -> Path:
    """60 000 frames, more than any test waits for; they take no space on the disk."""
    path = tmp_path / "long.npy"
    shape = (60_000, *frames.shape[1:])
    file = np.lib.format.open_memmap(path, "w+", np.uint16, shape)
    file[:12] = frames
    return path
