"""Faults of camera and laser in `blinkloop run`: real core, doubles of the devices."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from busy import spinning
from fault_helpers import Said, check_books, laser_rows, stale_s, wait_for

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

from fault_devices import Laser, SpotsCamera

from blinkloop.cli import _feedback
from blinkloop.cli._live import camera_settings
from blinkloop.integrations.micromanager import MicroManagerSource
from blinkloop.runtime import Roi

CONTROL = ("--mode", "control", "--laser", "L405.Power", "--update-frames", 20)
CONTROL = (*CONTROL, "--start-power", 2)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Laser, "record", [])
    monkeypatch.setattr(SpotsCamera, "delivered", 0)


@pytest.fixture
def scope(tmp_path: Path) -> Callable[..., Path]:
    """A configuration of a camera and a laser."""

    def write(camera: str = "SpotsCamera", laser: str = "Laser") -> Path:
        path = tmp_path / f"{camera}-{laser}.cfg"
        path.write_text(
            f"#py pyDevice,Cam,fault_devices,{camera}\n"
            f"#py pyDevice,L405,fault_devices,{laser}\n"
            "#py Property,Core,Initialize,1\n"
            "#py Property,Core,Camera,Cam\n"
        )
        return path

    return write


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of a stall, ten times shorter."""
    monkeypatch.setattr(_feedback, "_STALE_S", 0.4)
    monkeypatch.setattr(_feedback, "_DARK_AFTER_S", 0.8)
    defaults: Any = MicroManagerSource.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "stall_timeout_s", 2.5)


@pytest.fixture
def when() -> Iterator[Callable[..., None]]:
    """Does something from a thread once so many frames have come."""
    threads: list[threading.Thread] = []

    def arrange(frames: int, action: Callable[[], object]) -> None:
        def wait() -> None:
            if wait_for(lambda: SpotsCamera.delivered >= frames, 60):
                action()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield arrange
    for thread in threads:
        thread.join()


def check(said: Said) -> Any:
    """Laser dark, books closed, data readable."""
    assert max(Laser.record) > 0
    assert Laser.record[-1] == 0
    return check_books(said.folder)


@pytest.mark.usefixtures("impatient")
def test_camera_stalls(here, scope) -> None:
    said = here("--config", scope("StallingCamera"), *CONTROL)
    assert said.code == 1
    assert "gave no frame for 2.5 s after frame 39" in said.error
    assert check(said)["frames_localized"] == 40
    reasons = [row["reason"] for row in laser_rows(said.folder)]
    assert any("no fresh estimate" in reason for reason in reasons), reasons
    # Dark by then, not only at the end of the run.
    assert "no fresh estimate" in reasons[-1]


@pytest.mark.usefixtures("impatient")
def test_slow_trigger_is_waited_for_with_the_laser_dark(here, scope) -> None:
    waits = ("--frame-timeout", 8, "--frames", 80)
    said = here("--config", scope("StallingCamera"), *CONTROL, *waits)
    assert said.code == 0, said.err
    assert "waits 8 s for a frame; the laser goes dark after 0.8 s" in said.err
    assert check(said)["frames_localized"] == 80
    rows = laser_rows(said.folder)
    (dark,) = (k for k, row in enumerate(rows) if row["reason"].startswith("safe: no"))
    # The 40 frames that came later did not switch it on again.
    assert {row["written"] for row in rows[dark:]} <= {"0.0", "nan"}
    assert Laser.record.index(0.0, 2) == len(Laser.record) - 1


@pytest.mark.usefixtures("impatient")
def test_frame_timeout_ends_a_run_earlier(here, scope) -> None:
    said = here("--config", scope("StallingCamera"), "--frame-timeout", 1)
    assert said.code == 1
    assert "gave no frame for 1 s after frame 39" in said.error
    assert "--frame-timeout" in said.error
    assert "goes dark" not in said.err


