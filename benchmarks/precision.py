"""Speed and accuracy of one model in fp32, fp16 and int8 on the CPU, in one run.

    python benchmarks/precision.py astigmatic            about ten minutes on one core
    python benchmarks/precision.py astigmatic --dry      smaller frames, fewer calls

Every model file and backend takes its turn in one process with one thread, and the CPU
time of the process counts, so that other work on the machine falls on all alike.
Frames are simulated from the model's card: what ELU costs depends on its input. Times
are ratios to fp32 on the same backend; accuracy is the entry `precision` of the card.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.cli._bundled import resolve_model
from blinkloop.evaluation import EvaluationSettings, condition_of, simulate_movie
from blinkloop.export import convert
from blinkloop.runtime import create_backend, make_camera_maps, read_model
from blinkloop.runtime.backends import usable_backends

ROUNDS, DRY_ROUNDS = 15, 3
SIZE_PX, DRY_SIZE_PX = 128, 32
FRAMES_PER_CALL = (1, 8)
DENSITY_PER_UM2 = 1.0


def simulated(card: Any, frames: int, size_px: int) -> np.ndarray:
    """Frames (T, H, W) in ADU of ordinary emitters."""
    settings = EvaluationSettings(
        density_per_um2=DENSITY_PER_UM2,
        frames=frames,
        height_px=size_px,
        width_px=size_px,
    )
    scene = simulate_movie(card, settings, condition_of(card))
    return np.ascontiguousarray(scene.frames_adu[0], np.float32)


def raced(
    files: dict[str, Path], backends: Sequence[str], frames: np.ndarray, rounds: int
) -> list[dict[str, Any]]:
    """One row for each backend and precision: CPU time per frame and times fp32."""
    opened = {}
    for precision, file in files.items():
        model = read_model(file)
        maps = make_camera_maps(model.card.camera)
        for name in backends:
            backend = create_backend(name, model, maps, threads=1)
            backend.step(frames, segment_start=True)
            backend.step(frames, segment_start=False)
            opened[name, precision] = backend
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in opened}
    for _ in range(rounds):
        for key, backend in opened.items():
            before = time.process_time()
            backend.step(frames, segment_start=False)
            seconds[key].append(time.process_time() - before)
    for backend in opened.values():
        backend.close()
    return [
        {
            "backend": name,
            "precision": precision,
            "size_px": frames.shape[1],
            "frames_per_call": len(frames),
            "cpu_ms_per_frame": 1e3 * float(np.median(times)) / len(frames),
            "times_fp32": float(
                np.median(np.divide(seconds[name, "fp32"], seconds[name, precision]))
            ),
        }
        for (name, precision), times in seconds.items()
    ]


def main() -> None:
    """Convert, race, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="fp32 model file, or name of a bundled model")
    parser.add_argument("--precision", nargs="+", default=["int8"])
    parser.add_argument("--dry", action="store_true", help="small, to see that it runs")
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    given = parser.parse_args()
    source = resolve_model(given.model)
    card = read_model(source).card
    rounds = DRY_ROUNDS if given.dry else ROUNDS
    size_px = DRY_SIZE_PX if given.dry else SIZE_PX
    rows: list[dict[str, Any]] = []
    losses: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"fp32": source}
        for name in given.precision:
            files[name] = Path(folder) / f"{name}.onnx"
            some = 20 if given.dry else 100
            made = convert(source, files[name], name, allow_loss=True, frames=some)
            if made.precision is not None:
                losses[name] = made.precision.model_dump(mode="json")["loss"]
        backends = usable_backends(read_model(source))
        for count in FRAMES_PER_CALL:
            frames = simulated(card, count, size_px)
            rows += raced(files, backends, frames, rounds)
    for row in rows:
        print(
            f"{row['backend']:16s} {row['precision']:5s} {row['size_px']} px, "
            f"{row['frames_per_call']} frames per call: "
            f"{row['cpu_ms_per_frame']:7.2f} ms per frame, "
            f"{row['times_fp32']:.2f} x fp32"
        )
    for name, loss in losses.items():
        for row in loss:
            print(name, json.dumps(row))
    if given.json is not None:
        given.json.write_text(json.dumps({"speed": rows, "loss": losses}, indent=1))


if __name__ == "__main__":
    main()
