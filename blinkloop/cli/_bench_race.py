"""The contestants of `bench`, each in its process, taking turns.

Turns make ratios fair: what else the machine does falls on all alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from blinkloop.cli._bench_worker import PYTORCH_EAGER

__all__ = ["Contestant", "race", "rows_of"]

_ROUNDS = 5


@dataclass(slots=True)
class Contestant:
    """One way to run the network, and how it did.

    Parameters
    ----------
    name
        Backend, with its variant, or "pytorch-eager", "pytorch-compile".
    """

    name: str
    precision: str = ""
    rounds: list[list[float]] = field(default_factory=list)
    peak_rss_mb: float = 0.0
    problem: str = ""


@dataclass(slots=True)
class _Worker:
    contestant: Contestant
    process: subprocess.Popen[str]
    errors: IO[str]

    def ask(self, question: object) -> Mapping[str, Any]:
        """One line there, one line back; a problem is noted with the contestant."""
        answer: dict[str, Any]
        try:
            answer = self._exchange(json.dumps(question))
        except (BrokenPipeError, ValueError, OSError):
            answer = {"error": self._last_words()}
        self.contestant.problem = answer.get("error", "")
        return answer

    def _exchange(self, line: str) -> Any:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:  # for the type: both are pipes
            raise OSError("no pipes")
        stdin.write(line + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    def _last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().split("\n")
        said = [line for line in lines if line.strip()]
        return said[-1].strip() if said else "its process ended without a word"


@contextmanager
def _worker(contestant: Contestant) -> Iterator[_Worker]:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "blinkloop.cli._bench_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield _Worker(contestant, process, errors)
        finally:
            process.kill()
            process.communicate()


def race(
    names: Sequence[str],
    model: Path,
    case: Mapping[str, int],
    *,
    threads: int | None,
    seconds: float,
) -> list[Contestant]:
    """Run all of them on the same case, in turns.

    Parameters
    ----------
    names
        Contestants.
    model
        Model file.
    case
        `height`, `width`, `frames_per_call`.
    threads
        Threads of one call; None: all CPUs.
    seconds
        Time of each contestant that counts.
    """
    contestants = [Contestant(name) for name in names]
    with ExitStack() as stack:
        running = []
        for contestant in contestants:
            worker = stack.enter_context(_worker(contestant))
            task = {"contestant": contestant.name, "model": str(model)}
            answer = worker.ask({**task, "case": dict(case), "threads": threads})
            if not contestant.problem:
                contestant.precision = answer["ready"]
                running.append(worker)
        for _ in range(_ROUNDS):
            for worker in [w for w in running if not w.contestant.problem]:
                answer = worker.ask(seconds / _ROUNDS)
                if not worker.contestant.problem:
                    worker.contestant.rounds.append(answer["durations"])
                    worker.contestant.peak_rss_mb = answer["peak_rss_mb"]
    return contestants


def rows_of(
    contestants: Sequence[Contestant], case: Mapping[str, int]
) -> list[dict[str, Any]]:
    """One row of `bench --json` for each that ran; see DESIGN for the keys."""
    done = [one for one in contestants if not one.problem]
    eager = next((one for one in done if one.name == PYTORCH_EAGER), None)
    return [_row(one, eager, case) for one in done]


def _row(
    one: Contestant, eager: Contestant | None, case: Mapping[str, int]
) -> dict[str, Any]:
    calls = np.concatenate(one.rounds)
    rate = case["frames_per_call"] * len(calls) / calls.sum()
    p50, p95, p99 = np.quantile(calls, [0.5, 0.95, 0.99]) * 1e3
    ratio = None
    if eager is not None:
        pairs = zip(eager.rounds, one.rounds, strict=True)
        ratio = float(np.median([np.median(a) / np.median(b) for a, b in pairs]))
    name = one.name
    return {
        "backend": name.removesuffix(f":{one.precision}"),
        "precision": one.precision,
        **case,
        "frames_per_second": float(rate),
        "megapixels_per_second": float(rate * case["height"] * case["width"] / 1e6),
        "latency_ms": {"p50": p50, "p95": p95, "p99": p99, "max": calls.max() * 1e3},
        "calls": len(calls),
        "peak_rss_mb": one.peak_rss_mb,
        "times_pytorch_eager": ratio,
    }
