"""How fast each backend runs a model here, and what was found out about that before."""

from __future__ import annotations

from blinkloop.runtime.benchmarking.agreement import agreement_problem
from blinkloop.runtime.benchmarking.live_race import LiveRace
from blinkloop.runtime.benchmarking.measure import Case, StepTimer, make_frames
from blinkloop.runtime.benchmarking.memory import peak_rss_mb
from blinkloop.runtime.benchmarking.notes import (
    BackendNotes,
    backend_notes,
    remember_backends,
    remember_live,
)

__all__ = [
    "BackendNotes",
    "Case",
    "LiveRace",
    "StepTimer",
    "agreement_problem",
    "backend_notes",
    "make_frames",
    "peak_rss_mb",
    "remember_backends",
    "remember_live",
]
