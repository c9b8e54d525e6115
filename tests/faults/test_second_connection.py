"""Runs through Micro-Manager's bridge, and the dead man over a bridge of its own.

Micro-Manager is a double here (`bridge_double`): its core, camera and "laser" are real
and outlive the run, its transport was written from pycromanager's Python side.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import time

import numpy as np
import pytest
from busy import slowdown
from fault_helpers import check_books, laser_rows, wait_for

from blinkloop.integrations.micromanager.deadman_bridge import bridge_plan
from blinkloop.runtime.deadman import DeadMan
from blinkloop.runtime.sinks import LiveStoreReader

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
    delays, slower = [], slowdown()
    for kill in range(int(os.environ.get("BLINKLOOP_KILLS", KILLS))):
        # A new one each time: the killed run's acquisition goes on in the old one, and
        # would take a processor from those after it.
        mm = micro_manager()
        # More than this camera's noise is taken for: the run has no reason of its own
        # to switch the laser off, however long it is watched.
        one = run(*through(mm), *CONTROL, "--target", 20)
        frames = one.folder / "localizations.zarr" / "frames" / "index" / "c"
        assert wait_for(frames.is_dir), one.end()
        assert mm.was_set()[-1][1] > 0
        time.sleep(random.Random(kill).uniform(0.0, 0.4))
        store = one.folder / "localizations.zarr"
        before = LiveStoreReader(store).frames()["index"]
        killed_s = time.time()
        one.kill(signal.SIGKILL)
        one.end()
        assert wait_for(lambda mm=mm: mm.was_set()[-1][1] == 0), mm.was_set()
        delays.append(mm.was_set()[-1][0] - killed_s)
        print(f"kill {kill}: dark after {1000 * delays[-1]:.0f} ms", flush=True)
        log = one.folder / "deadman.log"
        # It is there a moment before its first line is.
        assert wait_for(lambda log=log: log.exists() and "\n" in log.read_text())
        said = json.loads(log.read_text().splitlines()[0])["event"]
        assert said == "the run died; DA405.Voltage set to 0, reads 0"
        # What could be read before can be read now, in whole frames without a hole.
        kept = LiveStoreReader(store)
        numbers = kept.frames()["index"]
        assert numbers.tolist() == list(range(max(len(numbers), len(before))))
        assert len(kept.rows()) == kept.frames()["localizations"].sum() > 0
        mm.process.kill()
    print(f"dark after {sorted(round(1000 * d) for d in delays)} ms")
    # A second of a computer that has nothing else to do.
    assert max(delays) < 1.0 * max(slower, slowdown()), delays


def test_another_version_of_the_server(micro_manager, run) -> None:
    one = run(*through(micro_manager("4.2.0")), "--frames", 5)
    assert one.end() == 2
    assert one.err.splitlines()[-1].startswith(
        "error: Micro-Manager's server has version 4.2.0, the installed pycromanager "
        "needs 5.1.0; "
    )
    assert "Traceback" not in one.err
    assert not one.folder.exists()


def test_micro_manager_that_dies(micro_manager, run) -> None:
    """Nobody can reach its laser any more; what was localized is there, and said."""
    mm = micro_manager()
    one = run(*through(mm), *CONTROL)
    frames = one.folder / "localizations.zarr" / "frames" / "index" / "c"
    assert wait_for(frames.is_dir), one.end()
    mm.process.send_signal(signal.SIGKILL)
    assert one.end() == 1
    error = one.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert f"Micro-Manager on port {mm.port} has not answered" in error
    assert "switch it off by hand" in error
    assert "Traceback" not in one.err
    report = one.report
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert report["frames_seen"] == sum(report[part] for part in parts) > 0
    assert laser_rows(one.folder)[-1]["reason"].startswith("NOT SAFE")


def test_no_dead_man_outlives_a_micro_manager_that_has_gone(micro_manager) -> None:
    """What it holds of the bridge waits for ever for an answer when it is let go."""
    mm = micro_manager()
    dead_man = DeadMan(bridge_plan("DA405", "Voltage", 0, port=mm.port))
    mm.process.kill()
    mm.process.wait()
    dead_man.close()
    try:
        assert wait_for(lambda: dead_man._process.poll() is not None, 20)
    finally:
        dead_man._process.kill()
    assert dead_man._process.returncode == 0


@pytest.mark.parametrize(
    "words", [(), (*CONTROL, "--exposure-ms", 7)], ids=["watches", "controls"]
)
def test_a_second_run_on_the_same_camera(micro_manager, run, words) -> None:
    """It is refused before it touches anything; the first goes on as it was."""
    mm = micro_manager()
    first = run(*through(mm), *CONTROL)
    frames = first.folder / "localizations.zarr" / "frames" / "index" / "c"
    assert wait_for(frames.is_dir), first.end()
    second = run(*through(mm), *words, "--frames", 5)
    assert second.end() != 0
    assert "camera 'Camera' is already running" in second.err.splitlines()[-1]
    assert first.process.poll() is None
    first.kill()
    assert first.end() == 0, first.err
    check_books(first.folder)
    # What the laser was told is what the first one told it.
    told = [float(row["written"]) for row in laser_rows(first.folder) if row["written"]]
    told = [value for value in told if not math.isnan(value)]
    np.testing.assert_allclose([value for _, value in mm.was_set()], told, atol=1e-4)
    assert told[-1] == 0
