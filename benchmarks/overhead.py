"""What the runtime adds to the network, per frame.

Everything of a live run is real but the camera (frames at a steady rate from one
buffer), the network (its output is made beforehand) and the laser (a number): window,
hand-over, detection rows, density, controller with guard and log, live store and event
log. Measured per frame: the time the camera's thread spends in the hand-over; the time
from the hand-over of the frame that completes a result until that result has passed the
feedback, until the laser's log is written, and until the feedback has learned from it
for later frames, all without the double network's; processor time of all threads,
likewise.

    python benchmarks/overhead.py --frames 3000 --fps 100 --json
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
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._feedback import make_loop
from blinkloop.runtime import (
    BackendOutput,
    CameraMaps,
    LiveStore,
    ModelFile,
    StreamLocalizer,
    read_model,
)
from blinkloop.runtime.feedback import CommandLog
from blinkloop.runtime.pipeline import Pipeline
from blinkloop.runtime.records import Frame, FrameResult, Gap, Roi
from blinkloop.runtime.sinks import EventLog
from blinkloop.runtime.steady import steady
from blinkloop.schema import DETECTION_COLUMNS

_STORE_PAUSE_S = 0.003
"""As in a live run; see `blinkloop.cli._live`."""
_WALK_BYTES = 8 << 20
"""Several times the second-level cache of a core."""


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
        self.put_s = np.full(frames, np.nan)
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
            self.put_s[index] = start
            # The feedback compares it with this clock.
            yield Frame(index, start - begin, self._pixels, self.roi)
            self.handover_s.append(time.perf_counter() - start)

    def stop(self) -> None:
        """End at the next frame."""
        self._stop.set()


class DoubleBackend:
    """Answers every call with the same detections.

    Before that it walks through as much memory as a network would, unless `warm`: what
    comes after a network finds the processor's caches full of something else.
    """

    name = "double"

    def __init__(
        self,
        model: ModelFile,
        localizations: int,
        height: int,
        width: int,
        *,
        warm: bool,
    ) -> None:
        self._walk = np.zeros(0 if warm else _WALK_BYTES, np.uint8)
        self.took_s: list[float] = []
        rng = np.random.default_rng(1)
        rows = model.card.detection.max_detections
        count = min(localizations, rows)
        self._detections = np.zeros((1, rows, len(DETECTION_COLUMNS)), np.float32)
        values = rng.uniform(1, min(height, width) - 1, self._detections.shape)
        self._detections[:, :count] = values[:, :count]
        self._detections[..., DETECTION_COLUMNS.index("prob")] = 0.9
        self._count = count
        density = count / (height * width)
        size = (1, -(-height // 8), -(-width // 8))
        self._blocks = np.full(size, 64 * density, np.float32)

    def set_camera(self, maps: CameraMaps) -> None:
        """The answer is the same for every camera."""

    def step(
        self, frames: npt.NDArray[np.float32], *, segment_start: bool
    ) -> BackendOutput:
        """As many rows as frames."""
        began_s = time.perf_counter()
        np.add(self._walk, 1, out=self._walk)
        count = len(frames)
        output = BackendOutput(
            detections=np.repeat(self._detections, count, 0),
            counts=np.full(count, self._count, np.int64),
            count_mean=np.full(count, self._count, np.float32),
            count_variance=np.full(count, 1, np.float32),
            block_mean=np.repeat(self._blocks, count, 0),
        )
        self.took_s += [time.perf_counter() - began_s] * count
        return output

    def close(self) -> None:
        """Nothing to close."""


class DoubleLaser:
    """Keeps what is written."""

    label, limits = "double", (0.0, 100.0)

    def __init__(self) -> None:
        self._power = 0.0

    def write(self, value: float) -> None:
        """Set it."""
        self._power = value

    def read(self) -> float:
        """Tell it."""
        return self._power


class Arrivals:
    """Observer behind the feedback: notes when each frame's result was there."""

    def __init__(self, frames: int, log: CommandLog) -> None:
        self.there_s = np.full(frames, np.nan)
        self.logged_s = np.full(frames, np.nan)
        self.done_s = np.full(frames, np.nan)
        self._last = 0
        self._write_out = log.write_out
        log.write_out = self._logged  # type: ignore[method-assign]

    def _logged(self) -> None:
        self._write_out()
        # The guard asks for it at the next frame again.
        if np.isnan(self.logged_s[self._last]):
            self.logged_s[self._last] = time.perf_counter()

    def observe(self, results: Sequence[FrameResult]) -> None:
        """Note the time."""
        now = time.perf_counter()
        for result in results:
            self.there_s[result.index] = now
            self._last = result.index

    def afterwards(self) -> None:
        """Note the time: the feedback has written its log and learned."""
        self.done_s[self._last] = time.perf_counter()

    def gap(self, gap: Gap) -> None:
        """See a gap."""

    def close(self) -> None:
        """Nothing to close."""


