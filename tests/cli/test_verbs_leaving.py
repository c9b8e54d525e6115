"""A thread that a run left behind does not keep the process from ending well."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import atexit, sys, threading
import click
from blinkloop.cli import _frame

@click.command("stuck")
@click.option("--name")
def command(name):
    atexit.register(print, "laser safe")
    threading.Thread(target=threading.Event().wait, name=name, daemon=True).start()
    click.echo("result", nl=False)
    return 130

sys.modules["stuck"] = sys.modules["__main__"]
sys.modules["stuck"].__spec__ = sys.modules["click"].__spec__
frame = _frame.Frame({"stuck": "stuck"})

class Late:
    def __del__(self):
        print("python ended", file=sys.stderr)

late = Late()
frame.main(["stuck", "--name", sys.argv[1]])
"""


@pytest.mark.parametrize(
    ("name", "cut_short"), [("blinkloop-analysis", True), ("other", False)]
)
def test_exit_hooks_run_and_the_exit_code_stands(name: str, cut_short: bool) -> None:
    """Python's own end is left out only for our threads: theirs abort in it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 130, done.stderr
    assert done.stdout == "resultlaser safe\n"
    assert ("python ended" not in done.stderr) is cut_short
