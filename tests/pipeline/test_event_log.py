"""Every hole of a run is a row of the event log, and is counted where it happened."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from busy import PATIENCE_S

from blinkloop.errors import InputError
from blinkloop.runtime.accounting import ANALYSIS_FAILED, LOST, missing_by_stage
from blinkloop.runtime.handover import HANDOVER_FULL
from blinkloop.runtime.records import Gap
from blinkloop.runtime.sinks import EVENT_COLUMNS, EventLog, SinkWriter


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_per_hole_readable_while_it_grows(tmp_path: Path) -> None:
    now = iter([10.0, 10.0, 10.5, 12.25, 13.0])
    log = EventLog(tmp_path / "events.csv", clock=lambda: next(now))
    log.open({"model_name": "m"})
    log.write(())
    log.gap(Gap(7, 3, LOST))
    log.gap(Gap(20, 1, HANDOVER_FULL))
    there = rows(tmp_path / "events.csv")
    assert [row["event"] for row in there] == ["start", "lost", "skipped"]
    assert tuple(there[0]) == EVENT_COLUMNS
    assert there[1] == {
        "time_s": "0.500",
        "event": "lost",
        "first_frame": "7",
        "frames": "3",
        "text": LOST,
    }
    books = {"frames_seen": 9, "frames_localized": 5, "failure": "disk\nfull"}
    assert log.close({"run": books}) == {"events": str(tmp_path / "events.csv")}
    assert rows(tmp_path / "events.csv")[-1]["text"] == (
        "seen 9, localized 5; disk full"
    )
    assert log.close({}) == {}


def test_it_overwrites_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    log = EventLog(path)
    log.open({})
    with pytest.raises(InputError, match="cannot be made"):
        EventLog(path).open({})
    log.discard()
    assert not path.exists()


def test_frames_missing_by_stage() -> None:
    gaps = (
        Gap(0, 3, LOST),
        Gap(5, 2, HANDOVER_FULL),
        Gap(9, 1, ANALYSIS_FAILED),
        Gap(11, 4, LOST),
    )
    assert missing_by_stage(gaps) == {"core": 7, "handover": 2, "analysis": 1}
    assert missing_by_stage(()) == {"core": 0, "handover": 0, "analysis": 0}


def test_frames_that_a_broken_sink_misses_are_counted(tmp_path: Path) -> None:
    class Full:
        def open(self, meta) -> None:
            pass

        def write(self, results) -> None:
            raise OSError("disk full")

        def gap(self, gap) -> None:
            pass

        def close(self, meta):
            return {}

    failures = []
    writer = SinkWriter(
        [Full(), EventLog(tmp_path / "e.csv")], 8, lambda *a: failures.append(a)
    )
    writer.open({})
    for n in (2, 3):
        writer.put([object()] * n)
    writer.finish({})
    assert writer.wait(PATIENCE_S)
    assert writer.unwritten == 5
    assert len(failures) == 1
