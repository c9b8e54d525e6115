"""The laser log: a row per command, on disk at once, never in the way."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from io import FileIO
from pathlib import Path

import pytest
from feedback_doubles import LaserDouble, estimate
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import (
    LOG_COLUMNS,
    CommandLog,
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
)
from blinkloop.runtime.feedback.log import make_row


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_log_file_has_a_row_per_command(tmp_path: Path) -> None:
    path = tmp_path / "laser.csv"
    laser = LaserDouble()
    for run in range(2):
        guard = LaserGuard(
            laser,
            LaserLimits(max_value=50.0),
            mode="control",
            log=CommandLog(path),
            watchdog=False,
        )
        guard.arm(1.0 + run)
        guard.command(
            1.5, estimate=estimate(0.3, 0.02, index=24), target_per_um2=0.5, reason="up"
        )
        rows = rows_of(path)
        assert len(rows) == 3 * run + 2  # flushed, not only at the end
        guard.close()
    rows = rows_of(path)
    assert tuple(rows[0]) == LOG_COLUMNS
    assert [float(r["written"]) for r in rows] == [1.0, 1.5, 0.0, 2.0, 1.5, 0.0]
    command = rows[1]
    assert (command["frame"], command["reason"]) == ("24", "up")
    got = [float(command[k]) for k in ("smoothed_per_um2", "target_per_um2")]
    assert got == [0.3, 0.5]


def test_log_refuses_what_it_did_not_write(tmp_path: Path) -> None:
    other = tmp_path / "notes.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no laser log"):
        CommandLog(other)
    assert other.read_text() == "a,b\n1,2\n"
    with pytest.raises(InputError, match="cannot be written"):
        CommandLog(tmp_path / "missing" / "laser.csv")
    binary = tmp_path / "x.bin"
    binary.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="cannot be written"):
        CommandLog(binary)


@given(
    st.text(st.characters(exclude_categories=("Cs",))),
    st.floats(),
    st.integers(-1, 10**9),
)
def test_rows_are_those_of_the_module_csv(text: str, value: float, frame: int) -> None:
    density = estimate(value, value, index=frame)
    row = make_row(
        value, "control", value, 1e-7, math.nan, density, 0.5, math.inf, text
    )
    expected = io.StringIO(newline="")
    csv.writer(expected).writerow(row)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "laser.csv"
        log = CommandLog(path)
        log.append(row)
        log.close()
        head, _, line = path.read_bytes().partition(b"\r\n")
    assert log.error is None
    assert head.decode() == ",".join(LOG_COLUMNS)
    assert line.decode() == expected.getvalue()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
def test_full_disk_does_not_stop_the_laser_from_going_dark() -> None:
    log = CommandLog(keep=5)
    log._file = FileIO("/dev/full", "w")
    log._path = Path("/dev/full")
    laser = LaserDouble()
    guard = LaserGuard(
        laser, LaserLimits(max_value=50.0), mode="control", log=log, watchdog=False
    )
    guard.arm(10.0)
    assert log.error is not None
    assert "stopped" in log.error
    guard.command(11.0)
    assert guard.close()
    assert laser.value == 0.0
    assert (log.total, len(log.rows())) == (3, 3)


def test_rows_a_frame_caused_wait_until_all_observers_have_seen_it(
    tmp_path: Path,
) -> None:
    """Not longer: and what no frame caused takes them along, in order."""
    path = tmp_path / "laser.csv"
    guard = LaserGuard(
        LaserDouble(),
        LaserLimits(max_value=50.0),
        mode="control",
        log=CommandLog(path),
        watchdog=False,
    )
    guard.arm(1.0)
    loop = FeedbackLoop(
        DensityEstimator(100.0),
        FeedbackController(
            ControllerSettings(target_per_um2=0.5, start_power=1.0, max_power=50.0)
        ),
        guard,
    )
    guard.command(1.0, estimate=estimate(0.3), reason="alone")
    assert len(rows_of(path)) == 2  # nobody has promised to say when
    loop.afterwards()

    def written() -> list[str]:
        return [row["reason"] for row in rows_of(path)]

    guard.command(1.1, estimate=estimate(0.3, index=1), reason="first")
    assert written() == ["start", "alone"]
    loop.afterwards()
    assert written() == ["start", "alone", "first"]
    guard.command(1.2, estimate=estimate(0.3, index=2), reason="second")
    guard.check()  # the watchdog, when an observer hangs
    assert written()[3:] == ["second"]
    guard.command(1.3, estimate=estimate(0.3, index=3), reason="third")
    guard.make_safe("test")
    assert written()[4:] == ["third", "safe: test"]
    guard.arm(1.0)
    guard.command(1.1, estimate=estimate(0.3, index=4), reason="fourth")
    guard.log.close()
    assert written()[6:] == ["start", "fourth"]
    assert [row.reason for row in guard.log.rows()] == written()
    guard.close()
