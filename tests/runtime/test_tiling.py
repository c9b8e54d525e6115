"""Tiled equals whole, a region equals the whole inside it, and the halo is no guess."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.runtime import StreamLocalizer, create_backend, make_camera_maps
from blinkloop.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpuBackend
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.records import Frame, FrameResult, Roi
from blinkloop.runtime.tiled import RegionLocalizer, TiledLocalizer
from blinkloop.runtime.tiling import (
    KNOWN_FIELDS,
    TilePlan,
    grid_px,
    halo_px,
    plan_tiles,
    receptive_field,
    step_bytes,
)
from blinkloop.schema import Architecture

MovieMaker = Callable[..., list[Frame]]
FRAME = Roi(30, 70, 190, 21)
"""Wide and flat: many tiles from few pixels."""


def test_no_field_of_the_architecture_is_unknown() -> None:
    assert set(Architecture.model_fields) == KNOWN_FIELDS


@pytest.mark.parametrize(
    ("depth", "stride", "side"), [(2, 1, 44), (1, 1, 18), (1, 2, 38), (2, 2, 90)]
)
def test_receptive_field_of_known_networks(depth: int, stride: int, side: int) -> None:
    """(2, 1) is the official one: 41 to 44 px were measured (REFERENCE section 1)."""
    architecture = Architecture(depth=depth, stem_stride=stride)
    assert receptive_field(architecture) == (side, side)
    assert halo_px(architecture) >= side + 2
    assert halo_px(architecture) % grid_px(architecture) == 0


def seen_from(maps: npt.NDArray[np.floating], x: int) -> tuple[int, int]:
    """Smallest and largest column of NaN, relative to x."""
    columns = np.flatnonzero(np.isnan(maps).any(axis=(0, 1)))
    return int(columns.min() - x), int(columns.max() - x)


def test_receptive_field_measured_through_the_graph(tiny_model: ModelFile) -> None:
    """NaN in one pixel reaches every pixel that sees it, and no other."""
    architecture = tiny_model.card.architecture
    maps = make_camera_maps(tiny_model.card.camera)
    backend = create_backend("onnxruntime-cpu", tiny_model, maps, threads=1)
    assert isinstance(backend, OnnxRuntimeCpuBackend)
    before = after = 0
    for x in range(100, 100 + architecture.size_multiple):
        frames = np.full((2, 8, 208), 150, np.float32)
        frames[:, 4, x] = np.nan
        # Pixels to the left see it when they look to the right.
        low, high = seen_from(backend.maps(frames)[1, 1:], x)
        before, after = max(before, high), max(after, -low)
    assert (before, after) == receptive_field(architecture)


@pytest.mark.parametrize(
    ("depth", "stride", "context", "convolutions"),
    [
        (1, 1, None, 2),
        (2, 2, None, 2),
        (3, 1, None, 1),
        (1, 4, None, 2),
        (1, 2, 2, 2),
        (2, 1, 1, 3),
        (0, 2, None, 4),
        (0, 1, 1, 3),
        (1, 4, 0, 2),
    ],
)
def test_receptive_field_measured_through_the_network(
    depth: int, stride: int, context: int | None, convolutions: int
) -> None:
    torch = pytest.importorskip("torch")
    network = pytest.importorskip("blinkloop.training.network")
    architecture = Architecture(
        features=2,
        depth=depth,
        stem_stride=stride,
        kept_features=1,
        context_depth=context,
        convolutions=convolutions,
    )
    net = network.TwoStageNetwork(architecture).eval()
    multiple = architecture.size_multiple
    before = after = 0
    for x in range(240, 240 + multiple):
        frames = torch.zeros(1, 3, multiple, 480)
        frames[:, :, multiple // 2, x] = float("nan")
        with torch.no_grad():
            low, high = seen_from(net(frames)[0, 1:].numpy(), x)
        before, after = max(before, high), max(after, -low)
    assert (before, after) == receptive_field(architecture)


ROIS = st.builds(
    Roi,
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(1, 400),
    st.integers(1, 400),
)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_cores_cover_the_region_once(data: st.DataObject) -> None:
    frame = data.draw(ROIS)
    x = data.draw(st.integers(0, frame.width - 1))
    y = data.draw(st.integers(0, frame.height - 1))
    region = Roi(
        frame.x + x,
        frame.y + y,
        data.draw(st.integers(1, frame.width - x)),
        data.draw(st.integers(1, frame.height - y)),
    )
    architecture = Architecture(
        depth=data.draw(st.integers(0, 3)),
        stem_stride=data.draw(st.sampled_from([1, 2, 4])),
        context_depth=data.draw(st.none() | st.integers(0, 3)),
        convolutions=data.draw(st.integers(1, 4)),
    )
    tile = data.draw(st.none() | st.tuples(st.integers(20, 200), st.integers(20, 200)))
    plan = plan_tiles(frame, architecture, region=region, tile=tile)
    grid, halo = grid_px(architecture), halo_px(architecture)
    times = np.zeros((frame.height, frame.width), int)
    lengths: dict[str, set[int]] = {}
    needed: dict[str, list[int]] = {}
    for piece in plan.tiles:
        core, window = piece.core, piece.window
        top, left = core.y - frame.y, core.x - frame.x
        times[top : top + core.height, left : left + core.width] += 1
        for axis, at, edge, size, low, w_size, whole in (
            ("x", core.x, frame.x, core.width, window.x, window.width, frame.width),
            ("y", core.y, frame.y, core.height, window.y, window.height, frame.height),
        ):
            assert (low - edge) % grid == 0
            assert (at - edge) % grid == 0
            # The halo inside the frame, and no more than makes all of one length.
            first, last = max(at - halo, edge), min(at + size + halo, edge + whole)
            assert edge <= low <= first
            assert last <= low + w_size <= edge + whole
            lengths.setdefault(axis, set()).add(w_size)
            needed.setdefault(axis, []).append(last - first)
    for axis, found in lengths.items():
        (length,) = found
        assert max(needed[axis]) <= length < max(needed[axis]) + grid
    inside = times[y : y + region.height, x : x + region.width]
    np.testing.assert_array_equal(inside, 1)
    assert times.max() == 1


@pytest.mark.parametrize(
    "region",
    [Roi(0, 0, 5, 5), Roi(30, 70, 0, 5), Roi(200, 70, 30, 5), Roi(40, 85, 5, 9)],
)
def test_regions_outside_the_frame_are_refused(region: Roi) -> None:
    with pytest.raises(InputError, match=r"not inside the frames.*\(30, 70\)"):
        plan_tiles(FRAME, Architecture(), region=region)


def test_tile_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match=r"at least 1 x 1 px, got 0 x 8"):
        plan_tiles(FRAME, Architecture(), tile=(0, 8))


def test_memory_grows_with_frames_and_width() -> None:
    small, large = Architecture(features=8), Architecture(features=48)
    assert step_bytes(small, 2000) == 2 * step_bytes(small, 1000)
    assert step_bytes(large, 1000) > 3 * step_bytes(small, 1000)


def run(localizer: object, frames: list[Frame], sizes: list[int]) -> list[FrameResult]:
    """All results; pushed in batches of these sizes in turn."""
    results: list[FrameResult] = []
    start = turn = 0
    while start < len(frames):
        stop = start + sizes[turn % len(sizes)]
        results += localizer.push(frames[start:stop])  # type: ignore[attr-defined]
        start, turn = stop, turn + 1
    return [*results, *localizer.flush()]  # type: ignore[attr-defined]


def by_position(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    return rows[np.lexsort((rows["x_px"].round(2), rows["y_px"].round(2)))]


def within(rows: npt.NDArray[np.void], plan: TilePlan) -> npt.NDArray[np.void]:
    """The whole frame's localizations inside the region, open at the frame's edge."""
    region, frame = plan.region, plan.frame
    keep = np.ones(len(rows), bool)
    for name, low, size, edge, whole in (
        ("x_px", region.x, region.width, frame.x, frame.width),
        ("y_px", region.y, region.height, frame.y, frame.height),
    ):
        keep &= (rows[name] >= low - 0.5) | (low == edge)
        keep &= (rows[name] < low + size - 0.5) | (low + size == edge + whole)
    return rows[keep]


def assert_same(
    results: list[FrameResult], whole: list[FrameResult], plan: TilePlan
) -> None:
    assert len(results) == len(whole)
    covered = plan.covered
    for one, other in zip(results, whole, strict=True):
        assert (one.index, one.timestamp_s) == (other.index, other.timestamp_s)
        assert one.segment == other.segment
        assert one.roi == covered
        rows = by_position(one.localizations)
        expected = by_position(within(other.localizations, plan))
        assert len(rows) == len(expected)
        for name in rows.dtype.names or ():
            np.testing.assert_allclose(
                rows[name], expected[name], rtol=1e-3, atol=2e-3, err_msg=name
            )
        y, x = (covered.y - plan.frame.y) // 8, (covered.x - plan.frame.x) // 8
        height, width = one.block_mean.shape
        blocks = other.block_mean[y : y + height, x : x + width]
        np.testing.assert_allclose(one.block_mean, blocks, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(one.count_mean, blocks.sum(), rtol=1e-3)
        assert one.count_variance > 0


@pytest.mark.parametrize("name", ["full", "half"])
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_tiled_equals_whole(
    name: str, data: st.DataObject, tiny_models: dict[str, ModelFile]
) -> None:
    model = tiny_models[name]
    tall = data.draw(st.booleans())
    long, short = data.draw(st.integers(100, 190)), data.draw(st.integers(3, 24))
    frame = Roi(30, 70, *((short, long) if tall else (long, short)))
    core = data.draw(st.integers(25, 70))
    start = data.draw(st.integers(0, 99) | st.just(0))
    size = data.draw(st.integers(1, long - start) | st.just(long - start))
    region = (
        Roi(30, 70 + start, short, size) if tall else Roi(30 + start, 70, size, short)
    )
    plan = plan_tiles(frame, model.card.architecture, region=region, tile=(core, core))
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    numbers = data.draw(st.sampled_from([[4], [3, 4], [3, 4, 5, 6], [3, 4, 6, 7]]))
    frames = []
    for number in numbers:
        pixels = rng.poisson(40, (frame.height, frame.width)) + 100.0
        spots = rng.integers(pixels.shape, size=(pixels.size // 60 + 1, 2))
        pixels[spots[:, 0], spots[:, 1]] += rng.uniform(200, 2000, len(spots))
        frames.append(Frame(number, number * 0.02, pixels.astype(np.uint16), frame))
    whole = run(StreamLocalizer(model, "onnxruntime-cpu", threads=1), frames, [99])
    tiled = TiledLocalizer(
        model,
        "onnxruntime-cpu",
        None,
        plan,
        threads=1,
        max_frames_per_call=data.draw(st.integers(1, 3)),
    )
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    assert_same(run(tiled, frames, sizes), whole, plan)
    tiled.close()


def cut(frames: list[Frame], window: Roi) -> list[Frame]:
    cut = []
    for f in frames:
        y, x = window.y - f.roi.y, window.x - f.roi.x
        pixels = f.pixels[y : y + window.height, x : x + window.width]
        cut.append(Frame(f.index, f.timestamp_s, pixels, window))
    return cut


@pytest.mark.parametrize("region", [Roi(121, 74, 33, 9), Roi(30, 70, 190, 21)])
def test_region_equals_the_whole_inside_it(
    region: Roi, tiny_model: ModelFile, make_movie: MovieMaker
) -> None:
    frames = make_movie([0, 1, 2], FRAME)
    plan = plan_tiles(FRAME, tiny_model.card.architecture, region=region)
    (tile,) = plan.tiles
    whole = run(StreamLocalizer(tiny_model, threads=1), frames, [2])
    localizer = RegionLocalizer(StreamLocalizer(tiny_model, threads=1), plan)
    results = run(localizer, cut(frames, tile.window), [2])
    assert_same(results, whole, plan)
    assert sum(len(result.localizations) for result in results) > 0
    localizer.close()


def test_localization_at_a_border_of_cores_comes_once(
    tiny_models: dict[str, ModelFile], make_movie: MovieMaker
) -> None:
    """Cores whose border is moved onto localizations, to rounding."""
    from blinkloop.runtime.tiled import _Merger

    model = tiny_models["full"]
    plan = plan_tiles(FRAME, model.card.architecture, tile=(24, 96))
    (whole,) = run(StreamLocalizer(model, threads=1), make_movie([0], FRAME), [1])
    border = plan.tiles[1].core.x - 0.5
    rows = whole.localizations[:4].copy()
    assert len(rows) == 4
    rows["y_px"] = [72, 75, 75, 78]
    # Two emitters at one place are two; one beyond the border in one tile only.
    left, right = rows.copy(), rows.copy()
    left["x_px"] = border + np.array([-1e-5, 1e-5, 2e-5, 0.5])
    right["x_px"] = border + np.array([1e-5, -1e-5, 2e-5, 0.5])
    merger = _Merger(plan, model.card.tolerances.position_px)
    for tile, part in zip(plan.tiles, (left, right), strict=True):
        blocks = np.ones((3, -(-tile.window.width // 8)), np.float32)
        window = FrameResult(
            0, 0.0, tile.window, 0, part, False, float(blocks.sum()), 1.0, blocks
        )
        merger.add(tile, [window])
    (merged,) = merger.results()
    found = np.sort(merged.localizations["y_px"])
    np.testing.assert_array_equal(found, [72, 75, 75, 78])


def test_frames_of_another_region_are_refused(
    tiny_models: dict[str, ModelFile], make_movie: MovieMaker
) -> None:
    model = tiny_models["full"]
    plan = plan_tiles(FRAME, model.card.architecture, tile=(24, 96))
    tiled = TiledLocalizer(model, "onnxruntime-cpu", None, plan, threads=1)
    with pytest.raises(InputError, match="plan the tiles for these frames"):
        tiled.push(make_movie([0], Roi(31, 70, 190, 21)))
    assert tiled.flush() == []
    tiled.close()
