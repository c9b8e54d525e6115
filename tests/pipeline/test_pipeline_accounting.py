from __future__ import annotations

import pytest

from blinkloop.errors import DeviceError
from blinkloop.runtime.accounting import ANALYSIS_FAILED, LOST, LOST_AT_END, Ledger
from blinkloop.runtime.records import Gap


def test_a_clean_run_adds_up() -> None:
    ledger = Ledger()
    for index in (5, 6, 9):
        gap = ledger.arrived(index)
        if gap is not None:
            assert gap == Gap(7, 2, LOST)
            ledger.missing(gap)
        ledger.pushed([index], [float(index)])
    assert ledger.localized([5, 6]) == ([5.0, 6.0], [])
    end = ledger.lost_at_end(3)
    assert end == Gap(10, 3, LOST_AT_END)
    ledger.missing(end)
    assert ledger.localized([9]) == ([9.0], [])
    account = ledger.close(dropped=0)
    assert account.problems == ()
    assert (account.seen, account.localized, account.lost) == (8, 3, 5)
    assert account.delivered == 3
    assert account.end == 13


def test_nothing_seen() -> None:
    account = Ledger().close(dropped=0)
    assert account.seen == account.end == 0
    assert account.problems == ()


@pytest.mark.parametrize("second", [4, 5], ids=["backwards", "repeated"])
def test_numbers_must_rise(second: int) -> None:
    ledger = Ledger()
    ledger.arrived(5)
    with pytest.raises(DeviceError, match="must rise"):
        ledger.arrived(second)


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(DeviceError, match="from 0"):
        Ledger().arrived(-1)


def test_frames_without_a_result_are_skipped() -> None:
    ledger = Ledger()
    for index in range(6):
        ledger.arrived(index)
    ledger.pushed(range(6), [0.0] * 6)
    times, gaps = ledger.localized([0, 2])
    assert len(times) == 2
    assert gaps == [Gap(1, 1, ANALYSIS_FAILED)]
    rest = ledger.fail_pending()
    assert rest == [Gap(3, 3, ANALYSIS_FAILED)]
    for gap in (*gaps, *rest):
        ledger.missing(gap)
    account = ledger.close(dropped=0)
    assert account.problems == ()
    assert account.skipped == 4


def arrived(count: int) -> Ledger:
    ledger = Ledger()
    for index in range(count):
        ledger.arrived(index)
    return ledger


def test_a_result_that_vanished_is_found() -> None:
    problems = arrived(3).close(dropped=0).problems
    assert any("3 frames seen but 0 localized" in problem for problem in problems)


def test_a_result_of_no_frame_is_found() -> None:
    ledger = arrived(1)
    ledger.pushed([0], [0.0])
    ledger.localized([0, 0, 7])
    assert any("2 results" in text for text in ledger.close(dropped=0).problems)


def test_a_drop_that_nobody_listed_is_found() -> None:
    ledger = arrived(2)
    ledger.pushed([0], [0.0])
    ledger.localized([0])
    assert any("gaps list 0" in text for text in ledger.close(dropped=1).problems)
