"""Writes a live store until it is killed; run by test_live_store.py."""

from __future__ import annotations

import sys
import time

from pipeline_doubles import make_result

from blinkloop.runtime.records import Gap
from blinkloop.runtime.sinks import LiveStore


def main(path: str) -> None:
    store = LiveStore(path, flush_s=0.05)
    store.open({"pixel_size_nm": 100.0})
    start, said = time.perf_counter(), False
    for index in range(0, 10**9, 50):
        store.write([make_result(number) for number in range(index, index + 49)])
        store.gap(Gap(index + 49, 1, "skipped"))
        if not said and time.perf_counter() - start > 0.4:
            print("written", flush=True)
            said = True
        time.sleep(0.001)


if __name__ == "__main__":
    main(sys.argv[1])
