"""Overhead of the pipeline without the network, per frame.

A double stands in for the localizer (its results are made beforehand, so it costs next
to nothing) and one for the camera. Measured per frame: the time the camera thread
spends in the hand-over, and the time from the hand-over to the result, with results
kept in memory and with the live store written beside it.

    python benchmarks/overhead.py --frames 3000 --fps 500 --json
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.runtime.pipeline import Pipeline, PipelineSettings
from blinkloop.runtime.records import Frame, FrameResult, Gap, Roi
from blinkloop.runtime.sinks import LiveStore, MemorySink
from blinkloop.schema import LOCALIZATION_DTYPE


class DoubleCamera:
    """Frames at a steady rate from one buffer; times each hand-over."""

    def __init__(self, frames: int, fps: float, height: int, width: int) -> None:
        self._count, self._period_s = frames, 1 / fps
        rng = np.random.default_rng(0)
        self._pixels = rng.integers(90, 400, (height, width), dtype=np.uint16)
        self._stop = threading.Event()
        self.roi = Roi(0, 0, width, height)
        self.dtype = np.dtype(np.uint16)
        self.lost = 0
        self.handover_s: list[float] = []

    def camera_facts(self) -> Mapping[str, Any]:
        """Nothing is known of a double."""
        return {}

    def start(self) -> None:
        """Nothing to start."""

    def frames(self) -> Iterator[Frame]:
        """Yield frames; the time until the next one is asked for is the hand-over's."""
        begin = time.perf_counter()
        for index in range(self._count):
            wait_s = begin + index * self._period_s - time.perf_counter()
            if wait_s > 0 and self._stop.wait(wait_s):
                return
            start = time.perf_counter()
            yield Frame(index, start - begin, self._pixels, self.roi)
            self.handover_s.append(time.perf_counter() - start)

    def stop(self) -> None:
        """End at the next frame."""
        self._stop.set()


class DoubleLocalizer:
    """Gives each frame the same localizations, at once (not one frame late)."""

    def __init__(self, localizations: int, height: int, width: int) -> None:
        rng = np.random.default_rng(1)
        self._rows = np.zeros(localizations, LOCALIZATION_DTYPE)
        for name in LOCALIZATION_DTYPE.names or ():
            self._rows[name] = rng.uniform(0, 100, localizations)
        blocks = np.zeros((-(-height // 8), -(-width // 8)), np.float32)
        self._result = FrameResult(
            0, 0.0, Roi(0, 0, width, height), 0, self._rows, False, 1.0, 0.1, blocks
        )

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """One result per frame."""
        results = []
        for frame in frames:
            rows = self._rows.copy()
            rows["frame"] = frame.index
            results.append(
                replace(
                    self._result,
                    index=frame.index,
                    timestamp_s=frame.timestamp_s,
                    localizations=rows,
                )
            )
        return results

    def flush(self) -> list[FrameResult]:
        """Nothing is held back."""
        return []

    def close(self) -> None:
        """Nothing to close."""


class Arrivals:
    """Observer that does nothing but be there."""

    def observe(self, results: Sequence[FrameResult]) -> None:
        """See results."""

    def gap(self, gap: Gap) -> None:
        """See a gap."""

    def close(self) -> None:
        """Nothing to close."""


def measure(
    frames: int, fps: float, height: int, width: int, localizations: int, store: bool
) -> dict[str, Any]:
    """One run; times in ms per frame."""
    camera = DoubleCamera(frames, fps, height, width)
    with tempfile.TemporaryDirectory() as folder:
        sink = LiveStore(Path(folder) / "overhead.zarr") if store else MemorySink()
        pipeline = Pipeline(
            camera,
            DoubleLocalizer(localizations, height, width),
            [sink],
            [Arrivals()],
            PipelineSettings(),
        )
        cpu_s = time.process_time()
        report = pipeline.run()
        cpu_s = time.process_time() - cpu_s
    handover_ms = np.array(camera.handover_s) * 1e3
    return {
        "sink": "live store" if store else "memory",
        "height": height,
        "width": width,
        "frames": report.frames_seen,
        "frames_per_second": report.frames_seen / max(report.elapsed_s, 1e-9),
        "localizations_per_frame": localizations,
        "frames_skipped": report.frames_skipped,
        "handover_ms": {
            "p50": float(np.quantile(handover_ms, 0.5)),
            "p99": float(np.quantile(handover_ms, 0.99)),
            "max": float(handover_ms.max()),
        },
        "latency_ms": dict(report.latency_ms),
        "cpu_ms_per_frame": cpu_s / max(report.frames_seen, 1) * 1e3,
        "writer_waits": report.writer_waits,
        "failure": report.failure,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 when a run failed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--fps", type=float, default=500.0, help="of the double camera")
    parser.add_argument("--size", default="256x256", help="height x width in px")
    parser.add_argument("--localizations", type=int, default=40, help="per frame")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    height, width = (int(part) for part in options.size.split("x"))
    rows = [
        measure(
            options.frames, options.fps, height, width, options.localizations, store
        )
        for store in (False, True)
    ]
    if options.json:
        print(json.dumps(rows))
    else:
        print(
            f"pipeline without the network ({options.size}, {options.fps:g} frames/s, "
            f"{options.localizations} localizations per frame), Python "
            f"{platform.python_version()}, NumPy {np.__version__}"
        )
        for row in rows:
            put, out = row["handover_ms"], row["latency_ms"]
            print(
                f"{row['sink']:>10}: hand-over p50 {put['p50']:.3f} p99 "
                f"{put['p99']:.3f} ms; to the result p50 {out['p50']:.3f} p99 "
                f"{out['p99']:.3f} ms; CPU {row['cpu_ms_per_frame']:.3f} ms per frame; "
                f"{row['frames_skipped']} of {row['frames']} skipped"
            )
    return int(any(row["failure"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
