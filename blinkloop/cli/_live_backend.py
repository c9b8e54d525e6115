"""Which backend a live run takes, and with how many threads.

A camera needs a core: without one, threads of the network and the camera take turns,
and what is fast in an offline batch stutters live. So live verbs use all cores but one,
and `auto` goes by a race of one frame per call at the size of the camera's frames, run
once (each backend in a process of its own) and kept with the other notes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blinkloop.runtime import Backend, ModelFile
    from blinkloop.runtime.benchmarking import LiveRace

__all__ = ["describe", "live_backend", "live_threads", "race_live", "warm_up"]

_SECONDS = 0.5
"""Time of each backend in the race; more for frames that take longer."""
_SIDE_PX = 512
"""Larger frames race as their middle: which backend is faster does not change."""


def live_threads() -> int:
    """All CPUs this process may use but one, which the camera needs; at least 1."""
    from blinkloop.runtime.backends import usable_cpus

    return max(1, usable_cpus() - 1)


def live_backend(model: ModelFile, size: tuple[int, int], threads: int) -> str:
    """The backend for live frames of that size; races when there is no note yet.

    Parameters
    ----------
    model
        The model file.
    size
        Height and width of the frames, px.
    threads
        Of one call.

    Returns
    -------
    str
        A name of the table of backends, or "auto" where nothing could be measured.
    """
    from blinkloop.cli._output import note
    from blinkloop.runtime.backends import usable_backends
    from blinkloop.runtime.benchmarking import backend_notes

    notes = backend_notes(model)
    usable = [name for name in usable_backends(model) if notes.trusted(name)]
    if len(usable) < 2:
        return usable[0] if usable else "auto"
    height, width = race_size(size)
    race = notes.live_race(height, width, threads)
    # A backend that was installed since is another machine to the notes.
    if race is None:
        note(f"measuring {' and '.join(usable)}, once for this model and frame size")
        race = race_live(model, size, threads, usable)
    chosen = race.best(usable)
    if chosen is None:
        return "auto"
    note(f"auto takes {describe(race, chosen)}")
    return chosen


def race_live(
    model: ModelFile, size: tuple[int, int], threads: int, names: Sequence[str]
) -> LiveRace:
    """Measure backends as a live run uses them, and keep it.

    Parameters
    ----------
    model, size, threads
        As for `live_backend`.
    names
        Backends; one that fails is left out.
    """
    from blinkloop.cli._bench_race import race, rows_of
    from blinkloop.runtime.benchmarking import LiveRace, remember_live

    height, width = race_size(size)
    case = {"height": height, "width": width, "frames_per_call": 1}
    path = Path(model.path)
    done = race(names, path, case, threads=threads, seconds=_SECONDS)
    rows = rows_of(done, case)
    measured = LiveRace(
        height=height,
        width=width,
        threads=threads,
        frame_ms={row["backend"]: row["latency_ms"]["p50"] for row in rows},
        memory_mb={row["backend"]: row["peak_rss_mb"] for row in rows},
    )
    if rows:
        remember_live(model, measured)
    return measured


def race_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width, px, of the frames in the race for a live run."""
    return min(size[0], _SIDE_PX), min(size[1], _SIDE_PX)


def describe(race: LiveRace, chosen: str) -> str:
    """Times and memory of a race in words, the backend chosen first."""
    others = [name for name in race.frame_ms if name != chosen]
    parts = [
        f"{name} {race.frame_ms[name]:.1f} ms, {race.memory_mb.get(name, 0):.0f} MB"
        for name in (chosen, *others)
    ]
    what = f"per frame of {race.width} x {race.height} px"
    plural = "" if race.threads == 1 else "s"
    return f"{'; '.join(parts)} {what} with {race.threads} thread{plural}"


def warm_up(backend: Backend, model: ModelFile, size: tuple[int, int]) -> None:
    """Make the first, slow calls before a camera runs, and say what was loaded.

    Parameters
    ----------
    backend
        Loaded; whoever uses it next begins a segment and sets its camera.
    model
        What it runs.
    size
        Height and width of the frames, px.
    """
    import numpy as np

    from blinkloop.cli._output import note
    from blinkloop.runtime import make_camera_maps
    from blinkloop.runtime.backends import usable_cpus

    # Maps of the whole chip would not fit the frames of a region.
    backend.set_camera(make_camera_maps(model.card.camera))
    frames = np.zeros((1, *size), np.float32)
    for start in (True, False):
        backend.step(frames, segment_start=start)
    threads = getattr(backend, "threads", None)
    on = "" if threads is None else f" with {threads} of {usable_cpus()} CPU threads"
    note(f"backend {backend.name}{on}")
