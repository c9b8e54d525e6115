"""Graphs rewritten for OpenVINO, against the same graphs as they are in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import blinkloop
from blinkloop.runtime import create_backend, make_camera_maps
from blinkloop.runtime.backends import openvino as backend_module
from blinkloop.runtime.backends.lean_graph import lean_graph
from blinkloop.runtime.backends.openvino_graph import (
    AFTER,
    BEFORE,
    read_channels_last,
    single,
)
from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.protocols import BackendOutput

openvino = pytest.importorskip("openvino", reason="needs the extra 'openvino'")
BUNDLED = Path(blinkloop.__file__).parent / "models"


def graph_of(model: ModelFile, *, for_cpu: bool = True) -> Any:
    content, _ = lean_graph(model.path.read_bytes(), for_cpu=for_cpu)
    return openvino.Core().read_model(content)


def kinds(graph: Any) -> list[str]:
    return [node.get_type_name() for node in graph.get_ordered_ops()]


def as_in_the_file(model: ModelFile, maps: CameraMaps) -> Any:
    """A backend that leaves the graph alone and compiles it for any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend_module, "read_channels_last", lambda _graph: False)
        backend = create_backend("openvino", model, maps, threads=1)
    patch = pytest.MonkeyPatch()
    patch.setattr(backend, "_request_for", lambda *_: (backend._request, AFTER))
    return backend


def movie(seed: int, count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frames = rng.poisson(120, (count, height, width)).astype(np.float32)
    places = rng.integers((count, height, width), size=(3 * count, 3))
    frames[tuple(places.T)] += 900
    return frames


def same(got: BackendOutput, wanted: BackendOutput, *, start: bool = False) -> None:
    """The first row of a call that starts a segment means nothing."""
    meant = slice(int(start), None)
    np.testing.assert_array_equal(got.counts[meant], wanted.counts[meant])
    for name in ("count_mean", "count_variance", "block_mean"):
        values = getattr(got, name)[meant], getattr(wanted, name)[meant]
        np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-4)
    # Scores of 1 are ties, so rows have an order of their own.
    tables = got.detections[meant], wanted.detections[meant]
    for a, b in zip(*tables, strict=True):
        a, b = (t[t[:, 0] > 0] for t in (a, b))
        rows = [t[np.lexsort((t[:, 1], t[:, 2].round()))] for t in (a, b)]
        scale = np.abs(b).max(0, initial=1.0)
        np.testing.assert_allclose(rows[0] / scale, rows[1] / scale, atol=1e-4)


@pytest.fixture(scope="module")
def pairs(tiny_models: dict[str, ModelFile]) -> dict[str, tuple[Any, Any]]:
    found = {}
    for name, model in tiny_models.items():
        maps = make_camera_maps(model.card.camera)
        rewritten = create_backend("openvino", model, maps, threads=1)
        found[name] = rewritten, as_in_the_file(model, maps)
    return found