def measure(
    frames: int,
    fps: float,
    height: int,
    width: int,
    localizations: int,
    *,
    warm: bool,
) -> dict[str, Any]:
    """One run; times in ms per frame."""
    model = read_model(resolve_model("astigmatic"))
    camera = DoubleCamera(frames, fps, height, width)
    backend = DoubleBackend(model, localizations, height, width, warm=warm)
    with tempfile.TemporaryDirectory() as folder:
        loop = make_loop(
            model.card,
            mode="control",
            target=0.5,
            on_time=None,
            update_frames=None,
            laser=DoubleLaser(),
            log=Path(folder) / "laser.csv",
            frame_s=1 / fps,
        )
        arrivals = Arrivals(frames, loop._guard.log)
        loop.start()
        pipeline = Pipeline(
            camera,
            StreamLocalizer(model, backend),
            [
                LiveStore(Path(folder) / "overhead.zarr", pause_s=_STORE_PAUSE_S),
                EventLog(Path(folder) / "events.csv"),
            ],
            [loop, arrivals],
        )
        cpu_s = time.process_time()
        with steady():
            report = pipeline.run()
        cpu_s = time.process_time() - cpu_s - sum(backend.took_s)
    # A result is complete with the next frame: the last one came with the flush.
    network_s = np.array(backend.took_s)
    before_s = camera.put_s[1:] + network_s[1:frames]
    added_s = arrivals.there_s[:-1] - before_s
    logged_s = arrivals.logged_s[:-1] - before_s
    done_s = arrivals.done_s[:-1] - before_s
    return {
        "height": height,
        "width": width,
        "frames": report.frames_seen,
        "frames_per_second": report.frames_seen / max(report.elapsed_s, 1e-9),
        "localizations_per_frame": localizations,
        "frames_skipped": report.frames_skipped,
        "laser_commands": report.extra["laser_commands"],
        "handover_ms": _quantiles(np.array(camera.handover_s)),
        "added_ms": _quantiles(added_s[np.isfinite(added_s)]),
        "logged_ms": _quantiles(logged_s[np.isfinite(logged_s)]),
        "done_ms": _quantiles(done_s[np.isfinite(done_s)]),
        "cpu_ms_per_frame": (cpu_s - network_s.sum())
        / max(report.frames_seen, 1)
        * 1e3,
        "warm": warm,
        "writer_waits": report.writer_waits,
        "failure": report.failure,
    }


def _quantiles(seconds: npt.NDArray[np.float64]) -> dict[str, float]:
    p50, p95, p99, most = np.quantile(seconds, (0.5, 0.95, 0.99, 1)) * 1e3
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(most)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 when a run failed."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--fps", type=float, default=100.0, help="of the double camera")
    parser.add_argument("--size", default="256x256", help="height x width in px")
    parser.add_argument("--localizations", type=int, default=40, help="per frame")
    parser.add_argument("--warm", action="store_true", help="caches stay as they are")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    height, width = (int(part) for part in options.size.split("x"))
    row = measure(
        options.frames,
        options.fps,
        height,
        width,
        options.localizations,
        warm=options.warm,
    )
    if options.json:
        print(json.dumps(row))
    else:
        put, added = row["handover_ms"], row["added_ms"]
        logged, done = row["logged_ms"], row["done_ms"]
        print(
            f"all but the network ({options.size}, {options.fps:g} frames/s, "
            f"{options.localizations} localizations per frame), Python "
            f"{platform.python_version()}, NumPy {np.__version__}\n"
            f"hand-over p50 {put['p50']:.3f} p99 {put['p99']:.3f} ms; from the "
            f"hand-over past the feedback p50 {added['p50']:.3f} p95 "
            f"{added['p95']:.3f} p99 {added['p99']:.3f} max {added['max']:.3f} ms; "
            f"past the laser's log p50 {logged['p50']:.3f} p99 {logged['p99']:.3f} ms; "
            f"and learned from p50 {done['p50']:.3f} p99 {done['p99']:.3f} ms; "
            f"processor {row['cpu_ms_per_frame']:.3f} ms per frame; "
            f"{row['laser_commands']} laser commands; "
            f"{row['frames_skipped']} of {row['frames']} skipped"
        )
    return int(bool(row["failure"]))


if __name__ == "__main__":
    sys.exit(main())
