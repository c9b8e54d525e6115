"""The hand-over: bounded, never blocking, nothing dropped without a word."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from busy import PATIENCE_S
from hypothesis import given
from hypothesis import strategies as st
from pipeline_doubles import HEIGHT, WIDTH, pattern

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.handover import HANDOVER_FULL, RUN_ENDED, Handover
from blinkloop.runtime.records import Frame, Gap, Roi

ROI = Roi(0, 0, WIDTH, HEIGHT)


def ring(capacity: int, **keywords: object) -> Handover:
    return Handover(capacity, HEIGHT, WIDTH, np.dtype(np.uint16), **keywords)  # type: ignore[arg-type]


def frame(index: int) -> Frame:
    return Frame(index, index * 0.1, pattern(index), ROI)


def drain(handover: Handover, size: int = 100) -> list[object]:
    """What the consumer sees, in order, until nothing waits."""
    seen: list[object] = []
    while (batch := handover.take(size, 0)) is not None:
        seen += [*batch.gaps, *(f.index for f in batch.frames)]
        for f in batch.frames:
            np.testing.assert_array_equal(f.pixels, pattern(f.index))
        batch.release()
        if batch.last:
            seen.append("end")
            break
    return seen


def test_frames_come_out_in_order_with_header_and_pixels() -> None:
    handover = ring(8)
    for index in (4, 5, 6):
        assert handover.put(frame(index))
    batch = handover.take(2, 0)
    assert batch is not None
    assert [f.index for f in batch.frames] == [4, 5]
    assert [f.timestamp_s for f in batch.frames] == [0.4, 0.5]
    assert len(batch.arrived_s) == 2
    assert handover.fill == 3
    batch.release()
    batch.release()
    assert handover.fill == 1
    assert drain(handover) == [6]
    assert handover.high_water == 3
    assert not handover.overflowed


def test_latest_drops_the_oldest_and_marks_it_in_place() -> None:
    handover = ring(3, policy="latest")
    for index in range(7):
        handover.put(frame(index))
    assert drain(handover) == [Gap(0, 4, HANDOVER_FULL), 4, 5, 6]
    assert handover.dropped == 4
    assert handover.overflowed


def test_newest_drops_the_incoming_and_marks_it_in_place() -> None:
    handover = ring(3, policy="newest")
    assert [handover.put(frame(index)) for index in range(5)] == [True] * 3 + [
        False
    ] * 2
    assert drain(handover, 2) == [0, 1, 2]
    handover.put(frame(5))
    handover.close()
    assert drain(handover) == [Gap(3, 2, HANDOVER_FULL), 5, "end"]


def test_pixels_held_by_the_consumer_are_never_overwritten() -> None:
    handover = ring(3, policy="latest")
    for index in range(2):
        handover.put(frame(index))
    held = handover.take(2, 0)
    assert held is not None
    for index in range(2, 20):
        handover.put(frame(index))
    for f in held.frames:
        np.testing.assert_array_equal(f.pixels, pattern(f.index))
    with pytest.raises(ValueError, match="read-only"):
        held.frames[0].pixels[0, 0] = 1
    held.release()
    assert drain(handover) == [Gap(2, 17, HANDOVER_FULL), 19]


def test_one_slot_held_drops_what_comes() -> None:
    handover = ring(1)
    handover.put(frame(0))
    held = handover.take(1, 0)
    assert held is not None
    assert not handover.put(frame(1))
    held.release()
    handover.put(frame(2))
    assert drain(handover) == [Gap(1, 1, HANDOVER_FULL), 2]


def test_a_marked_gap_splits_batches_and_stays_apart_from_drops() -> None:
    handover = ring(2, policy="latest")
    handover.put(frame(0))
    handover.mark(Gap(1, 2, "camera"))
    handover.put(frame(3))
    handover.put(frame(4))
    handover.mark(Gap(5, 1, "camera"))
    handover.close()
    assert drain(handover) == [
        Gap(0, 1, HANDOVER_FULL),
        Gap(1, 2, "camera"),
        3,
        4,
        Gap(5, 1, "camera"),
        "end",
    ]


def test_the_producers_error_comes_after_its_frames() -> None:
    handover = ring(4)
    handover.put(frame(0))
    handover.close(OSError("cable"))
    first = handover.take(4, 0)
    assert first is not None
    assert not first.last
    last = handover.take(4, 0)
    assert last is not None
    assert last.last
    assert isinstance(last.error, OSError)


def test_take_times_out_and_wakes_up() -> None:
    handover = ring(4)
    assert handover.take(1, 0.001) is None
    timer = threading.Timer(0.05, handover.put, [frame(0)])
    timer.start()
    batch = handover.take(1, PATIENCE_S)
    timer.join()
    assert batch is not None
    assert batch.frames[0].index == 0


def test_put_does_not_wait_for_a_consumer_that_never_comes() -> None:
    handover = ring(2)
    start = time.perf_counter()
    for index in range(200):
        handover.put(frame(index))
    # A wait would be forever.
    assert time.perf_counter() - start < PATIENCE_S
    assert handover.dropped == 198


def test_wait_blocks_until_there_is_room_and_cancel_ends_the_wait() -> None:
    handover = ring(2, wait=True)
    done = threading.Event()

    def produce() -> None:
        for index in range(5):
            handover.put(frame(index))
        done.set()

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    assert not done.wait(0.05)
    batch = handover.take(1, 1)
    assert batch is not None
    batch.release()
    assert not done.wait(0.05)
    handover.cancel()
    assert done.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert handover.dropped == 2
    assert handover.discard("rest") == (Gap(1, 2, "rest"), Gap(3, 2, RUN_ENDED))
    assert handover.dropped == 4


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        pytest.param(np.zeros((WIDTH, HEIGHT), np.uint16), "announced", id="swapped"),
        pytest.param(np.zeros((HEIGHT, WIDTH), np.float32), "float32", id="type"),
    ],
)
def test_unannounced_pixels_are_refused_and_counted(
    pixels: np.ndarray, what: str
) -> None:
    handover = ring(2)
    with pytest.raises(DeviceError, match=what):
        handover.put(Frame(0, 0.0, pixels, ROI))
    assert handover.dropped == 1


def test_the_other_byte_order_is_the_same_pixels() -> None:
    handover = ring(2)
    handover.put(Frame(3, 0.0, pattern(3).astype(">u2"), ROI))
    assert drain(handover) == [3]


@pytest.mark.parametrize(
    "keywords", [{"capacity": 0}, {"capacity": 2, "policy": "oldest"}]
)
def test_bad_settings_are_refused(keywords: dict[str, object]) -> None:
    with pytest.raises(InputError):
        ring(**keywords)  # type: ignore[arg-type]


@given(
    capacity=st.integers(1, 5),
    policy=st.sampled_from(["latest", "newest"]),
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "lose", "take"]), st.integers(1, 4)),
        max_size=40,
    ),
)
def test_every_number_comes_out_once_and_in_order(
    capacity: int, policy: str, steps: list[tuple[str, int]]
) -> None:
    handover = ring(capacity, policy=policy)
    number, put = 0, 0
    seen: list[int] = []
    frames = 0
    held = None

    def look(batch: object) -> None:
        nonlocal frames
        for gap in batch.gaps:  # type: ignore[attr-defined]
            seen.extend(range(gap.first, gap.first + gap.count))
        for f in batch.frames:  # type: ignore[attr-defined]
            np.testing.assert_array_equal(f.pixels, pattern(f.index))
            seen.append(f.index)
            frames += 1

    for what, count in steps:
        if what == "put":
            for _ in range(count):
                handover.put(frame(number))
                number, put = number + 1, put + 1
        elif what == "lose":
            handover.mark(Gap(number, count, "camera"))
            number += count
        else:
            # The batch before is released only now, so slots stay leased for a while.
            if held is not None:
                held.release()
            held = handover.take(count, 0)
            if held is not None:
                look(held)
        assert handover.fill <= capacity
    handover.close()
    if held is not None:
        held.release()
    while (batch := handover.take(3, 0)) is not None:
        look(batch)
        batch.release()
        if batch.last:
            break
    assert seen == list(range(number))
    assert frames + handover.dropped == put
