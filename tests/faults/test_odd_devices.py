"""`blinkloop run` with devices and words of other labs: works, or says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_helpers import CONFIG, Said, check_books, laser_rows

pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

_MORE = """\
Device,Camera 2,DemoCamera,DCam
Device,Late,NotificationTester,NTAsyncProperty
Device,Both,Utilities,Multi Camera
Device,LED,DemoCamera,DStateDevice
Parent,Camera 2,DHub
Parent,LED,DHub
Property,Core,Initialize,1
"""
_ALL = CONFIG.replace("Property,Core,Initialize,1\n", _MORE)
_TWO = (
    "Property,Both,Physical Camera 1,Camera\nProperty,Both,Physical Camera 2,Camera 2\n"
)
_CONTROL = ("--mode", "control", "--laser")
_VOLTS = (*_CONTROL, "DA405.Voltage")


@pytest.fixture
def scope(tmp_path: Path, here: Callable[..., Said]) -> Callable[..., Said]:
    """Runs with a configuration of that text (bytes)."""

    def call(*words: object, text: str = _ALL, encoding: str = "utf-8") -> Said:
        path = tmp_path / "my scope.cfg"
        path.write_bytes(text.encode(encoding))
        return here("--config", path, *words)

    return call


@pytest.mark.parametrize(
    ("words", "line"),
    [
        pytest.param(
            (*_CONTROL, "LED.State"), "no limits of its own.*--max-power", id="limits"
        ),
        pytest.param(
            (*_CONTROL, "Camera.BeadDensity"),
            "safe_value 0 is outside what the device takes .10 .. 500.*--safe-power",
            id="never off",
        ),
        pytest.param(
            (*_VOLTS, "--max-power", 2, "--start-power", 5),
            "start_power 5 must lie in 0 .. 2",
            id="start above",
        ),
        pytest.param(
            (*_VOLTS, "--max-power", 2, "--safe-power", 3),
            "error: feedback: safe_value 3 must not exceed max_value 2",
            id="safe above",
        ),
        pytest.param((*_VOLTS, "--max-power", -2), "--max-power -2", id="max below 0"),
        pytest.param((*_VOLTS, "--max-power", 99), "--max-power", id="max above"),
        pytest.param(
            ("--region", "90,90,5,5"), "lies outside the image.*34 x 26", id="region"
        ),
        pytest.param(
            ("--exposure-ms", 100000),
            "does not take an exposure of 100000 ms, it has 20 ms",
            id="exposure",
        ),
        pytest.param(
            ("--device", "Both"), "'Both' joins 0 cameras.*--device", id="no cameras"
        ),
        pytest.param(
            ("--set", "Camera.PixelType=32bitRGB"), "4 colour components", id="colour"
        ),
    ],
)
def test_one_line_and_nothing_made(
    scope: Callable[..., Said], words: tuple[object, ...], line: str
) -> None:
    said = scope(*words, "--frames", 5)
    assert said.code == 2, said.err
    assert re.search(line, said.error), said.error
    assert not said.folder.exists()


@pytest.mark.parametrize(
    ("change", "encoding", "line"),
    [
        (lambda t: t, "utf-8-sig", "byte order mark.*save it as UTF-8"),
        (
            lambda t: "# 5 \u00b5W\n" + t,
            "cp1252",
            "not UTF-8 text .byte 0xb5 in line 1",
        ),
        (
            lambda t: t + _TWO + "Property,Core,Camera,Both\n",
            "utf-8",
            "joins 2 cameras",
        ),
    ],
    ids=["byte order mark", "code page", "two cameras"],
)
def test_configurations(scope, change, encoding: str, line: str) -> None:
    said = scope("--frames", 5, text=change(_ALL), encoding=encoding)
    assert said.code == 2, said.err
    assert re.search(line, said.error), said.error
    assert not said.folder.exists()


@pytest.mark.parametrize(
    ("words", "safe"),
    [
        ((*_CONTROL, "LED.State", "--max-power", 5, "--start-power", 2), 0.0),
        ((*_CONTROL, "Camera.BeadDensity", "--safe-power", 10), 10.0),
    ],
    ids=["no limits", "never off"],
)
def test_lasers_of_another_kind(scope, words: tuple[object, ...], safe: float) -> None:
    said = scope(*words, "--frames", 40)
    assert said.code == 0, said.err
    row = laser_rows(said.folder)[-1]
    assert float(row["written"]) == float(row["read_back"]) == safe


def test_a_real_property_that_changes_later(scope) -> None:
    """C++: goes to what it was set to by one unit in 0.1 s, on a thread of its own."""
    words = ("--set", "Late.SlewTimePerUnit_s=0.1", "--start-power", 1)
    words = (*_CONTROL, "Late.TestProperty", "--max-power", 5, *words)
    said = scope(*words, "--frames", 60)
    assert said.code == 0, said.err
    reasons = " ".join(row["reason"] for row in laser_rows(said.folder))
    assert "reports late" in reasons
    assert check_books(said.folder)["laser_state"] == "safe"


@pytest.fixture
def python_scope(
    tmp_path: Path, here: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Said]:
    """Runs with a camera and a laser of `fault_devices`, controlled."""
    fault_devices = pytest.importorskip("fault_devices")
    monkeypatch.setattr(fault_devices.Laser, "record", [])
    monkeypatch.setattr(fault_devices.SpotsCamera, "delivered", 0)

    def call(laser: str, *words: object) -> Said:
        path = tmp_path / f"{laser}.cfg"
        path.write_text(
            "#py pyDevice,Cam,fault_devices,SpotsCamera\n"
            f"#py pyDevice,L405,fault_devices,{laser}\n"
            "#py Property,Core,Initialize,1\n"
            "#py Property,Core,Camera,Cam\n"
        )
        power = (*_CONTROL, "L405.Power", "--start-power", 4, "--update-frames", 20)
        return here("--config", path, *power, *words)

    return call


def test_a_late_laser_of_whole_numbers(python_scope) -> None:
    said = python_scope("LateLaser", "--frames", 200)
    assert said.code == 0, said.err
    rows = laser_rows(said.folder)
    assert "takes steps of 1; reports late" in " ".join(row["reason"] for row in rows)
    written = [float(row["written"]) for row in rows if row["reason"].startswith("up")]
    assert all(value == int(value) for value in written)
    report = check_books(said.folder)
    assert report["laser_state"] == "safe"
    assert report["laser_updates"] > 2


def test_a_late_laser_that_is_turned_up_goes_dark(python_scope) -> None:
    # More than there are: it stays on.
    words = ("--target", 50, "--max-power", 20, "--laser-step", 1)
    said = python_scope("LateLyingLaser", "--frames", 300, *words)
    assert said.code == 1
    assert "reports 25" in said.error
    check_books(said.folder)


def test_a_laser_that_stays_dark_is_refused_with_what_to_give(python_scope) -> None:
    said = python_scope("DeafLaser", "--frames", 20)
    assert said.code == 1
    assert re.search(r"reports 0 after 4 .*\(--laser-step\)", said.error)
    assert laser_rows(said.folder)[-1]["written"] == "0.0"
