"""What makes a network cheap: architectures with random weights, timed in one run.

Every row streams the same frames through a CPU backend, one thread, and is divided by
the three-frame pass in PyTorch eager of the official size (48 features, full
resolution; see streaming.py). All take turns within each repetition, so that what else
the machine does falls on all alike. Times are of the processor, ratios are medians over
repetitions. Speed depends on weights only through the number of detections (frames hold
0.5 emitters per um^2; random weights find none); accuracy does, see frontier.py.

    python benchmarks/lite_cost.py                             # all rows, both backends
    python benchmarks/lite_cost.py --rows half-32 half-24-relu --out cost.json
    python benchmarks/lite_cost.py --models astigmatic lite.onnx --out cost.json
    python benchmarks/lite_cost.py --convolutions              # plain and separable
    python benchmarks/lite_cost.py --dry                       # does it run? seconds
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from blinkloop.cli._bundled import resolve_model
from blinkloop.export.graph import _quiet, build_graph
from blinkloop.export.three_frames import ThreeFrames, triples
from blinkloop.runtime import create_backend, make_camera_maps, read_model
from blinkloop.runtime.benchmarking import Case, make_frames
from blinkloop.runtime.tiling import receptive_field
from blinkloop.schema import Architecture, ModelCard
from blinkloop.training.card import card_from_recipe
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe

Frames = npt.NDArray[np.float32]
Step = Callable[[], object]


def half(features: int, **more: object) -> dict[str, object]:
    """A network at half resolution."""
    return {"features": features, "stem_stride": 2, **more}


def quarter(features: int, **more: object) -> dict[str, object]:
    """A network at a quarter of the resolution, with ReLU."""
    return {"features": features, "stem_stride": 4, "activation": "relu", **more}


def flat(features: int, **more: object) -> dict[str, object]:
    """One level at half resolution, with four convolutions in a row in either part."""
    return {**half(features), "depth": 0, "convolutions": 4, **more}


ROWS: dict[str, dict[str, object]] = {
    "official": {"features": 48},
    "flat-48": flat(48),
    "flat-48-relu": flat(48, activation="relu"),
    "flat-32": flat(32),
    "flat-32-relu": flat(32, activation="relu"),
    "flat-24-relu": flat(24, activation="relu"),
    "flat-16-relu": flat(16, activation="relu"),
    "half-32": half(32),
    "half-32-relu": half(32, activation="relu"),
    "half-24": half(24),
    "half-24-relu": half(24, activation="relu"),
    "half-24-relu-kept-12": half(24, activation="relu", kept_features=12),
    "half-24-relu-depth-1": half(24, activation="relu", depth=1),
    "half-24-relu-context-16": half(24, activation="relu", context_features=16),
    "half-16-relu-context-24": half(16, activation="relu", context_features=24),
    "half-24-relu-context-depth-1": half(24, activation="relu", context_depth=1),
    "half-16": half(16),
    "half-16-relu": half(16, activation="relu"),
    "half-16-relu-depth-1": half(16, activation="relu", depth=1),
    "quarter-32-relu": quarter(32),
    "quarter-48-relu": quarter(48),
    "quarter-48-relu-depth-1": quarter(48, depth=1),
    "nothing": quarter(1, depth=1),
}
"""Architectures by name; `flat-32-relu` is the bundled `astigmatic`, `flat-48`
`astigmatic-scmos`, `nothing` the cost of all that is not the network."""

BACKENDS = ("onnxruntime-cpu", "openvino")


def card_of(name: str) -> ModelCard:
    """A card with the architecture of a row."""
    shape = Architecture.model_validate({"logit_clamp": 12.0, **ROWS[name]})
    data = {"name": name, "architecture": shape, "schedule": {"patch_px": 128}}
    return card_from_recipe(Recipe.model_validate(data))


def multiply_adds(architecture: Architecture, side_px: int) -> int:
    """Of convolutions, for one frame of `side_px` squared; two frames are kept."""
    done = [0]

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        done[0] += output[0].numel() * module.weight[0].numel()

    network = TwoStageNetwork(architecture).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    side = -(-side_px // architecture.size_multiple) * architecture.size_multiple
    with torch.inference_mode():
        kept = network.analyse(torch.zeros(1, 1, side, side))
        network.combine(torch.cat([kept, kept, kept], 1))
    return done[0]


def random_model(name: str, folder: Path) -> Path:
    """Model file of a row."""
    torch.manual_seed(0)
    card = card_of(name)
    network = TwoStageNetwork(card.architecture)
    path = folder / f"{name}.onnx"
    path.write_bytes(build_graph(network, card).SerializeToString())
    return path


def streaming_step(model: Path, backend: str, frames: Frames) -> Step:
    """One call of a streaming backend on all frames, a movie in progress."""
    file = read_model(model)
    maps = make_camera_maps(file.card.camera)
    made = create_backend(backend, file, maps, threads=1)
    made.step(frames, segment_start=True)
    return lambda: made.step(frames, segment_start=False)


def eager_step(frames: Frames) -> Step:
    """The three-frame pass of the official size in PyTorch."""
    torch.manual_seed(0)
    card = card_of("official")
    module = ThreeFrames(TwoStageNetwork(card.architecture).eval(), card).eval()
    stacks = triples(torch.from_numpy(np.concatenate([frames[-2:], frames])))

    def step() -> object:
        with torch.inference_mode():
            return module(stacks)

    return step


def measure(steps: list[Step], repetitions: int) -> npt.NDArray[np.float64]:
    """Processor seconds of every call, (repetitions, contestants)."""
    seconds = np.zeros((repetitions, len(steps)))
    for row in seconds:
        for column, step in enumerate(steps):
            begin = time.process_time()
            step()
            row[column] = time.process_time() - begin
    return seconds


def facts(name: str, backend: str, card: ModelCard, size: int) -> dict[str, Any]:
    """What is known of a row without a clock."""
    network = TwoStageNetwork(card.architecture)
    return {
        "network": name,
        "backend": backend,
        "parameters": sum(p.numel() for p in network.parameters()),
        "mmac_per_frame": multiply_adds(card.architecture, size) / 1e6,
        "receptive_field_px": max(receptive_field(card.architecture)),
    }


def show(
    rows: list[dict[str, Any]], seconds: npt.NDArray[np.float64], frames_per_call: int
) -> None:
    """Add times and ratios to the rows, and print them."""
    print(
        f"{'network':29} {'backend':15} {'ms/frame':>8} {'times':>6} {'10-90 %':>13} "
        f"{'MMAC':>6} {'px':>4} {'params':>8}"
    )
    for column, row in enumerate(rows, 1):
        ratio = seconds[:, 0] / seconds[:, column]
        low, high = np.quantile(ratio, [0.1, 0.9])
        row |= {
            "ms_per_frame": float(1e3 * np.median(seconds[:, column]))
            / frames_per_call,
            "times_as_fast": float(np.median(ratio)),
            "times_10_90": [float(low), float(high)],
        }
        print(
            f"{row['network']:29} {row['backend']:15} {row['ms_per_frame']:8.2f} "
            f"{row['times_as_fast']:6.1f} {low:6.1f}-{high:6.1f} "
            f"{row['mmac_per_frame']:6.0f} {row['receptive_field_px']:4} "
            f"{row['parameters']:8}"
        )


class Plain(nn.Module):
    """3 x 3 convolution of C channels, four times, each with ReLU."""

    def __init__(self, features: int, *, separable: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            if separable:
                layers += [
                    nn.Conv2d(features, features, 3, padding=1, groups=features),
                    nn.Conv2d(features, features, 1),
                ]
            else:
                layers += [nn.Conv2d(features, features, 3, padding=1)]
            layers += [nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, C, H, W) -> the same shape."""
        result: torch.Tensor = self.layers(x)
        return result


