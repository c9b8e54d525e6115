"""Runs through Micro-Manager's bridge, and the dead man over a bridge of its own.

Micro-Manager is a double here (`bridge_double`): its core, camera and "laser" are real
and outlive the run, its transport was written from pycromanager's Python side.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time

from conftest import wait_for

from blinkloop.runtime import read_live_store

KILLS = 2
CONTROL = ("--mode", "control", "--laser", "DA405.Voltage", "--start-power", 2)


def through(mm) -> tuple[object, ...]:
    return ("--pycromanager", "--port", mm.port)


def test_every_frame_of_a_bridge(micro_manager, run) -> None:
    mm = micro_manager()
    one = run(*through(mm), "--frames", 60, *CONTROL)
    assert one.end() == 0, one.err
    report = one.report
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert report["frames_seen"] == sum(report[part] for part in parts) == 60
    assert report["frames_lost"] == 0
    assert report["camera_origin"]["exposure_ms"] == "Micro-Manager"
    values = [value for _, value in mm.was_set()]
    assert values[0] == 2
    assert values[-1] == 0
    assert "no dead man" not in one.err
    assert not (one.folder / "deadman.log").exists()


def test_killed_runs_leave_the_laser_dark_within_a_second(micro_manager, run) -> None:
    """`blinkloop run` is killed -9; the core that owns the laser says what was set."""
    delays = []
    for kill in range(int(os.environ.get("BLINKLOOP_KILLS", KILLS))):
        # A new one each time: the killed run's acquisition goes on in the old one.
        mm = micro_manager()
        one = run(*through(mm), *CONTROL)
        frames = one.folder / "localizations.zarr" / "frames" / "index" / "c"
        assert wait_for(frames.is_dir), one.end()
        assert mm.was_set()[-1][1] > 0
        time.sleep(random.Random(kill).uniform(0.0, 0.4))
        killed_s = time.time()
        one.kill(signal.SIGKILL)
        one.end()
        assert wait_for(lambda mm=mm: mm.was_set()[-1][1] == 0, 5), mm.was_set()
        delays.append(mm.was_set()[-1][0] - killed_s)
        log = one.folder / "deadman.log"
        assert wait_for(log.exists, 5)
        said = json.loads(log.read_text().splitlines()[0])["event"]
        assert said == "the run died; DA405.Voltage set to 0, reads 0"
        assert read_live_store(one.folder / "localizations.zarr") is not None
    print(f"dark after {sorted(round(1000 * d) for d in delays)} ms")
    assert max(delays) < 1.0, delays
