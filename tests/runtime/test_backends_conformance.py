"""What every backend must do, and the same for all: the conformance tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blinkloop
from blinkloop.errors import DeviceError
from blinkloop.runtime.backends import backend_table, create_backend, slices
from blinkloop.runtime.backends.contract import STEP_OUTPUTS
from blinkloop.runtime.backends.onnxruntime_cuda import (
    OnnxRuntimeCudaBackend,
    OnnxRuntimeCudaGraphBackend,
)
from blinkloop.runtime.benchmarking import agreement_problem
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.protocols import Backend, BackendOutput
from blinkloop.runtime.records import Frame

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")
BUNDLED = Path(blinkloop.__file__).parent / "models"
AVAILABLE = {row.name for row in backend_table() if row.available}


class CudaOnCpu(OnnxRuntimeCudaBackend):
    """All of the CUDA backend but the device: what a machine without one can test."""

    provider = "CPUExecutionProvider"
    device = "cpu"

    def _provider_options(self) -> dict[str, str]:
        return {}


class CudaGraphOnCpu(OnnxRuntimeCudaGraphBackend):
    """The fixed buffers and their two directions, without the recording."""

    provider = "CPUExecutionProvider"
    device = "cpu"

    def _provider_options(self) -> dict[str, str]:
        return {}


Maker = Callable[..., Any]
MAKERS: dict[str, Maker] = {
    "onnxruntime-cpu": partial(create_backend, "onnxruntime-cpu"),
    "openvino": partial(create_backend, "openvino"),
    "onnxruntime-cuda": partial(create_backend, "onnxruntime-cuda"),
    "onnxruntime-cuda:graph": partial(create_backend, "onnxruntime-cuda:graph"),
    "cuda on cpu": CudaOnCpu,
    "cuda graph on cpu": CudaGraphOnCpu,
}


@pytest.fixture(params=MAKERS, ids=str)
def backend_for(request: pytest.FixtureRequest) -> Maker:
    """Maker of one kind of backend: (model, maps=..., threshold=...) -> backend."""
    name: str = request.param
    maker = MAKERS[name]
    if maker is not CudaOnCpu and maker is not CudaGraphOnCpu:
        plain = name.partition(":")[0]
        if plain not in AVAILABLE:
            reasons = {row.name: row.reason for row in backend_table()}
            pytest.skip(reasons[plain])

    def make(model: ModelFile, **options: Any) -> Any:
        maps = options.pop("maps", make_camera_maps(model.card.camera))
        return maker(model, maps, threads=1, **options)

    return make


@pytest.fixture
def frames_THW(make_movie: Callable[..., list[Frame]]) -> np.ndarray:
    movie = make_movie(list(range(5)))
    return np.stack([frame.pixels for frame in movie]).astype(np.float32)


def _by_place(tables: np.ndarray) -> np.ndarray:
    """Rows in an order of their own: scores of 1, and there are many, are ties."""
    order = np.lexsort((tables[..., 1], tables[..., 2].round()))
    return np.take_along_axis(tables, order[..., None], 1)


def test_same_numbers_as_a_plain_session(
    backend_for: Maker, tiny_model: ModelFile, frames_THW: np.ndarray
) -> None:
    card = tiny_model.card
    maps = make_camera_maps(card.camera)
    size = card.architecture.feature_size(*frames_THW.shape[1:])
    session = onnxruntime.InferenceSession(
        str(tiny_model.path), providers=["CPUExecutionProvider"]
    )
    features = np.zeros((2, card.architecture.features, *size), np.float32)
    backend = backend_for(tiny_model)
    for start, part in ((True, frames_THW[:3]), (False, frames_THW[3:])):
        given = part.copy()
        output = backend.step(given, segment_start=start)
        np.testing.assert_array_equal(given, part)
        *expected, features = session.run(
            list(STEP_OUTPUTS),
            {
                "frames": part,
                "features_in": features,
                "segment_start": np.array([start], np.float32),
                "offset_adu": maps.offset_adu,
                "photons_per_adu": maps.photons_per_adu,
                "threshold": np.array([card.detection.threshold], np.float32),
            },
        )
        rows = slice(1 if start else 0, None)
        for name, value in zip(STEP_OUTPUTS[:-1], expected, strict=True):
            got = getattr(output, name)
            assert got.dtype == value.dtype
            if name == "detections":
                # On a CPU a table has as many rows as the fullest frame needs.
                used = got.shape[1]
                assert not value[rows, used:].any()
                got, value = _by_place(got), _by_place(value[:, :used])
            np.testing.assert_allclose(got[rows], value[rows], rtol=1e-3, atol=1e-3)


def test_outputs_survive_the_next_step(
    backend_for: Maker, tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    backend = backend_for(tiny_models["full"])
    first = backend.step(frames_THW[:2], segment_start=True)
    kept = first.detections.copy()
    for _ in range(3):
        backend.step(frames_THW[2:4] * 1.5, segment_start=False)
    np.testing.assert_array_equal(first.detections, kept)


def test_maps_agree_with_the_sums_and_change_nothing(
    backend_for: Maker, tiny_model: ModelFile, frames_THW: np.ndarray
) -> None:
    backend, other = backend_for(tiny_model), backend_for(tiny_model)
    for one in (backend, other):
        one.step(frames_THW[:2], segment_start=True)
    maps = backend.maps(frames_THW[2:], segment_start=False)
    assert maps.shape == (3, 10, *frames_THW.shape[1:])
    output: BackendOutput = backend.step(frames_THW[2:], segment_start=False)
    undisturbed = other.step(frames_THW[2:], segment_start=False)
    np.testing.assert_array_equal(output.detections, undisturbed.detections)
    np.testing.assert_allclose(maps[:, 0].sum((1, 2)), output.count_mean, rtol=1e-4)
    np.testing.assert_allclose(
        output.block_mean.sum((1, 2)), output.count_mean, rtol=1e-4
    )


def test_threshold(
    backend_for: Maker, tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    model = tiny_models["full"]
    counts = []
    for threshold in (0.05, None, 0.999):
        output = backend_for(model, threshold=threshold).step(
            frames_THW, segment_start=True
        )
        scores = output.detections[1:, :, 0]
        limit = model.card.detection.threshold if threshold is None else threshold
        assert scores[scores > 0].min() >= limit
        counts.append(int(output.counts[1:].sum()))
    assert counts[0] >= counts[1] > counts[2]


def test_camera_maps_reach_the_graph(
    backend_for: Maker, tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    model = tiny_models["full"]
    constant = make_camera_maps(model.card.camera)
    rng = np.random.default_rng(0)
    fixed = rng.uniform(-30, 30, frames_THW.shape[1:]).astype(np.float32)
    per_pixel = CameraMaps(constant.offset_adu + fixed, constant.photons_per_adu)
    plain = backend_for(model)
    expected = plain.step(frames_THW, segment_start=True)
    plain.set_camera(per_pixel)
    corrected = plain.step(frames_THW + fixed, segment_start=True)
    uncorrected = backend_for(model).step(frames_THW + fixed, segment_start=True)
    np.testing.assert_allclose(
        corrected.count_mean[1:], expected.count_mean[1:], rtol=1e-3
    )
    difference = np.abs(uncorrected.count_mean - expected.count_mean)[1:]
    assert difference.max() > 0.01 * expected.count_mean.max()


def test_misuse(
    backend_for: Maker, tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    backend = backend_for(tiny_models["full"])
    with pytest.raises(ValueError, match="no segment"):
        backend.step(frames_THW, segment_start=False)
    with pytest.raises(ValueError, match=r"\(T, H, W\)"):
        backend.step(frames_THW[0], segment_start=True)
    with pytest.raises(ValueError, match=r"\(T, H, W\)"):
        backend.step(frames_THW[:0], segment_start=True)
    backend.step(frames_THW, segment_start=True)
    with pytest.raises(ValueError, match="frame size"):
        backend.step(frames_THW[:, :5], segment_start=False)
    backend.close()
    with pytest.raises(ValueError, match="closed"):
        backend.step(frames_THW, segment_start=True)
    backend.close()


def test_a_failing_graph_is_a_device_error(
    backend_for: Maker, tiny_models: dict[str, ModelFile], frames_THW: np.ndarray
) -> None:
    backend = backend_for(tiny_models["full"])
    backend.step(frames_THW, segment_start=True)
    wrong = np.zeros((3, 2), np.float32)
    backend.set_camera(CameraMaps(wrong, wrong + 1))
    with pytest.raises(DeviceError, match="failed on 5 frames of 21 x 13 px") as caught:
        backend.step(frames_THW, segment_start=False)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no segment"):
        backend.step(frames_THW, segment_start=False)


def test_arithmetic_of_the_program_is_left_alone(
    backend_for: Maker, tiny_model: ModelFile
) -> None:
    """A session must not switch the thread to flushing subnormal numbers."""
    smallest = np.nextafter(np.float64(0), np.float64(1))
    backend = backend_for(tiny_model)
    backend.step(np.full((1, 16, 24), 120, np.float32), segment_start=True)
    np.testing.assert_array_less(0.0, smallest * np.float64(1.0))
    backend.close()


def test_cut_into_calls_or_whole(
    backend_for: Maker, tiny_model: ModelFile, frames_THW: np.ndarray
) -> None:
    """Features handed on, calls of changing length, a flush, and a second segment."""
    whole = backend_for(tiny_model).step(frames_THW, segment_start=True)
    backend = backend_for(tiny_model)
    for _ in range(2):
        means: list[float] = []
        for first, last in ((0, 2), (2, 3), (3, 4), (4, 5)):
            part = frames_THW[first:last]
            output = backend.step(part, segment_start=first == 0)
            means += output.count_mean[int(first == 0) :].tolist()
        np.testing.assert_allclose(means, whole.count_mean[1:], rtol=1e-4)


def test_agrees_with_the_reference(
    backend_for: Maker, tiny_model: ModelFile, frames_THW: np.ndarray
) -> None:
    card = tiny_model.card
    reference = create_backend(
        "onnxruntime-cpu", tiny_model, make_camera_maps(card.camera), threads=1
    )
    backend = backend_for(tiny_model)
    assert agreement_problem(backend, reference, card, frames_THW) == ""


def test_odd_sizes_are_grown_by_their_edge(
    backend_for: Maker, tiny_model: ModelFile, frames_THW: np.ndarray
) -> None:
    """Zeros beyond it would be the edge of a dark field."""
    height, width = frames_THW.shape[1:]
    multiple = tiny_model.card.architecture.size_multiple
    grown = np.pad(
        frames_THW, ((0, 0), (0, -height % multiple), (0, -width % multiple)), "edge"
    )
    assert grown.shape != frames_THW.shape
    wanted = backend_for(tiny_model).maps(grown)[1:, :, :height, :width]
    got = backend_for(tiny_model).maps(frames_THW)[1:]
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["universal-2d", "universal-2d-lite"])
def test_nothing_is_found_at_the_corner_of_empty_frames(
    backend_for: Maker, name: str
) -> None:
    """With zeros beyond it: 0.36 and 0.48 emitters a frame."""
    model = read_model(BUNDLED / f"{name}.onnx")
    maps = make_camera_maps(model.card.camera)
    rng = np.random.default_rng(0)
    photons = rng.poisson(20, (30, 33, 31)) + rng.normal(0, 1.5, (30, 33, 31))
    frames = (photons / maps.photons_per_adu + maps.offset_adu).astype(np.float32)
    output = backend_for(model).step(frames, segment_start=True)
    assert output.count_mean[1:].mean() < 0.1


def test_is_a_backend(backend_for: Maker, tiny_models: dict[str, ModelFile]) -> None:
    backend: Backend = backend_for(tiny_models["full"])
    assert backend.name.partition(":")[0] in {row.name for row in backend_table()}


def test_large_calls_are_cut_and_nothing_changes(
    backend_for: Maker,
    tiny_model: ModelFile,
    frames_THW: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = backend_for(tiny_model).step(frames_THW, segment_start=True)
    monkeypatch.setattr(slices, "PIXELS_PER_SLICE", 2 * frames_THW[0].size + 1)
    backend = backend_for(tiny_model)
    cut = backend.step(frames_THW, segment_start=True)
    np.testing.assert_array_equal(cut.counts[1:], whole.counts[1:])
    np.testing.assert_allclose(cut.count_mean[1:], whole.count_mean[1:], rtol=1e-4)
    assert cut.detections.shape == whole.detections.shape
    flushed = backend.step(frames_THW[-1:], segment_start=False)
    assert len(flushed.counts) == 1


@pytest.mark.parametrize(
    ("size", "count", "expected"),
    [
        ((512, 512), 3, [1, 1, 1]),
        ((1, 2**20), 2, [1, 1]),
        ((128, 128), 17, [16, 1]),
        ((5, 7), 40, [40]),
    ],
)
def test_slices(size: tuple[int, int], count: int, expected: list[int]) -> None:
    calls: list[tuple[int, bool]] = []

    def step(frames: np.ndarray, segment_start: bool) -> BackendOutput:
        calls.append((len(frames), segment_start))
        rows = np.zeros(len(frames), np.float32)
        # Tables of different lengths, as each call has another fullest frame.
        table = np.full((len(frames), len(calls), 11), len(calls), np.float32)
        return BackendOutput(table, rows.astype(np.int64), rows, rows, rows)

    frames = np.broadcast_to(np.float32(0), (count, *size))
    output = slices.step_in_slices(step, frames, True)
    assert [n for n, _ in calls] == expected
    assert [start for _, start in calls] == [True] + [False] * (len(expected) - 1)
    assert len(output.counts) == count
    assert output.detections.shape == (count, len(calls), 11)
    # Each call filled as many rows as it had; those behind are empty.
    lengths = np.repeat(range(1, len(calls) + 1), expected)
    np.testing.assert_array_equal((output.detections[..., 0] > 0).sum(1), lengths)
