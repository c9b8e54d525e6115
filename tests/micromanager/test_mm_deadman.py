"""The dead man opens a real C++ device in a core of its own, once the run is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from busy import PATIENCE_S, slowdown, wait_for

from blinkloop.errors import DeviceError
from blinkloop.integrations.micromanager import deadman, deadman_bridge
from blinkloop.integrations.micromanager.deadman import (
    CoreSafeAction,
    core_plan,
    device_lines,
)
from blinkloop.integrations.micromanager.deadman_bridge import (
    BridgeSafeAction,
    bridge_plan,
)

CONFIG = """\
# a microscope
Property,Core,Initialize,0
Device,DHub,DemoCamera,DHub
Device,COM3,SerialManager,COM3
Device,COM4,SerialManager,COM4
Device,Camera,DemoCamera,DCam
Device,DA405,DemoCamera,D-DA
Device,Laser,Vendor,Laser
Property,Laser,Port,COM3
Property,Camera,MaximumExposureMs,10000.0
Property,COM3,BaudRate,115200
Property,COM4,BaudRate,9600
Parent,DA405,DHub
Property,Core,Initialize,1
Property,Laser,Emission,On
ConfigGroup,Channel,DAPI,Laser,Power,50
"""
DA = [
    "Property,Core,Initialize,0",
    "Device,DHub,DemoCamera,DHub",
    "Device,DA405,DemoCamera,D-DA",
    "Parent,DA405,DHub",
    "Property,Core,Initialize,1",
]


def test_only_the_laser_and_what_it_hangs_on_is_opened() -> None:
    assert device_lines(CONFIG, "DA405") == DA
    assert device_lines(CONFIG, "Laser") == [
        "Property,Core,Initialize,0",
        "Device,COM3,SerialManager,COM3",
        "Device,Laser,Vendor,Laser",
        "Property,Laser,Port,COM3",
        "Property,COM3,BaudRate,115200",
        "Property,Core,Initialize,1",
    ]
    assert device_lines(CONFIG, "Nothing") == []
    assert device_lines("", "DA405") == []


def action_of(core, safe: float = 0.0, device: str = "DA405") -> CoreSafeAction:
    return CoreSafeAction(
        DA, device, "Voltage", safe, 0.01, list(core.getDeviceAdapterSearchPaths())
    )


def test_safe_value_through_a_core_of_its_own(demo_core) -> None:
    action = action_of(demo_core, 1.5)
    action.prepare()
    assert action.act() == "DA405.Voltage set to 1.500000, reads 1.5"
    assert action.act() == "DA405.Voltage set to 1.500000, reads 1.5"
    missing = action_of(demo_core, device="Gone")
    missing.prepare()
    with pytest.raises(RuntimeError, match="Gone"):
        missing.act()


def test_what_ends_with_the_process_has_no_plan(demo_core, tmp_path) -> None:
    config = tmp_path / "scope.cfg"
    config.write_text(CONFIG, "utf-8")
    said = core_plan(demo_core, "DA405", "Voltage", 0.0, config)
    assert said == "DA405 is simulated (DemoCamera) in this process and ends with it"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "no configuration file"),
        ("gone.cfg", "cannot be read"),
        ("b.cfg", "not in"),
    ],
)
def test_why_it_cannot_is_said(demo_core, tmp_path, monkeypatch, name, said) -> None:
    monkeypatch.setattr(deadman, "SIMULATED", ())
    (tmp_path / "b.cfg").write_text("Device,Other,X,Y\n", "utf-8")
    config = tmp_path / name if name else None
    reason = core_plan(demo_core, "DA405", "Voltage", 0.0, config)
    assert isinstance(reason, str)
    assert said in reason


PROGRAM = """
import sys, time
from blinkloop.integrations.micromanager import MMLaser, deadman, new_core
from blinkloop.runtime.deadman import DeadMan
from blinkloop.runtime.feedback import LaserGuard, LaserLimits
deadman.SIMULATED = ()  # as if it were a real one
core = new_core(python_devices=False)
core.loadSystemConfiguration(sys.argv[1])
plan = deadman.core_plan(core, "DA405", "Voltage", 0.0, sys.argv[1], log=sys.argv[2])
guard = LaserGuard(
    MMLaser(core, "DA405", "Voltage"),
    LaserLimits(max_value=10.0),
    mode="control",
    deadman=DeadMan(plan),
)
guard.arm(3.0)
print("on", flush=True)
while True:
    time.sleep(0.01)
    guard.alive()
    guard.command(3.0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_killed_run_with_a_cpp_laser(demo_core, tmp_path: Path) -> None:
    """DHub and D-DA of the run and of the dead man are two; it proves the way alone."""
    config, log = tmp_path / "scope.cfg", tmp_path / "deadman.log"
    config.write_text("\n".join(DA), "utf-8")
    run = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, config, log],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline() == "on\n"
        time.sleep(0.1)
        slower = slowdown()
        killed_s = time.time()
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert wait_for(lambda: log.exists() and log.read_text("utf-8").endswith("\n"))
    slower = max(slower, slowdown())
    row = json.loads(log.read_text("utf-8").splitlines()[0])
    assert row["event"] == "the run died; DA405.Voltage set to 0.000000, reads 0"
    assert row["time_s"] - killed_s < 1.0 * slower, row


class BridgeDouble:
    """A double of pycromanager's Core: takes text only, as Java does."""

    def __init__(self, value: str = "7.0", stuck: bool = False) -> None:
        self.value, self.stuck, self.broken = value, stuck, False

    def set_property(self, device: str, name: str, text: str) -> None:
        if self.broken:
            raise OSError("socket closed")
        assert (device, name, type(text)) == ("Laser", "Power", str)
        self.value = self.value if self.stuck else text

    def get_property(self, device: str, name: str) -> str:
        return self.value


def test_bridge_double() -> None:
    bridges: list[BridgeDouble] = []

    def connect(port: int) -> BridgeDouble:
        assert port == 4827
        bridges.append(BridgeDouble())
        return bridges[-1]

    settings = bridge_plan("Laser", "Power", 0.0).settings
    action = BridgeSafeAction(**settings, connect=connect)
    action.prepare()
    assert not action.needs_owner_gone
    assert action.act() == "Laser.Power set to 0, reads 0"
    bridges[0].broken = True
    with pytest.raises(OSError, match="socket"):
        action.act()
    assert action.act() == "Laser.Power set to 0, reads 0"
    assert len(bridges) == 2
    bridges[1].stuck, bridges[1].value = True, "9"
    with pytest.raises(DeviceError, match="reports 9 after 0"):
        action.act()


def test_micro_manager_that_never_answers(monkeypatch) -> None:
    """Else the dead man would wait for ever, and nobody would learn of it."""
    monkeypatch.setattr(deadman_bridge, "_ANSWER_S", 0.05)
    answers = threading.Event()

    class Silent(BridgeDouble):
        def set_property(self, device: str, name: str, text: str) -> None:
            assert answers.wait(PATIENCE_S)
            super().set_property(device, name, text)

    settings = bridge_plan("Laser", "Power", 0.0).settings
    action = BridgeSafeAction(**settings, connect=lambda port: Silent())
    action.prepare()
    with pytest.raises(DeviceError, match="on port 4827 has not answered"):
        action.act()
    answers.set()
    monkeypatch.setattr(deadman_bridge, "_ANSWER_S", PATIENCE_S)
    assert action.act() == "Laser.Power set to 0, reads 0"