@given(
    size=st.sampled_from([(13, 21), (1, 1), (16, 8), (9, 33)]),
    calls=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    restart=st.integers(0, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_the_same_numbers(
    pairs: dict[str, tuple[Any, Any]],
    size: tuple[int, int],
    calls: list[int],
    restart: int,
    seed: int,
) -> None:
    """Calls of any lengths, segments that start anywhere, sizes that change."""
    for rewritten, plain in pairs.values():
        for number, count in enumerate(calls):
            frames = movie(seed + number, count, *size)
            start = number in (0, restart)
            outputs = [b.step(frames, segment_start=start) for b in (rewritten, plain)]
            same(*outputs, start=start)


def test_maps_of_the_camera_may_come_later(tiny_model: ModelFile) -> None:
    """A graph of one size takes maps of one pixel and of all."""
    one = make_camera_maps(tiny_model.card.camera)
    rng = np.random.default_rng(0)
    whole = CameraMaps(
        offset_adu=rng.uniform(90, 110, (13, 21)).astype(np.float32),
        photons_per_adu=rng.uniform(0.8, 1.2, (13, 21)).astype(np.float32),
    )
    backends = [
        create_backend("openvino", tiny_model, one, threads=1),
        as_in_the_file(tiny_model, one),
    ]
    frames = movie(1, 2, 13, 21)
    outputs = []
    for backend in backends:
        backend.step(frames, segment_start=True)
        backend.set_camera(whole)
        outputs.append(backend.step(frames, segment_start=False))
    same(*outputs)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """(T, H, W) of the graphs of one size that are made in a test."""
    sizes = []
    fixed = backend_module.fixed

    def counted(graph: Any, frames: Any, features: Any) -> Any:
        sizes.append(frames)
        return fixed(graph, frames, features)

    monkeypatch.setattr(backend_module, "fixed", counted)
    return sizes


def test_compiled_once_for_a_size(tiny_model: ModelFile, made: list[Any]) -> None:
    """For the first call of all, never while a camera runs."""
    maps = make_camera_maps(tiny_model.card.camera)
    backend = create_backend("openvino", tiny_model, maps, threads=1)
    for count, start in ((1, True), (1, False), (3, False), (4, True), (1, False)):
        backend.step(movie(0, count, 13, 21), segment_start=start)
    assert made == [(1, 13, 21)]


def test_frames_one_by_one_copy_no_features(tiny_model: ModelFile) -> None:
    """Each stays where it was written; three arrays take turns."""
    maps = make_camera_maps(tiny_model.card.camera)
    backend = create_backend("openvino", tiny_model, maps, threads=1)
    frames = movie(5, 9, 13, 21)
    backend.step(frames[:1], segment_start=True)
    first = backend._features
    assert first[0] is first[1]
    seen = {id(first[0])}
    for number in range(1, 9):
        before = backend._features
        values = before[1].copy()
        backend.step(frames[number : number + 1], segment_start=False)
        after = backend._features
        assert after[0] is before[1]
        np.testing.assert_array_equal(after[0], values)
        assert not any(after[1] is array for array in before)
        seen.add(id(after[1]))
    assert len(seen) == 3
    # A call of several, and one alone after it, go on with the same frames.
    other = create_backend("openvino", tiny_model, maps, threads=1)
    other.step(frames[:5], segment_start=True)
    other.step(frames[5:8], segment_start=False)
    output = other.step(frames[8:], segment_start=False)
    alone = create_backend("openvino", tiny_model, maps, threads=1)
    for number in range(9):
        wanted = alone.step(frames[number : number + 1], segment_start=number == 0)
    same(output, wanted)


def test_large_frames_need_no_graph_of_any_size(
    tiny_model: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of them are of one frame; should others come, there is one again."""
    monkeypatch.setattr(backend_module, "PIXELS_PER_SLICE", 2 * 13 * 21 - 1)
    maps = make_camera_maps(tiny_model.card.camera)
    backend = create_backend("openvino", tiny_model, maps, threads=1)
    usual = as_in_the_file(tiny_model, maps)
    backends = backend, usual
    assert backend._request is not None
    for number in range(3):
        frames = movie(number, 1, 13, 21)
        start = number == 0
        same(*(b.step(frames, segment_start=start) for b in backends), start=start)
    assert backend._request is None
    for count, width, start in ((2, 21, False), (3, 8, True), (1, 8, False)):
        frames = movie(7, count, 13, width)
        same(*(b.step(frames, segment_start=start) for b in backends), start=start)
    assert backend._request is not None
    backend.close()
    with pytest.raises(ValueError, match="closed"):
        backend.step(movie(0, 1, 13, 21), segment_start=True)


def test_tiles_that_take_turns_are_not_compiled_again_and_again(
    tiny_model: ModelFile, made: list[Any]
) -> None:
    """A corner first, then mostly others: they get a graph of their own, once."""
    maps = make_camera_maps(tiny_model.card.camera)
    backend = create_backend("openvino", tiny_model, maps, threads=1)
    corner, edge, inside = (8, 9), (8, 16), (16, 16)
    for _ in range(6):
        for size in (corner, edge, corner, edge, inside, edge, corner, edge, corner):
            backend.step(movie(0, 2, *size), segment_start=True)
    assert made == [(2, *corner)]
    for _ in range(3):
        for size in (corner, edge, edge, edge, corner):
            backend.step(movie(0, 2, *size), segment_start=True)
    # Edges lead by four once; corners never lead again.
    assert made == [(2, *corner), (2, *edge)]


@pytest.mark.parametrize("file", sorted(BUNDLED.glob("*.onnx")), ids=lambda f: f.stem)
def test_bundled_models(file: Path) -> None:
    model = read_model(file)
    graph = graph_of(model)
    before = kinds(graph)
    assert read_channels_last(graph)
    after = kinds(graph)
    # Of those that read around detections none is left; one reads p, in pixels.
    assert (before.count("GatherElements"), after.count("GatherElements")) == (2, 1)
    channels = model.card.architecture.kept_channels
    ports = {
        port.any_name: port.partial_shape for port in (*graph.inputs, *graph.outputs)
    }
    for name in (*BEFORE, *AFTER):
        assert ports[name].rank.get_length() == 4
        assert (ports[name][0], ports[name][3]) == (1, channels)
        assert ports[name][1].is_dynamic
    maps = make_camera_maps(model.card.camera)
    backends = (
        create_backend("openvino", model, maps, threads=1),
        as_in_the_file(model, maps),
    )
    for start in (True, False):
        frames = movie(3, 2, 33, 41)
        outputs = [backend.step(frames, segment_start=start) for backend in backends]
        same(*outputs, start=start)


def test_other_graphs_stay_as_they_are(tiny_model: ModelFile) -> None:
    ops = pytest.importorskip("openvino.opset13")
    value = ops.parameter([2, 3, -1, -1], np.float32, name="features_in")
    value.output(0).set_names({"features_in"})
    other = openvino.Model([ops.relu(value)], [value], "other")
    assert single(other) is None
    assert not read_channels_last(other)
    assert kinds(other).count("Transpose") == 0
    graph = graph_of(tiny_model)
    read_channels_last(graph)
    before = kinds(graph)
    assert not read_channels_last(graph)
    assert kinds(graph) == before
