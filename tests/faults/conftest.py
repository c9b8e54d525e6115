"""`blinkloop run` and a Micro-Manager (a double with a real core) as processes."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from fault_helpers import CONFIG, HERE, MODEL, MicroManager, Run, Said

from blinkloop.cli import main

WORDS = ("run", "-m", MODEL, "--pixel-size-nm", 100, "--backend", "onnxruntime-cpu")

_PR_SET_PDEATHSIG = 1


def tied(more: Callable[[], None] | None = None) -> Callable[[], None] | None:
    """For a child: it is killed when the tests are; by a time limit of CI, say.

    A run that nobody ends goes on for ever, and its dead man with it. Linux only.
    """
    if not sys.platform.startswith("linux"):
        return more
    prctl = ctypes.CDLL(None).prctl

    def begin() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if more is not None:
            more()

    return begin


@pytest.fixture
def cpp_config(tmp_path: Path) -> Path:
    """A configuration of C++ devices."""
    pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")
    path = tmp_path / "scope.cfg"
    path.write_text(CONFIG, "utf-8")
    return path


@pytest.fixture
def micro_manager(
    cpp_config: Path, tmp_path: Path
) -> Iterator[Callable[..., MicroManager]]:
    """Starts one; ended with the test."""
    pytest.importorskip("pycromanager", reason="needs the extra `pycromanager`")
    started: list[subprocess.Popen[str]] = []

    def start(
        version: str = "5.1.0", environment: Mapping[str, str] | None = None
    ) -> MicroManager:
        log = tmp_path / f"set{len(started)}.jsonl"
        words = [HERE / "bridge_double.py", cpp_config, log, version]
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=tied(),
        )
        started.append(process)
        assert process.stdout is not None
        return MicroManager(process, int(process.stdout.readline()), log)

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts `blinkloop run` on a tiny network; ended with the test."""
    if sys.platform == "win32":
        pytest.skip("processes are ended in the way of POSIX")
    started: list[Run] = []

    def start(
        *words: object,
        limits: Callable[[], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        folder = tmp_path / f"run{len(started)}"
        fixed = (*WORDS, "-o", folder, "--json")
        process = subprocess.Popen(
            [sys.executable, "-m", "blinkloop.cli", *map(str, (*fixed, *words))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": f"{HERE}:{HERE.parent / 'cli'}",
                **(environment or {}),
            },
            preexec_fn=tied(limits),
        )
        started.append(Run(process, folder))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def here(tmp_path: Path) -> Callable[..., Said]:
    """Calls `blinkloop run` in this process."""

    def call(*words: object) -> Said:
        folder = tmp_path / "here"
        all_words = [str(word) for word in (*WORDS, "-o", folder, *words)]
        result = CliRunner().invoke(main, all_words)
        return Said(result.exit_code, result.stderr, folder)

    return call
