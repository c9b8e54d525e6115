"""A long run at full speed through the real MMCore: where every frame went.

The C++ DemoCamera of mm-test-adapters, a small chip and no waiting: thousands of frames
per second, far more than the network takes, so that most are skipped (policy `latest`).
Everything else is what `blinkloop run` runs: source, hand-over, network, feedback in
advice, live store, log of events, tables at the end.

The core is asked for exactly N frames, so N is the truth:

    unaccounted = N - (localized + skipped + lost)

and the live store and the list of gaps, read back from the disk, must say the same.
Memory (resident set) is sampled every second, in shorter runs more often. Its slope is
a line through the means of 20 equal stretches after the first fifth of the run, given
with a 95 % interval.

    python benchmarks/soak.py --frames 1000000
    python benchmarks/soak.py --frames 50000 --json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._feedback import make_loop
from blinkloop.cli._live import live_record, make_folder, run_live
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import open_session
from blinkloop.cli._suitability import PixelTap, Suitability
from blinkloop.integrations.micromanager import MicroManagerSource, open_core
from blinkloop.runtime import PipelineSettings
from blinkloop.runtime.raw import RawRecorder, RawStore, RawStoreReader
from blinkloop.runtime.sinks import LiveStoreReader

_STRETCHES = 20
_SKIPPED_SHARE = 0.2
_T_18 = 2.101
"""97.5 % quantile of Student's t with 18 degrees of freedom."""


class Memory:
    """Resident memory against frames, sampled in a thread of its own."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.rows: list[tuple[float, int, float]] = []
        self.frames = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        started = time.perf_counter()
        while not self._done.wait(self._every_s):
            passed_s = time.perf_counter() - started
            self.rows.append((passed_s, self.frames, resident_mb()))


def resident_mb() -> float:
    """Resident memory of this process in MB (10^6 bytes)."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    import psutil

    return float(psutil.Process().memory_info().rss) / 1e6


def memory_slope(rows: npt.NDArray[np.float64]) -> dict[str, float] | None:
    """MB per 10^5 frames with its 95 % interval; None when there is too little.

    Parameters
    ----------
    rows
        (n, 3): seconds, frames, MB.
    """
    if len(rows):
        # Neither while it warms up, nor when the tables are made after the last frame.
        total = rows[-1, 1]
        rows = rows[(rows[:, 1] >= _SKIPPED_SHARE * total) & (rows[:, 1] < total)]
    if len(rows) < 2 * _STRETCHES:
        return None
    means = [part.mean(axis=0) for part in np.array_split(rows, _STRETCHES)]
    x = np.array([mean[1] for mean in means]) / 1e5
    y = np.array([mean[2] for mean in means])
    slope, offset = np.polyfit(x, y, 1)
    scatter = y - slope * x - offset
    error = np.sqrt((scatter**2).sum() / (_STRETCHES - 2) / ((x - x.mean()) ** 2).sum())
    return {
        "mb_per_100k_frames": float(slope),
        "interval_95": float(_T_18 * error),
        "mb_at_start": float(y[0]),
        "mb_at_end": float(y[-1]),
    }


def open_camera(frames: int, height: int, width: int, ring_frames: int):
    """The demo camera at full speed as a source."""
    core = open_core()
    camera = core.getCameraDevice()
    core.setProperty(camera, "PixelType", "16bit")
    core.setProperty(camera, "OnCameraCCDXSize", width)
    core.setProperty(camera, "OnCameraCCDYSize", height)
    # One image made beforehand, again and again: the camera is as fast as can be.
    core.setProperty(camera, "FastImage", 1)
    return MicroManagerSource(
        core, n_frames=frames, exposure_ms=0.1, ring_frames=ring_frames
    )


class Counted(PixelTap):
    """A tap that says how many frames have passed."""

    memory: Memory | None = None

    def frames(self):
        """The source's frames."""
        for number, frame in enumerate(super().frames(), 1):
            if self.memory is not None:
                self.memory.frames = number
            yield frame


