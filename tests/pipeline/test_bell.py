"""One thread waits, others ring: none is missed, none is heard twice."""

from __future__ import annotations

import threading
import time

from blinkloop.runtime.bell import Bell

PATIENCE_S = 120


def test_every_item_is_heard_of_whoever_is_faster() -> None:
    lock, items, heard = threading.RLock(), [], 0
    bell = Bell(lock)
    count = 20_000

    def produce() -> None:
        for number in range(count):
            with lock:
                items.append(number)
                bell.ring()
            if number % 7 == 0:
                time.sleep(0)

    producer = threading.Thread(target=produce)
    producer.start()
    end = time.perf_counter() + PATIENCE_S
    while heard < count and time.perf_counter() < end:
        with lock:
            if not items:
                # Often shorter than it takes the producer to come back.
                bell.wait(1e-5 if heard % 2 else PATIENCE_S)
            heard += len(items)
            items.clear()
    producer.join(PATIENCE_S)
    assert heard == count


def test_it_rings_for_nobody_and_is_not_heard_later() -> None:
    lock = threading.RLock()
    bell = Bell(lock)
    with lock:
        bell.ring()
        bell.ring()
        start = time.perf_counter()
        bell.wait(0.05)
        assert time.perf_counter() - start >= 0.045


def test_the_lock_is_free_while_it_waits_and_held_afterwards() -> None:
    lock = threading.RLock()
    bell = Bell(lock)
    order = []

    def other() -> None:
        with lock:
            order.append("other")
            bell.ring()

    with lock:
        thread = threading.Thread(target=other)
        thread.start()
        bell.wait(PATIENCE_S)
        order.append("waiter")
        free = []
        probe = threading.Thread(target=lambda: free.append(lock.acquire(False)))
        probe.start()
        probe.join(PATIENCE_S)
        assert free == [False]
    thread.join(PATIENCE_S)
    assert order == ["other", "waiter"]
