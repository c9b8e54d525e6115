"""What it saves to compute three heads at detections only, in one run.

Each row is a bundled model on a CPU backend, with its heads everywhere (the graph of
the file) and at detections (`runtime/onnx_heads.py`), one frame per call, one thread.
Both take turns frame by frame; times are of the processor, ratios are medians.

    python benchmarks/heads.py --size 128x128
    python benchmarks/heads.py --dry           # does it run? seconds
"""

from __future__ import annotations

import argparse
import time
from unittest import mock

import numpy as np

from blinkloop.cli._bundled import bundled_models
from blinkloop.runtime import Backend, create_backend, make_camera_maps, read_model
from blinkloop.runtime.backends import lean_graph
from blinkloop.runtime.benchmarking import Case, make_frames
from blinkloop.runtime.model import ModelFile

_BACKENDS = ("onnxruntime-cpu", "openvino")


def everywhere(name: str, model: ModelFile) -> Backend:
    """A backend that loads the graph with all heads as they are in the file."""
    with mock.patch.object(
        lean_graph, "heads_at_detections", lambda content: (content, False)
    ):
        return at_detections(name, model)


def at_detections(name: str, model: ModelFile) -> Backend:
    """A backend as it is."""
    return create_backend(name, model, make_camera_maps(model.card.camera), threads=1)


def measure(name: str, model: ModelFile, case: Case) -> tuple[np.ndarray, float]:
    """Ms of the processor, (T, 2) everywhere and at detections; detections a frame."""
    frames = make_frames(model.card, case)
    backends = [everywhere(name, model), at_detections(name, model)]
    milliseconds = np.zeros((len(frames), 2))
    found = []
    for number, frame in enumerate(frames):
        for column, backend in enumerate(backends):
            begin = time.process_time()
            output = backend.step(frame[None], segment_start=number == 0)
            milliseconds[number, column] = 1e3 * (time.process_time() - begin)
        found.append(int(output.counts[0]))
    # The first calls choose kernels and take memory.
    return milliseconds[len(frames) // 4 :], float(np.mean(found))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", default="128x128", help="height x width in px")
    parser.add_argument("--frames", type=int, default=160)
    parser.add_argument("--models", nargs="+", default=list(bundled_models()))
    parser.add_argument("--dry", action="store_true", help="one model, few frames")
    given = parser.parse_args()
    height, width = (int(part) for part in given.size.split("x"))
    names, frames = given.models, given.frames
    if given.dry:
        names, frames, height, width = names[:1], 8, 32, 40
    for model_name in names:
        model = read_model(bundled_models()[model_name])
        for backend in _BACKENDS:
            times, found = measure(backend, model, Case(height, width, frames))
            ratio = np.median(times[:, 0] / times[:, 1])
            low, high = np.quantile(times[:, 0] / times[:, 1], (0.1, 0.9))
            whole, few = np.median(times, axis=0)
            print(
                f"{model_name}, {backend}, {height}x{width} px, {found:.0f} "
                f"detections: {whole:.2f} ms everywhere, {few:.2f} at detections, "
                f"{ratio:.2f} times as fast (10 to 90 %: {low:.2f} to {high:.2f})"
            )


if __name__ == "__main__":
    main()