def convolutions(repetitions: int, side: int) -> None:
    """Plain against separable 3 x 3 convolutions in ONNX Runtime and OpenVINO."""
    import onnxruntime
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    print(f"four 3 x 3 layers on a grid of {side} x {side}, ms: plain, separable")
    for features in (16, 24, 32, 48):
        x = np.random.default_rng(0).normal(size=(1, features, side, side))
        feed = x.astype(np.float32)
        steps: list[Step] = []
        for separable in (False, True):
            module = Plain(features, separable=separable).eval()
            with _quiet():
                program = torch.onnx.export(
                    module, (torch.from_numpy(feed),), dynamo=True, verbose=False
                )
            if program is None:
                raise RuntimeError("torch.onnx.export returned nothing")
            content = program.model_proto.SerializeToString()
            session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
            compiled = core.compile_model(core.read_model(content), "CPU", settings)
            name = session.get_inputs()[0].name
            steps.append(partial(session.run, None, {name: feed}))
            steps.append(partial(compiled, [feed]))
        measure(steps, 3)
        ms = 1e3 * np.median(measure(steps, repetitions), axis=0)
        print(
            f"{features:3} channels: onnxruntime {ms[0]:.2f}, {ms[2]:.2f}; "
            f"openvino {ms[1]:.2f}, {ms[3]:.2f}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=None)
    parser.add_argument(
        "--models", nargs="*", default=[], help="bundled models or model files too"
    )
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--size", type=int, default=128, help="side of a frame, px")
    parser.add_argument("--frames-per-call", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    parser.add_argument("--convolutions", action="store_true")
    parser.add_argument("--dry", action="store_true", help="one row, few calls")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.convolutions:
        convolutions(given.repetitions, given.size // 2)
        return
    names = list(ROWS) if given.rows is None and not given.models else given.rows or []
    backends, repetitions, size = given.backends, given.repetitions, given.size
    if given.dry:
        names, backends, repetitions, size = ["nothing"], backends[:1], 2, 32
    card = card_from_recipe(Recipe(name="frames"))
    frames = make_frames(card, Case(size, size, given.frames_per_call))
    rows, steps = [], [eager_step(frames)]
    with tempfile.TemporaryDirectory() as folder:
        files = {name: random_model(name, Path(folder)) for name in names}
        files |= {name: resolve_model(name) for name in given.models}
        for name, path in files.items():
            card = read_model(path).card
            for backend in backends:
                steps.append(streaming_step(path, backend, frames))
                rows.append(facts(name, backend, card, size))
        measure(steps, 1)
        seconds = measure(steps, repetitions)
    eager = 1e3 * np.median(seconds[:, 0]) / given.frames_per_call
    print(
        f"{size} x {size} px, {given.frames_per_call} frames per call, 1 thread, "
        f"{repetitions} repetitions, torch {torch.__version__}; official size, three "
        f"frames, eager: {eager:.1f} ms per frame"
    )
    show(rows, seconds, given.frames_per_call)
    if given.out is not None:
        given.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
