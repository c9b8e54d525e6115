"""One GPU, ten minutes: how fast the networks run, and what keeping features is worth.

On the machine that has the packages (no GPU needed) make what to bring along:

    python benchmarks/gpu.py --prepare bring/            # model files
    pip wheel . onnxruntime-gpu -w bring/wheels          # blinkloop and ONNX Runtime

On the GPU, in an image that has PyTorch for CUDA 13 and cuDNN 9:

    pip install --no-index --find-links bring/wheels blinkloop onnxruntime-gpu onnx
    python benchmarks/gpu.py bring/ --json gpu.json

What is brought: every model in fp32 (int8 ones, which are for CPUs, with their rounded
weights), beside it the same in fp16 (MODEL-fp16.onnx), and engines of TensorRT for RTX
(.rtx), where its builder is there. Engines that were built on the GPU's own machine
(`blinkloop export MODEL.onnx --engine tensorrt -o MODEL.trt`) are measured too.

Everything is compared in one run with PyTorch's three-frame pass in fp32 (eager, no
TF32). `--dry` runs all of it on the CPU with tiny sizes: it proves the script, not a
speed. Backends that cannot run say why and are left out; nothing is made up for them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blinkloop.errors import BlinkloopError
from blinkloop.export import build_engine, convert, export_onnx
from blinkloop.export.streaming import StreamingNetwork
from blinkloop.export.three_frames import ThreeFrames, triples
from blinkloop.export.weights import make_network, read_model_weights
from blinkloop.runtime import (
    backend_table,
    create_backend,
    make_camera_maps,
    read_model,
)
from blinkloop.runtime.benchmarking import Case, make_frames
from blinkloop.training.card import card_from_recipe
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe

BACKENDS = (
    "onnxruntime-cuda",
    "onnxruntime-cuda:graph",
    "tensorrt",
    "tensorrt-rtx",
)
CASES = (Case(256, 256, 1), Case(256, 256, 16), Case(512, 512, 8))
HALF = "-fp16"
DRY_CASES = (Case(17, 26, 2),)
GOLDEN = Path(__file__).parent.parent / "tests" / "golden"


def prepare(folder: Path) -> None:
    """Write the DECODE-size network and the bundled models, in fp32 and in fp16."""
    from blinkloop.cli._bundled import bundled_models

    folder.mkdir(parents=True, exist_ok=True)
    card = card_from_recipe(Recipe(name="decode-size, random weights"))
    torch.manual_seed(0)
    network = TwoStageNetwork(card.architecture).eval()
    export_onnx(network, card, folder / "decode-size.onnx")
    for name, path in bundled_models().items():
        bring(path, folder / f"{name}.onnx")
    for model in sorted(folder.glob("*.onnx")):
        if model.stem.endswith(HALF):
            continue
        half = model.with_name(f"{model.stem}{HALF}.onnx")
        make(half, lambda m=model, h=half: convert(m, h, "fp16", allow_loss=True))
        for source in (model, half):
            out = source.with_suffix(".rtx")
            if source.is_file():
                make(out, lambda s=source, o=out: build_engine(s, o))


def bring(model: Path, target: Path) -> None:
    """A bundled model as GPUs take it: int8 files are for CPUs."""
    if read_model(model).card.precision_name == "int8":
        convert(model, target, "fp32")
    else:
        target.write_bytes(model.read_bytes())


def make(file: Path, work: Callable[[], object]) -> None:
    """Make a file, or say why there is none."""
    try:
        work()
    except BlinkloopError as error:
        print(f"not made: {file.name}: {error}")
    else:
        print(f"made {file.name}")


def torch_steps(
    model: Path, case: Case, device: torch.device
) -> dict[str, Callable[[], object]]:
    """One call in PyTorch: three frames, and streaming in fp32 and fp16."""
    weights, card = read_model_weights(model)
    network = make_network(card.architecture, weights, source=str(model)).to(device)
    adu = make_frames(card, case)
    frames = torch.from_numpy(adu)
    movie = torch.from_numpy(np.concatenate([adu[:1], adu[:1], adu]))
    three = ThreeFrames(network, card).eval().to(device)
    module = StreamingNetwork(network, card.scaling, card.detection).eval().to(device)
    size = card.architecture.feature_size(case.height, case.width)
    shape = (2, card.architecture.kept_channels, *size)
    maps = make_camera_maps(card.camera)
    constants = [
        torch.zeros(1, device=device),
        torch.from_numpy(maps.offset_adu).to(device),
        torch.from_numpy(maps.photons_per_adu).to(device),
        torch.full((1,), card.detection.threshold, device=device),
    ]
    kept = torch.zeros(shape, device=device)

    def eager() -> object:
        # Frames come from the camera, detections go to the computer's memory.
        with torch.inference_mode():
            return [out.cpu() for out in three(triples(movie.to(device)))]

    def stream(half: bool) -> Callable[[], object]:
        state = [kept.clone()]

        def step() -> object:
            with (
                torch.inference_mode(),
                torch.autocast(device.type, torch.float16, enabled=half),
            ):
                outputs = module(frames.to(device), state[0], *constants)
                state[0] = outputs[5].float()
                return [out.cpu() for out in outputs[:5]]

        return step

    steps = {"pytorch-three-frame fp32": eager, "pytorch-streaming fp32": stream(False)}
    # PyTorch's CPU has no fast fp16; a dry run takes it all the same if it can.
    steps["pytorch-streaming fp16"] = stream(True)
    return steps


def backend_steps(
    model: Path, case: Case, names: tuple[str, ...], left_out: dict[str, str]
) -> dict[str, Callable[[], object]]:
    """One call in each backend that runs here; the others are named with a reason."""
    steps: dict[str, Callable[[], object]] = {}
    reasons = {row.name: row.reason for row in backend_table()}
    half = model.with_name(f"{model.stem}{HALF}.onnx")
    files = [(model, "fp32"), *([(half, "fp16")] if half.is_file() else [])]
    for name, (file, precision) in product(names, files):
        plain, what = name.partition(":")[0], f"{name} {precision}"
        try:
            if reasons[plain]:
                raise BlinkloopError(reasons[plain])
            # Engines lie beside their models, where the backend looks for them.
            found = read_model(file)
            frames = make_frames(found.card, case)
            camera = make_camera_maps(found.card.camera)
            backend = create_backend(name, found, camera)
            backend.step(frames, segment_start=True)
        except BlinkloopError as error:
            left_out[what] = str(error)
            continue
        steps[what] = lambda b=backend, f=frames: b.step(f, segment_start=False)  # type: ignore[misc]
    return steps


def measure(
    steps: dict[str, Callable[[], object]], seconds: float
) -> dict[str, np.ndarray]:
    """Durations in s of the calls of each, in turns, after a warm-up."""
    durations: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(3):
            step()
    rounds = 5
    for _ in range(rounds):
        for name, step in steps.items():
            end = time.perf_counter() + seconds / rounds
            while True:
                begin = time.perf_counter()
                step()
                now = time.perf_counter()
                durations[name].append(now - begin)
                if now >= end:
                    break
    return {name: np.array(values) for name, values in durations.items()}


def rows_of(
    model: str, case: Case, durations: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """One row for each, with the ratio to the three-frame pass of the same run."""
    base = float(np.median(durations["pytorch-three-frame fp32"]))
    rows = []
    for name, calls in durations.items():
        rate = case.frames_per_call * len(calls) / calls.sum()
        p50, p99 = (float(q) for q in np.quantile(calls, [0.5, 0.99]) * 1e3)
        rows.append(
            {
                "model": model,
                "what": name,
                "height": case.height,
                "width": case.width,
                "frames_per_call": case.frames_per_call,
                "frames_per_second": float(rate),
                "megapixels_per_second": float(rate * case.height * case.width / 1e6),
                "latency_ms": {"p50": p50, "p99": p99},
                "times_three_frame": base / float(np.median(calls)),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure and print; returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="what --prepare made")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER")
    parser.add_argument("--dry", action="store_true", help="on the CPU, tiny")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    if given.prepare:
        prepare(given.prepare)
        return []
    if given.dry:
        device, cases, seconds = torch.device("cpu"), DRY_CASES, 0.01
        found = [GOLDEN / "tiny_full.onnx"]
        if given.folder is not None:
            found = sorted(given.folder.glob("*.onnx"))
        names: tuple[str, ...] = (*BACKENDS, "onnxruntime-cpu")
    else:
        if given.folder is None or not torch.cuda.is_available():
            parser.error("give the folder that --prepare made, on a machine with a GPU")
        device, cases, seconds = torch.device("cuda"), CASES, given.seconds
        found = sorted(given.folder.glob("*.onnx"))
        names = BACKENDS
    models = [file for file in found if not file.stem.endswith(HALF)]
    if given.dry:  # threads that wait for each other make a busy CPU crawl
        torch.set_num_threads(1)
    # float32 shall be float32 in the pass that everything is compared with.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not given.dry
    where = "CPU (dry run: no speed)" if given.dry else torch.cuda.get_device_name()
    print(f"{where}, torch {torch.__version__}")
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for model in models:
        for case in cases:
            steps = torch_steps(model, case, device)
            steps |= backend_steps(model, case, names, left_out)
            rows += rows_of(model.stem, case, measure(steps, seconds))
            for row in rows[-len(steps) :]:
                latency = row["latency_ms"]
                print(
                    f"{row['model']:>20} {row['height']}x{row['width']} x "
                    f"{row['frames_per_call']:<2} {row['what']:<26} "
                    f"{row['megapixels_per_second']:9.2f} Mpx/s, p50 "
                    f"{latency['p50']:.2f} ms, p99 {latency['p99']:.2f} ms, "
                    f"{row['times_three_frame']:.2f} times the three-frame pass"
                )
    for name, reason in left_out.items():
        print(f"not measured: {name}: {reason}")
    if given.json:
        report = {"device": where, "rows": rows, "not_measured": left_out}
        given.json.write_text(json.dumps(report, indent=1))
    return rows


if __name__ == "__main__":
    main()
