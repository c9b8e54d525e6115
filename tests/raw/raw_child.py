"""Records frames until it is killed; run by test_raw_store.py."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from raw_doubles import STEP, make_frame, make_recorder

from blinkloop.runtime.records import Gap


def main(path: str) -> None:
    recorder = make_recorder(Path(path), chunk=64)
    recorder.open({"pixel_size_nm": 100.0})
    for index in range(10**9):
        if index % 50 == 49:
            recorder.mark(Gap(index, 1, "lost: on purpose"))
            continue
        recorder.put(make_frame(index))
        if index % STEP == 0:
            print(index, flush=True)
        time.sleep(0.002)


if __name__ == "__main__":
    main(sys.argv[1])