@pytest.mark.parametrize(
    ("exposure_ms", "own_s", "asked_s", "expected_s"),
    [
        (10.0, 10.0, None, 30.0),  # the camera's own end comes first
        (10.0, 120.0, 120.0, 140.0),
        (12_000.0, 60.0, None, 80.0),
        (10.0, None, None, 30.0),  # Pycro-Manager: nobody else looks
        (10.0, None, 120.0, 120.0),
        (12_000.0, None, None, 60.0),
    ],
)
def test_the_run_waits_longer_than_its_camera(
    exposure_ms: float, own_s: float | None, asked_s: float | None, expected_s: float
) -> None:
    source: Any = SimpleNamespace(
        roi=Roi(0, 0, 30, 22),
        dtype=np.dtype(np.uint16),
        camera_facts=lambda: {"exposure_ms": exposure_ms},
        frame_timeout_s=own_s,
    )
    assert camera_settings(source, asked_s).stall_abort_s == expected_s


def test_camera_disappears(here, scope) -> None:
    said = here("--config", scope("VanishingCamera"), *CONTROL)
    assert said.code == 1
    assert "'Cam' stopped after frame 39" in said.error
    assert check(said)["frames_localized"] == 40


def test_laser_refuses(here, scope) -> None:
    said = here("--config", scope(laser="RefusingLaser"), *CONTROL, "--frames", 80)
    assert said.code == 1
    assert "interlock open" in said.error
    assert check(said)["frames_seen"] == 80


def test_laser_reads_back_something_else(here, scope) -> None:
    said = here("--config", scope(laser="LyingLaser"), *CONTROL, "--frames", 200)
    assert said.code == 1
    assert "L405.Power: " in said.error
    assert "25" in said.error
    assert check(said)["frames_seen"] == 200


@pytest.mark.parametrize(
    ("camera", "laser", "line", "frames"),
    [
        ("VanishingCamera", "Laser", "'Cam' stopped after frame 39", 40),
        ("SpotsCamera", "RefusingLaser", "interlock open", 80),
    ],
)
def test_faults_on_a_loaded_machine(here, scope, camera, laser, line, frames) -> None:
    """Beside processes that compute without a pause on every processor."""
    words = ("--config", scope(camera, laser), *CONTROL, "--frames", 80)
    with spinning():
        said = here(*words)
    assert said.code == 1
    assert line in said.error
    report = check(said)
    assert report["frames_seen"] == frames
    assert report["frames_lost"] == 0


def test_property_does_not_exist(here, scope) -> None:
    words = ("--mode", "control", "--laser", "L405.Pwoer")
    said = here("--config", scope(), *words)
    assert said.code == 2
    assert "device 'L405' has no property 'Pwoer'; it has: Power" in said.error
    assert Laser.record == []
    assert not said.folder.exists()


def test_empty_frames(here, scope) -> None:
    said = here("--config", scope("EmptyCamera"), *CONTROL, "--frames", 80)
    assert said.code == 0, said.err
    assert check(said)["frames_seen"] == 80


def test_saturated_frames(here, scope) -> None:
    said = here("--config", scope("SaturatedCamera"), *CONTROL, "--frames", 80)
    assert said.code == 0, said.err
    report = check(said)
    assert report["frames_seen"] == 80
    assert any("saturated" in warning for warning in report["warnings"])


def test_store_path_gone(here, scope, when, tmp_path) -> None:
    """Nothing is left to read, and the line says so; the laser does not care."""

    def remove() -> None:
        # All at once: a folder that is being written to cannot be emptied.
        (tmp_path / "here").rename(tmp_path / "gone")
        shutil.rmtree(tmp_path / "gone", ignore_errors=True)

    when(40, remove)
    said = here("--config", scope(), *CONTROL, "--frames", 200)
    assert said.code == 1
    assert "sink LiveStore" in said.error
    assert SpotsCamera.delivered == 200
    assert max(Laser.record) > 0
    assert Laser.record[-1] == 0


def test_clock_jump(here, scope, when, monkeypatch) -> None:
    """The computer's clock is set an hour back, then two forward, during the run."""
    true = time.time
    when(30, lambda: monkeypatch.setattr(time, "time", lambda: true() - 3600))
    when(60, lambda: monkeypatch.setattr(time, "time", lambda: true() + 7200))
    said = here("--config", scope(), *CONTROL, "--frames", 150)
    assert said.code == 0, said.err
    report = check(said)
    assert report["frames_localized"] + report["frames_skipped"] == 150
    assert max(stale_s(said.folder), default=0) < 60
    assert report["laser_updates"] > 2
