"""Heads computed at detections, against the graph that computes them everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blinkloop
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.onnx_heads import heads_at_detections
from blinkloop.runtime.onnx_outputs import without_output

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

Feed = dict[str, npt.NDArray[np.float32]]
BUNDLED = Path(blinkloop.__file__).parent / "models"


def lean_and_few(path: Path) -> tuple[bytes, bytes]:
    lean, _ = without_output(path.read_bytes(), "maps")
    few, changed = heads_at_detections(lean)
    assert changed
    return lean, few


def feed_of(
    model: ModelFile, frames: npt.NDArray[np.float32], threshold: float
) -> Feed:
    architecture = model.card.architecture
    grid = architecture.feature_size(*frames.shape[1:])
    rng = np.random.default_rng(1)
    kept = rng.random((2, architecture.kept_channels, *grid))
    return {
        "frames": frames,
        "features_in": kept.astype(np.float32),
        "segment_start": np.zeros(1, np.float32),
        "offset_adu": np.full((1, 1), 100, np.float32),
        "photons_per_adu": np.ones((1, 1), np.float32),
        "threshold": np.full(1, threshold, np.float32),
    }


def spotted(
    count: int, height: int, width: int, spots: list[tuple[float, float]]
) -> npt.NDArray[np.float32]:
    """Frames with spots at (row, column); the last frame has none."""
    rows, columns = np.mgrid[:height, :width]
    frames = np.full((count, height, width), 110.0)
    for y, x in spots:
        frames[:-1] += 600 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 3.4)
    return np.random.default_rng(0).poisson(frames).astype(np.float32)


Run = Callable[[Feed], dict[str, Any]]


def runner(content: bytes) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    return lambda feed: dict(zip(names, session.run(names, feed), strict=True))


def agree(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        if name == "detections":
            # Sums of the same products in another order.
            scale = np.maximum(np.abs(value).max((0, 1)), 1.0)
            np.testing.assert_allclose(after[name] / scale, value / scale, atol=2e-5)
        else:
            np.testing.assert_array_equal(after[name], value)


@pytest.fixture(scope="module")
def runs(tiny_models: dict[str, ModelFile]) -> dict[str, tuple[Run, Run]]:
    return {
        name: tuple(map(runner, lean_and_few(model.path)))  # type: ignore[misc]
        for name, model in tiny_models.items()
    }


SPOTS = st.lists(st.tuples(st.floats(0, 12), st.floats(0, 20)), max_size=6)


@given(
    spots=SPOTS,
    count=st.integers(1, 4),
    threshold=st.sampled_from([1e-6, 0.01, 0.3, 0.999]),
)
@settings(max_examples=15, deadline=None)
def test_the_same_table(
    tiny_models: dict[str, ModelFile],
    runs: dict[str, tuple[Run, Run]],
    spots: list[tuple[float, float]],
    count: int,
    threshold: float,
) -> None:
    for name, model in tiny_models.items():
        dense, few = runs[name]
        feed = feed_of(model, spotted(count, 13, 21, spots), threshold)
        agree(dense(feed), few(feed))


def test_every_corner_and_edge(
    tiny_models: dict[str, ModelFile], runs: dict[str, tuple[Run, Run]]
) -> None:
    """All pixels are detections somewhere in a run: each one alone, then many."""
    counts = set()
    for name, model in tiny_models.items():
        dense, few = runs[name]
        for height, width in ((1, 1), (3, 17), (16, 8), (33, 9)):
            rng = np.random.default_rng(height)
            frames = rng.poisson(150, (5, height, width)).astype(np.float32)
            feed = feed_of(model, frames, 1e-7)
            answer = dense(feed)
            counts.update(answer["counts"].tolist())
            agree(answer, few(feed))
    assert len(counts) > 5


def test_a_full_table(tiny_model: ModelFile) -> None:
    """More detections than rows: p is large everywhere."""
    lean, _ = without_output(tiny_model.path.read_bytes(), "maps")
    certain = onnx.load_from_string(lean)
    (bias,) = (
        t for t in certain.graph.initializer if t.name == "network.head_p.out.bias"
    )
    more = onnx.numpy_helper.to_array(bias) + np.float32(4)
    bias.CopyFrom(onnx.numpy_helper.from_array(more, bias.name))
    few, changed = heads_at_detections(certain.SerializeToString())
    assert changed
    frames = np.random.default_rng(2).poisson(150, (2, 160, 192)).astype(np.float32)
    feed = feed_of(tiny_model, frames, 0.3)
    answer = runner(certain.SerializeToString())(feed)
    assert answer["counts"].min() > tiny_model.card.detection.max_detections
    agree(answer, runner(few)(feed))


@pytest.mark.parametrize("file", sorted(BUNDLED.glob("*.onnx")), ids=lambda f: f.stem)
def test_bundled_models(file: Path) -> None:
    model = read_model(file)
    lean, few = lean_and_few(file)
    spots = [(y, x) for y in (0.0, 8.3, 31.9) for x in (0.2, 17.5, 40.0)]
    feed = feed_of(model, spotted(3, 33, 41, spots), 0.3)
    before, after = runner(lean)(feed), runner(few)(feed)
    assert before["counts"].max() >= 6
    agree(before, after)
    kinds = [
        [node.op_type for node in onnx.load_from_string(content).graph.node]
        for content in (lean, few)
    ]
    # The two convolutions of three heads.
    assert kinds[0].count("Conv") - kinds[1].count("Conv") == 6
    onnx.checker.check_model(onnx.load_from_string(few), full_check=True)


def test_only_heads_that_nobody_else_reads(tiny_model: ModelFile) -> None:
    """The maps read all heads: with them nothing is changed."""
    content = tiny_model.path.read_bytes()
    assert heads_at_detections(content) == (content, False)


def test_other_graphs_stay_as_they_are(tiny_model: ModelFile) -> None:
    lean, few = lean_and_few(tiny_model.path)
    assert heads_at_detections(few) == (few, False)
    assert heads_at_detections(b"") == (b"", False)
    wider = onnx.load_from_string(lean)
    for node in wider.graph.node:
        if node.op_type == "Conv" and ".hidden." in node.input[1]:
            for attribute in node.attribute:
                if attribute.name == "dilations":
                    attribute.ints[:] = [2, 2]
    content = wider.SerializeToString()
    assert heads_at_detections(content) == (content, False)


@given(cut=st.integers(0, 10**9), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_damaged_messages_are_never_an_error(
    tiny_models: dict[str, ModelFile], cut: int, byte: int
) -> None:
    content = tiny_models["half"].path.read_bytes()
    lean, _ = without_output(content, "maps")
    heads_at_detections(lean[: cut % len(lean)])
    # Where the nodes are, not in the weights.
    place = cut % 20_000
    changed = bytearray(lean)
    changed[place] = byte
    heads_at_detections(bytes(changed))
