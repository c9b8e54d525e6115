"""Signals that end a run, and those that a person switched off."""

from __future__ import annotations

import signal

import pytest

from blinkloop.cli._signals import stopping

NAMES = [n for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)]


@pytest.mark.parametrize("name", NAMES)
def test_signal_makes_safe_first_and_asks_to_stop(name: str) -> None:
    number = getattr(signal, name)
    before, reasons = signal.getsignal(number), []
    with stopping(reasons.append) as stop:
        signal.raise_signal(number)
        assert stop.event.is_set()
    assert (reasons, stop.number) == ([f"signal {name}"], number)
    assert signal.getsignal(number) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.event.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
