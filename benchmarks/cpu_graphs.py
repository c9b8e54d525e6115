"""What rewriting a model's graph for the CPU saves, step by step, in one run.

- file: the graph of the file, heads at detections (`benchmarks/heads.py`);
- up-sampling: and coarse features convolved first (`runtime/onnx_upsampling.py`);
- rows: and the table as long as it has to be (`runtime/onnx_rows.py`);
- channels last: and features read with their channels last (OpenVINO;
  `runtime/backends/openvino_graph.py`);
- fixed: and compiled for the size of the call, as the backends run it.

All take turns call by call; times are of the processor, one thread, ratios are medians.
`official` is DECODE's network of 48 features with random weights.

    python benchmarks/cpu_graphs.py --models official --size 64x64 --frames-per-call 8
    python benchmarks/cpu_graphs.py --models astigmatic-lite astigmatic
    python benchmarks/cpu_graphs.py --dry      # does it run? seconds
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from streaming import PER_PX, detect, random_card

from blinkloop.cli._bundled import bundled_models
from blinkloop.export import export_onnx
from blinkloop.runtime import Backend, create_backend, make_camera_maps, read_model
from blinkloop.runtime.backends import lean_graph, openvino
from blinkloop.runtime.benchmarking import Case, make_frames
from blinkloop.runtime.model import ModelFile
from blinkloop.training.network import TwoStageNetwork

_STEPS = {
    "onnxruntime-cpu": ("file", "up-sampling", "rows"),
    "openvino": ("file", "up-sampling", "rows", "channels last", "fixed"),
}


@contextmanager
def only(step: str) -> Iterator[None]:
    """Leave out what comes after a step."""
    steps = _STEPS["openvino"]
    later = steps[steps.index(step) + 1 :]
    with ExitStack() as stack:
        for name, change in (
            ("up-sampling", "convolve_before_upsampling"),
            ("rows", "rows_as_needed"),
        ):
            if name in later:
                stack.enter_context(
                    mock.patch.object(lean_graph, change, lambda content: (content, 0))
                )
        if "channels last" in later:
            stack.enter_context(
                mock.patch.object(openvino, "read_channels_last", return_value=False)
            )
        yield


def backend_of(name: str, model: ModelFile, step: str) -> Backend:
    """A backend whose graph is rewritten as far as a step."""
    with only(step):
        return create_backend(
            name, model, make_camera_maps(model.card.camera), threads=1
        )


def measure(
    name: str, model: ModelFile, case: Case, calls: int
) -> tuple[dict[str, np.ndarray], float]:
    """Ms of the processor per frame of every call, by step; detections a frame."""
    frames = make_frames(model.card, case)
    backends = {step: backend_of(name, model, step) for step in _STEPS[name]}
    times: dict[str, list[float]] = {step: [] for step in backends}
    for number in range(-3, calls):
        for step, backend in backends.items():
            fixed = openvino.fixed if step == "fixed" else lambda graph, *_: graph
            with mock.patch.object(openvino, "fixed", fixed):
                begin = time.process_time()
                output = backend.step(frames, segment_start=number == -3)
                taken = time.process_time() - begin
            # The first calls compile, choose kernels and take memory.
            if number >= 0:
                times[step].append(1e3 * taken / len(frames))
    found = float(output.counts.mean())
    return {step: np.array(taken) for step, taken in times.items()}, found


def official(folder: Path, case: Case) -> Path:
    """DECODE's network with random weights, that detects as much as a real one."""
    card = random_card()
    torch.manual_seed(0)
    network = TwoStageNetwork(card.architecture).eval()
    wanted = PER_PX * case.height * case.width
    detect(network, card, make_frames(card, case), wanted)
    path = folder / "official.onnx"
    export_onnx(network, card, path)
    return path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--size", default="128x128", help="height x width in px")
    parser.add_argument("--frames-per-call", type=int, default=1)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--models", nargs="+", default=list(bundled_models()))
    parser.add_argument("--backends", nargs="+", default=list(_STEPS))
    parser.add_argument("--dry", action="store_true", help="one model, few calls")
    given = parser.parse_args()
    height, width = (int(part) for part in given.size.split("x"))
    names, calls = given.models, given.calls
    if given.dry:
        names, calls, height, width = names[:1], 4, 32, 40
    case = Case(height, width, given.frames_per_call)
    with tempfile.TemporaryDirectory() as folder:
        for model_name in names:
            own = model_name == "official"
            path = official(Path(folder), case) if own else bundled_models()[model_name]
            model = read_model(path)
            for backend in given.backends:
                times, found = measure(backend, model, case, calls)
                first = times["file"]
                said = ", ".join(
                    f"{step} {np.median(taken):.2f} ({np.median(first / taken):.2f})"
                    for step, taken in times.items()
                )
                print(
                    f"{model_name}, {backend}, {height}x{width} px, "
                    f"{given.frames_per_call} per call, {found:.0f} detections: "
                    f"ms per frame (times as fast): {said}"
                )


if __name__ == "__main__":
    main()
