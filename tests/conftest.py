"""Settings of all tests."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from hypothesis import HealthCheck, settings

# No deadline, and drawing an example may take long: the machines are shared, and a slow
# example is not a wrong one. In CI the examples are the same every time, so that a red
# run can be repeated.
for name, always_the_same in (("here", False), ("ci", True)):
    settings.register_profile(
        name,
        deadline=None,
        derandomize=always_the_same,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("ci" if os.environ.get("CI") else "here")

# Started in the background of a script or with nohup, all our children would ignore
# the very signals that some tests send them.
for _name, _usual in {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}.items():
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _usual)


@pytest.fixture(autouse=True)
def no_silent_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verb that leaves a thread behind ends its process; here that is all tests."""
    here, leave = os.getpid(), os._exit

    def refuse(code: int) -> None:
        if os.getpid() != here:
            leave(code)
        threads = [t.name for t in threading.enumerate()]
        raise AssertionError(f"os._exit({code}) was called; threads: {threads}")

    monkeypatch.setattr(os, "_exit", refuse)
