"""The dead man: a run is killed for real, at random moments; a file is the laser."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deadman_doubles import FileLaser, FileSafeAction, on_rows, plan_of, rows, wait_for
from feedback_doubles import ClockDouble, LaserDouble

from blinkloop.errors import DeviceError
from blinkloop.runtime.deadman import DeadMan, DeadManPlan
from blinkloop.runtime.deadman.process import ARM, BEAT, DISARM, QUIT, Watcher
from blinkloop.runtime.feedback import LaserGuard, LaserLimits

HERE = str(Path(__file__).parent)
KILLS = 20
posix = pytest.mark.skipif(sys.platform == "win32", reason="forks and stops processes")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@posix
def test_killed_runs_leave_the_laser_dark(tmp_path: Path) -> None:
    """How soon is measured, not tested: docs/feedback.md."""
    program = [sys.executable, f"{HERE}/deadman_doubles.py", tmp_path, str(KILLS)]
    out = subprocess.run(program, capture_output=True, text=True, check=True)
    kills = json.loads(out.stdout)
    assert all(kill["started"] for kill in kills), kills
    assert {(k["last_who"], k["last_value"]) for k in kills} == {("dead man", 0.0)}
    assert len(kills) == KILLS
    assert len({kill["commands"] for kill in kills}) > 1  # at different moments


@posix
@pytest.mark.parametrize("exclusive", [False, True])
def test_run_that_hangs(tmp_path: Path, exclusive: bool) -> None:
    """Stopped, it neither dies nor beats; a device it holds alone costs it its life."""
    laser = tmp_path / "laser.jsonl"
    program = (
        "import sys; from pathlib import Path; from deadman_doubles import session; "
        f"session(Path(sys.argv[1]), True, exclusive={exclusive}, hang_s=1.5, "
        "kill_s=1.5)"
    )
    run = subprocess.Popen([sys.executable, "-c", program, laser])
    try:
        assert wait_for(lambda: on_rows(laser))
        assert wait_for(lambda: rows(laser)[-1]["who"] == "dead man")
        assert rows(laser)[-1]["value"] == 0.0
        ended = wait_for(lambda: run.poll() is not None, 60.0 if exclusive else 0.3)
        assert ended is exclusive
    finally:
        run.kill()
        run.wait()
    log = laser.with_suffix(".log").read_text("utf-8")
    assert ("was ended" in log) is exclusive
    assert log.count("file set to 0") == 1


def watch(path: Path, messages: list[bytes], **more: object) -> tuple[bool, list[str]]:
    """Feed a watcher; its verdict and its log."""
    plan = plan_of(path, **more)
    waiting: queue.Queue[bytes] = queue.Queue()
    for message in messages:
        waiting.put(message)
    verdict = Watcher(plan, plan.make_action(), waiting).watch()
    log = Path(plan.log)
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    return verdict, [json.loads(line)["event"] for line in lines]


@pytest.mark.parametrize(
    ("messages", "acts"),
    [
        ([b""], False),
        ([ARM, BEAT, b""], True),
        ([ARM, DISARM, b""], False),
        ([ARM, DISARM, QUIT], False),
        ([ARM, QUIT, b""], True),
        ([QUIT], False),
        ([ARM, DISARM, ARM, b""], True),
    ],
    ids=["never on", "died", "died dark", "left", "left unsafe", "unused", "again"],
)
def test_it_acts_when_the_laser_may_be_on(
    tmp_path: Path, messages: list[bytes], acts: bool
) -> None:
    laser = tmp_path / "laser.jsonl"
    verdict, log = watch(laser, messages)
    assert verdict
    assert [row["who"] for row in rows(laser)] == ["dead man" if acts else "nobody"]
    assert log == (["the run died; file set to 0"] if acts else [])


def test_busy_device_is_tried_again(tmp_path: Path) -> None:
    laser = tmp_path / "laser.jsonl"
    verdict, log = watch(laser, [ARM, b""], busy=3, retry_s=0.01)
    assert verdict
    assert [row["value"] for row in rows(laser)] == [0.0]
    assert log[0] == "the run died; not safe yet: OSError: port is busy"
    assert len(log) == 2


def test_device_that_never_answers_is_said(tmp_path: Path) -> None:
    laser = tmp_path / "laser.jsonl"
    verdict, log = watch(laser, [ARM, b""], busy=10**6, retry_s=0.01, give_up_s=0.1)
    assert not verdict
    assert "NOT SAFE" in log[-1]


def test_forked_child_that_keeps_the_pipe_does_not_fool_it(tmp_path: Path) -> None:
    """The pipe stays open, but the parent is another one."""
    parents = iter([7, 7, 7])
    plan = plan_of(tmp_path / "laser.jsonl")
    waiting: queue.Queue[bytes] = queue.Queue()
    waiting.put(ARM)
    watcher = Watcher(
        plan, plan.make_action(), waiting, parent=lambda: next(parents, 1)
    )
    if sys.platform != "win32":
        assert watcher.watch()
        assert rows(tmp_path / "laser.jsonl")[-1]["who"] == "dead man"


def test_guard_and_a_real_dead_man(tmp_path: Path) -> None:
    laser = tmp_path / "laser.jsonl"
    deadman = DeadMan(plan_of(laser))
    guard = LaserGuard(
        FileLaser(laser), LaserLimits(max_value=50.0), mode="control", deadman=deadman
    )
    guard.arm(3.0)
    assert deadman.problem is None
    assert guard.close()
    # On a busy machine it may take its leave later than `close` waits.
    assert wait_for(lambda: (deadman.close(), not _lives(deadman.pid))[1])
    assert [(r["who"], r["value"]) for r in rows(laser)] == [("run", 3.0), ("run", 0.0)]


def test_dead_man_that_dies_is_missed(tmp_path: Path) -> None:
    deadman = DeadMan(plan_of(tmp_path / "laser.jsonl"))
    clock = ClockDouble()
    guard = LaserGuard(
        LaserDouble(),
        LaserLimits(max_value=50.0),
        mode="control",
        deadman=deadman,
        clock=clock,
        watchdog=False,
    )
    guard.arm(3.0)
    guard.check()
    os.kill(deadman.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    assert wait_for(lambda: (guard.check(), deadman.problem)[1] is not None)
    for _ in range(3):
        guard.check()
    said = [r.reason for r in guard.log.rows() if r.reason.startswith("dead man:")]
    assert len(said) == 1
    assert guard.deadman_problem is not None
    assert guard.state == "armed"
    assert guard.close()


def test_what_it_cannot_do_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="not ready: no such port"):
        DeadMan(plan_of(tmp_path / "laser.jsonl", broken="no such port"))
    with pytest.raises(DeviceError, match="not ready: No module named 'nowhere'"):
        DeadMan(DeadManPlan("nowhere:at_all"))
    with pytest.raises(DeviceError, match="was not started"):
        DeadMan(plan_of(tmp_path / "laser"), command=[str(tmp_path / "nothing")])
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(DeviceError, match="no answer within"):
        DeadMan(plan_of(tmp_path / "laser"), command=sleeper, start_s=0.1)


def test_plan_goes_through_a_pipe(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "laser µm.jsonl", exclusive=True)
    again = DeadManPlan.from_line(plan.to_line())
    assert again == plan
    action = again.make_action()
    assert isinstance(action, FileSafeAction)
    assert action.needs_owner_gone


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    time.sleep(0.01)
    return True
