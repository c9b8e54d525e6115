"""When a virtual camera draws and hands out."""

import pytest

from blinkloop.integrations.virtual.pace import Pace


class Clock:
    """A double: time passes by sleeping and drawing."""

    def __init__(self) -> None:
        self.now_s = 5.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now_s += seconds


def hand_out(drawing_s: list[float], exposure_s: float) -> tuple[list[float], Pace]:
    clock = Clock()
    pace = Pace(clock, clock.sleep)
    handed = []
    for took_s in drawing_s:
        pace.before_drawing()
        clock.now_s += took_s
        pace.until_due(exposure_s)
        handed.append(clock.now_s - 5.0)
    return handed, pace


def test_frames_are_handed_out_at_the_end_of_each_exposure() -> None:
    handed, pace = hand_out([0.002] * 50, 0.010)
    assert handed == pytest.approx([0.010 * n for n in range(1, 51)])
    assert pace.late_s == 0


@pytest.mark.parametrize("drawing_s", [0.0085, 0.0099, 0.01])
def test_the_pause_before_drawing_makes_no_frame_late(drawing_s: float) -> None:
    handed, pace = hand_out([drawing_s] * 50, 0.010)
    assert handed == pytest.approx([0.010 * n for n in range(1, 51)])
    assert pace.late_s == 0


def test_there_is_a_pause_only_where_there_is_time() -> None:
    clock = Clock()
    pace = Pace(clock, clock.sleep)
    pace.before_drawing()
    assert clock.slept == []  # not known yet
    clock.now_s += 0.002
    pace.until_due(0.010)
    assert clock.slept == pytest.approx([0.008])
    pace.before_drawing()
    assert clock.slept[-1] == pytest.approx(0.001)
    clock.now_s += 0.012
    pace.until_due(0.010)  # 3 ms late: caught up with what follows
    before = len(clock.slept)
    pace.before_drawing()
    assert len(clock.slept) == before


def test_a_computer_that_is_too_slow_holds_the_clock_up() -> None:
    handed, pace = hand_out([0.030] * 20, 0.010)
    # A tenth of a second it hopes to make up for.
    assert handed == pytest.approx([0.030 * n for n in range(1, 21)])
    assert pace.late_s == pytest.approx(20 * 0.020 - 0.1)
