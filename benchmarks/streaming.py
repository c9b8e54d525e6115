"""How much keeping the features of frames is worth, measured in one run.

Three ways to localize the same frames with the same weights, threads and outputs:

- streaming: one of blinkloop's CPU backends, which analyses every frame once;
- three-frame: an ONNX graph in ONNX Runtime that analyses three frames for each one;
- eager: the same three-frame network in PyTorch.

They take turns within each repetition, so that what else the machine does falls on all
alike; what counts are the ratios within a repetition, of which the median is printed.

CPU backends compute three of the heads at detections only, so there must be as many as
in a real movie: frames hold spots (0.5 per um^2), and where the weights are random the
bias of p is set until the network detects as many.

    python benchmarks/streaming.py --threads 2 --size 64x64 --backend openvino
    python benchmarks/streaming.py --model model.onnx --frames-per-call 16
    python benchmarks/streaming.py --dry      # does it run? tiny network, seconds
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor

from blinkloop.export import export_onnx
from blinkloop.export.three_frames import ThreeFrames, triples
from blinkloop.export.weights import make_network, read_model_weights
from blinkloop.runtime import create_backend, make_camera_maps, read_model
from blinkloop.runtime.benchmarking import Case, make_frames
from blinkloop.schema import ModelCard
from blinkloop.training.card import card_from_recipe
from blinkloop.training.detection import detection_scores
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe

Frames = npt.NDArray[np.float32]
Step = Callable[[], object]
NAMES = ("streaming", "three-frame", "eager")
PER_PX = 0.005
"""0.5 emitters per um^2 at 100 nm pixels."""


def random_card() -> ModelCard:
    """The official 48-feature network, untrained: the arithmetic is the same."""
    return card_from_recipe(Recipe(name="random 48-feature network"))


def detect(
    network: TwoStageNetwork, card: ModelCard, frames: Frames, wanted: float
) -> None:
    """Set the bias of p until a network detects so many emitters per frame (mean)."""
    scaled = ThreeFrames(network, card).scaled(triples(torch.from_numpy(frames)))
    with torch.inference_mode():
        logit = network.heads_of(scaled)[0][:, 0]
        low, high = -100.0, 100.0
        for _ in range(40):
            bias = (low + high) / 2
            scores = detection_scores(network.probability(logit + bias), card.detection)
            if float((scores > 0).sum((1, 2)).float().mean()) > wanted:
                high = bias
            else:
                low = bias
        network.head_p.out.bias += low


def three_frame_session(
    module: ThreeFrames, stacks: Tensor, folder: Path, threads: int
) -> onnxruntime.InferenceSession:
    """The three-frame graph of exactly this size, with the streaming backend's options.

    A fixed size favours it: nothing has to be worked out at run time.
    """
    path = folder / "three_frames.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(module, (stacks,), dynamo=True, verbose=False)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    path.write_bytes(program.model_proto.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )


def contestants(
    model: Path | None,
    case: Case,
    threads: int,
    folder: Path,
    backend_name: str,
    detections: float,
) -> tuple[str, list[Step]]:
    """The network in words, and one call on all frames in each of the three ways."""
    if model is None:
        card = random_card()
        torch.manual_seed(0)
        network = TwoStageNetwork(card.architecture).eval()
        detect(network, card, make_frames(card, case), detections)
        model = folder / "streaming.onnx"
        export_onnx(network, card, model)
    weights, card = read_model_weights(model)
    frames = make_frames(card, case)
    network = make_network(card.architecture, weights, source=str(model))
    module = ThreeFrames(network, card).eval()
    maps = make_camera_maps(card.camera)
    backend = create_backend(backend_name, read_model(model), maps, threads=threads)
    # The last two frames of the call before are known to both: a movie in progress.
    movie = np.concatenate([frames[-2:], frames])
    stacks = np.stack([movie[:-2], movie[1:-1], movie[2:]], 1)
    tensor = torch.from_numpy(stacks)
    session = three_frame_session(module, tensor, folder, threads)
    port = session.get_inputs()[0].name
    torch.set_num_threads(threads)

    def streaming() -> object:
        return backend.step(frames, segment_start=False)

    def three_frame() -> object:
        return session.run(None, {port: stacks})

    def eager() -> object:
        with torch.inference_mode():
            return module(tensor)

    backend.step(frames, segment_start=True)
    output = backend.step(frames, segment_start=False)
    table = output.count_mean
    for other in (three_frame()[2], eager()[2].numpy()):  # type: ignore[index]
        np.testing.assert_allclose(table, other, rtol=1e-2)
    name = f"{card.name}, {output.counts.mean():.1f} detections per frame"
    return name, [streaming, three_frame, eager]


def measure(steps: list[Step], repetitions: int) -> npt.NDArray[np.float64]:
    """Seconds of every call, (repetitions, contestants)."""
    seconds = np.zeros((repetitions, len(steps)))
    for row in seconds:
        for column, step in enumerate(steps):
            begin = time.perf_counter()
            step()
            row[column] = time.perf_counter() - begin
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, help="model file; default: random weights"
    )
    parser.add_argument("--size", default="64x64", help="HxW, multiples of 8")
    parser.add_argument("--frames-per-call", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend", default="onnxruntime-cpu")
    parser.add_argument(
        "--detections", type=float, help="per frame, where the weights are random"
    )
    parser.add_argument("--dry", action="store_true", help="tiny network, few calls")
    given = parser.parse_args()
    height, width = (int(part) for part in given.size.split("x"))
    if height % 8 or width % 8:
        parser.error("the three-frame graph does not pad: H and W must be n * 8")
    model, repetitions = given.model, given.repetitions
    if given.dry:
        golden = Path(__file__).parent.parent / "tests" / "golden"
        model, repetitions = model or golden / "tiny_full.onnx", 3

    wanted = given.detections
    if wanted is None:
        wanted = PER_PX * height * width
    with tempfile.TemporaryDirectory() as folder:
        name, steps = contestants(
            model,
            Case(height, width, given.frames_per_call),
            given.threads,
            Path(folder),
            given.backend,
            wanted,
        )
        measure(steps, 2)
        seconds = measure(steps, repetitions)

    print(
        f"{name}, {given.backend}, {height}x{width} px, "
        f"{given.frames_per_call} frames per call, "
        f"{given.threads} threads, {repetitions} repetitions; onnxruntime "
        f"{onnxruntime.__version__}, torch {torch.__version__}, "
        f"{platform.processor() or platform.machine()}"
    )
    for column, contestant in enumerate(NAMES):
        rate = given.frames_per_call / np.median(seconds[:, column])
        ratio = np.median(seconds[:, column] / seconds[:, 0])
        low, high = np.quantile(seconds[:, column] / seconds[:, 0], [0.1, 0.9])
        print(
            f"{contestant:>12}: {rate:8.1f} frames/s; streaming is {ratio:.2f} times "
            f"as fast (10 to 90 %: {low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