def soak(
    frames: int,
    folder: Path,
    *,
    height: int = 32,
    width: int = 32,
    model: str = "astigmatic-small",
    ring_frames: int = 8192,
    raw: bool = False,
    threads: int | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Run it; the numbers."""
    source = open_camera(frames, height, width, ring_frames)
    session = open_session(
        resolve_model(model),
        CameraFlags(values={"pixel_size_nm": 100.0}),
        {},
        source="Micro-Manager",
        threads=threads,
        # The noise of this camera is no image: no need to keep what is found in it.
        threshold=0.95,
    )
    make_folder(folder)
    loop = make_loop(
        session.model.card,
        mode="advise",
        target=0.5,
        on_time=None,
        update_frames=25,
        log=folder / "laser.csv",
    )
    tap = Counted(source)
    memory = Memory(min(1.0, max(0.02, frames / 1e6)))
    tap.memory = memory
    recorder = None
    if raw:
        store = RawStore(folder / "raw.ome.zarr", source.roi, source.dtype)
        recorder = RawRecorder(store)
    with memory:
        run = run_live(
            tap,
            session,
            loop,
            folder,
            suitability=Suitability(session, tap),
            total=frames,
            quiet=quiet,
            settings=PipelineSettings(),
            recorder=recorder,
        )
    record = live_record(run, session)
    return {
        **numbers(frames, record, folder),
        "frames_per_second": record["frames_seen"] / record["elapsed_s"],
        "camera_mb_per_second": record["frames_seen"]
        * height
        * width
        * 2e-6
        / record["elapsed_s"],
        "localized_per_second": record["frames_localized"] / record["elapsed_s"],
        "memory": memory_slope(np.array(memory.rows).reshape(-1, 3)),
        "samples": [[round(x, 2) for x in row] for row in memory.rows],
        "ring_high_water": record["ring_high_water"],
        "latency_ms": record["latency_ms"],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def numbers(frames: int, record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The account, and what the files say of it."""
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    accounted = sum(record[part] for part in parts)
    store = LiveStoreReader(folder / "localizations.zarr")
    listed = sum(gap.count for gap in store.gaps())
    found: dict[str, Any] = {
        "frames_asked": frames,
        "frames_seen": record["frames_seen"],
        **{part: record[part] for part in parts},
        "frames_missing": record["frames_missing"],
        "unaccounted": frames - accounted,
        "unaccounted_in_files": frames - len(store.frames()) - listed,
        "failure": record["failure"],
    }
    if "raw" in record:
        rows = len(RawStoreReader(folder / "raw.ome.zarr").frames())
        raw = record["raw"]
        found["raw"] = raw
        found["unaccounted_in_raw"] = frames - rows - raw["frames_unwritten"]
    return found


def show(found: dict[str, Any]) -> None:
    """Print it for a person."""
    found = {key: value for key, value in found.items() if key != "samples"}
    for key, value in found.items():
        if isinstance(value, float):
            value = f"{value:.1f}"
        if key != "memory":
            print(f"{key:22s} {value}")
    memory = found["memory"]
    if memory is None:
        print("memory                 too few samples for a slope")
        return
    print(
        f"memory                 {memory['mb_per_100k_frames']:+.2f} +- "
        f"{memory['interval_95']:.2f} MB per 10^5 frames (95 %), "
        f"{memory['mb_at_start']:.0f} -> {memory['mb_at_end']:.0f} MB"
    )


def main() -> int:
    """Exit code 1 when a frame is unaccounted for or the run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--size", default="32x32", metavar="HxW")
    parser.add_argument("--model", default="astigmatic-small")
    parser.add_argument("--ring-frames", type=int, default=8192)
    parser.add_argument("--raw", action="store_true", help="keep raw data too")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--out", type=Path, help="folder to keep; default: none")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    height, width = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as temporary:
        found = soak(
            options.frames,
            options.out or Path(temporary) / "soak",
            height=height,
            width=width,
            model=options.model,
            ring_frames=options.ring_frames,
            raw=options.raw,
            threads=options.threads,
        )
    print(json.dumps(found)) if options.json else show(found)
    books = ("unaccounted", "unaccounted_in_files", "unaccounted_in_raw")
    wrong = any(found.get(name) for name in books)
    return 1 if wrong or found["failure"] else 0


if __name__ == "__main__":
    sys.exit(main())
