"""NumPy's threads must not take the processor from network and camera."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
import blinkloop.cli
print(os.environ["OPENBLAS_NUM_THREADS"], "numpy" in sys.modules)
"""


@pytest.mark.parametrize(("given", "then"), [(None, "1"), ("3", "3")])
def test_one_thread_unless_somebody_asked_for_more(
    given: str | None, then: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if given is not None:
        environment["OPENBLAS_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    # Set before NumPy is there, or OpenBLAS never reads it.
    assert done.stdout.split() == [then, "False"]
