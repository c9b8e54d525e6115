"""The stream localizer: its law, its rows, its refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.localizer import StreamLocalizer, localize_movie
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import BackendOutput
from blinkloop.runtime.records import Frame, FrameResult, Roi
from blinkloop.schema import Tolerances

pytest.importorskip("onnxruntime", reason="needs the extra 'cpu'")
MakeMovie = Callable[..., list[Frame]]


@pytest.fixture(scope="module")
def localizers(tiny_models: dict[str, ModelFile]) -> dict[str, StreamLocalizer]:
    """One loaded localizer per network; every test leaves them flushed."""
    return {
        name: StreamLocalizer(model, threads=1) for name, model in tiny_models.items()
    }


def in_chunks(
    localizer: StreamLocalizer, frames: list[Frame], sizes: Iterator[int] | list[int]
) -> list[FrameResult]:
    """Results of a movie pushed in chunks of the sizes given, the last one repeated."""
    results: list[FrameResult] = []
    start, size = 0, 1
    source = iter(sizes)
    while start < len(frames):
        size = next(source, size)
        results += localizer.push(frames[start : start + size])
        start += size
    return results + localizer.flush()


def assert_same(
    got: list[FrameResult], wanted: list[FrameResult], tolerances: Tolerances
) -> None:
    """Same frames and, to the tolerances, the same detections in each."""
    for one, other in zip(got, wanted, strict=True):
        assert (one.index, one.segment) == (other.index, other.segment)
        assert (one.timestamp_s, one.roi) == (other.timestamp_s, other.roi)
        assert one.table_full == other.table_full
        np.testing.assert_allclose(one.count_mean, other.count_mean, rtol=1e-3)
        np.testing.assert_allclose(one.count_variance, other.count_variance, rtol=1e-3)
        np.testing.assert_allclose(one.block_mean, other.block_mean, atol=2e-2)
        a, b = one.localizations, other.localizations
        assert len(a) == len(b)
        if len(a) == 0:
            continue
        # Rows of equal score may change places: pair each with the nearest in x and y,
        # photons deciding between detections at one place.
        distance = np.abs(a["x_px"][:, None] - b["x_px"])
        distance += np.abs(a["y_px"][:, None] - b["y_px"])
        distance += np.abs(a["photons"][:, None] - b["photons"]) / 1e4
        partner = distance.argmin(1)
        assert len(np.unique(partner)) == len(a)
        b = b[partner]
        np.testing.assert_array_equal(a["frame"], b["frame"])
        np.testing.assert_allclose(a["prob"], b["prob"], atol=tolerances.prob)
        for name in ("x_px", "y_px", "x_sigma_px", "y_sigma_px"):
            np.testing.assert_allclose(a[name], b[name], atol=tolerances.position_px)
        for name in ("z_nm", "z_sigma_nm"):
            np.testing.assert_allclose(a[name], b[name], atol=tolerances.z_nm)
        for name in ("photons", "background_photons", "photons_sigma"):
            np.testing.assert_allclose(
                a[name], b[name], rtol=tolerances.photons_relative
            )


GAPPED = [*range(3, 40), *range(55, 90), 100]


@pytest.mark.parametrize("network", ["full", "half"])
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_chunks_equal_the_whole_movie(
    localizers: dict[str, StreamLocalizer],
    tiny_models: dict[str, ModelFile],
    make_movie: MakeMovie,
    network: str,
    size: int,
) -> None:
    movie = make_movie(GAPPED)
    model = tiny_models[network]
    at_once = StreamLocalizer(model, threads=1, max_frames_per_call=1000)
    whole = in_chunks(at_once, movie, [len(movie)])
    assert [result.index for result in whole] == GAPPED
    assert sum(len(result.localizations) for result in whole) > len(movie)
    first = whole[0].segment
    segments = [result.segment - first for result in whole]
    assert segments == [0] * 37 + [1] * 35 + [2]
    streamed = in_chunks(StreamLocalizer(model, threads=1), movie, [size])
    assert_same(streamed, whole, model.card.tolerances)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    network=st.sampled_from(["full", "half"]),
    jumps=st.lists(st.sampled_from([1, 1, 1, 1, 3, -2]), min_size=0, max_size=11),
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 23), st.integers(1, 23)),
)
def test_law_any_chunking_any_gaps_any_size(
    tiny_models: dict[str, ModelFile],
    make_movie: MakeMovie,
    network: str,
    jumps: list[int],
    sizes: list[int],
    seed: int,
    size: tuple[int, int],
) -> None:
    indices = [int(index) for index in np.cumsum([50, *jumps])]
    movie = make_movie(indices, Roi(5, 9, *size), seed=seed)
    model = tiny_models[network]
    whole = in_chunks(StreamLocalizer(model, threads=1), movie, [len(movie)])
    streamed = in_chunks(StreamLocalizer(model, threads=1), movie, sizes)
    assert [result.index for result in whole] == indices
    assert_same(streamed, whole, model.card.tolerances)


@pytest.mark.parametrize("network", ["full", "half"])
def test_equals_the_three_frame_network_in_torch(
    localizers: dict[str, StreamLocalizer],
    tiny_models: dict[str, ModelFile],
    make_movie: MakeMovie,
    network: str,
) -> None:
    """Each frame's result is the network on (previous, frame, next), edges repeated."""
    torch = pytest.importorskip("torch", reason="the reference runs in torch")
    pytest.importorskip("onnx", reason="the weights are read with onnx")
    from blinkloop.export.weights import make_network, read_model_weights
    from blinkloop.training.detection import count_variance, localize, physical_scale

    weights, card = read_model_weights(tiny_models[network].path)
    reference = make_network(card.architecture, weights, source="tiny model")

    roi = Roi(x=30, y=70, width=21, height=13)
    movie = make_movie([0, 1, 2, 3, 8, 9, 20], roi)
    triples = [
        *((0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 3)),
        *((4, 4, 5), (4, 5, 5)),
        (6, 6, 6),
    ]
    adu = np.stack([frame.pixels for frame in movie]).astype(np.float64)
    photons = (adu - card.camera.baseline_adu) * card.camera.e_per_adu
    scaled = photons - card.scaling.input_offset_photons
    scaled /= card.scaling.input_scale_photons
    padded = np.pad(scaled, ((0, 0), (0, 3), (0, 3)), "edge")  # 21 x 13 to 24 x 16
    inputs = torch.from_numpy(padded[np.array(triples)].astype(np.float32))
    with torch.no_grad():
        maps = reference(inputs)[:, :, :13, :21]
    maps *= torch.tensor(physical_scale(card.scaling)).reshape(1, -1, 1, 1)
    table = localize(maps, card.detection)

    results = in_chunks(localizers[network], movie, [3, 1])
    expected = []
    for number, result in enumerate(results):
        rows = table[table["frame"] == number]
        rows["frame"] = movie[number].index
        rows["x_px"] += roi.x
        rows["y_px"] += roi.y
        p = maps[number, 0].numpy().astype(np.float64)
        blocks = np.pad(p, ((0, 3), (0, 3))).reshape(2, 8, 3, 8).sum((1, 3))
        expected.append(
            FrameResult(
                index=result.index,
                timestamp_s=result.timestamp_s,
                roi=result.roi,
                segment=result.segment,
                localizations=rows,
                table_full=result.table_full,
                count_mean=p.sum(),
                count_variance=float(count_variance(maps[number : number + 1, 0])),
                block_mean=blocks,
            )
        )
    assert_same(results, expected, card.tolerances)


def test_region_offset_and_change_of_region(
    localizers: dict[str, StreamLocalizer], make_movie: MakeMovie
) -> None:
    localizer = localizers["full"]
    near, far = Roi(0, 0, 21, 13), Roi(300, 1000, 21, 13)
    other = Roi(300, 1000, 10, 31)
    movie = make_movie([0, 1, 2], near)
    base = in_chunks(localizer, movie, [3])
    moved = [replace(frame, roi=far) for frame in movie]
    mixed = [*moved, *make_movie([3, 4], other)]
    results = in_chunks(localizer, mixed, [len(mixed)])
    assert [result.index for result in results] == [0, 1, 2, 3, 4]
    assert len({result.segment for result in results[:3]}) == 1
    assert results[3].segment == results[2].segment + 1
    for one, shifted in zip(base, results, strict=False):
        a, b = one.localizations, shifted.localizations
        np.testing.assert_allclose(b["x_px"], a["x_px"] + 300, atol=1e-9)
        np.testing.assert_allclose(b["y_px"], a["y_px"] + 1000, atol=1e-9)
    last = results[4].localizations
    assert len(last) > 0
    assert np.all(np.abs(last["x_px"] - 304.5) < 7)
    assert np.all(np.abs(last["y_px"] - 1015) < 17)
    assert results[4].block_mean.shape == (4, 2)


@pytest.mark.parametrize("dtype", ["uint8", "float32", ">u2", ">f4"])
def test_pixel_types_give_the_same_result(
    localizers: dict[str, StreamLocalizer],
    tiny_models: dict[str, ModelFile],
    make_movie: MakeMovie,
    dtype: str,
) -> None:
    localizer = localizers["full"]
    movie = make_movie([0, 1, 2], dtype="uint8")
    wide = [replace(frame, pixels=frame.pixels.astype("uint16")) for frame in movie]
    other = [replace(frame, pixels=frame.pixels.astype(dtype)) for frame in movie]
    expected = in_chunks(localizer, wide, [3])
    got = in_chunks(localizer, other, [3])
    for one in got:
        one.segment -= 1
    assert_same(got, expected, tiny_models["full"].card.tolerances)


@pytest.mark.parametrize("value", [0, 65535], ids=["black", "saturated"])
def test_extreme_frames(localizers: dict[str, StreamLocalizer], value: int) -> None:
    roi = Roi(0, 0, 9, 6)
    pixels = np.full((6, 9), value, np.uint16)
    movie = [Frame(index, 0.0, pixels, roi) for index in range(3)]
    for result in in_chunks(localizers["half"], movie, [2]):
        assert np.isfinite(result.count_mean)
        for name in result.localizations.dtype.names or ():
            assert np.isfinite(result.localizations[name]).all()


def spoiled(value: float) -> np.ndarray:
    pixels = np.full((13, 21), 100.0, np.float32)
    pixels[2, 3] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        pytest.param(np.zeros((13, 21)), "type float64", id="float64"),
        pytest.param(np.zeros((13, 21), "i2"), "type int16", id="int16"),
        pytest.param(np.zeros((13, 21), bool), "type bool", id="bool"),
        pytest.param(np.zeros((13, 21, 3), "u1"), "one grey image", id="colour"),
        pytest.param(np.zeros((0, 21), "u2"), "one grey image", id="empty"),
        pytest.param(np.zeros((21, 13), "u2"), "13 x 21 px .* 21 x 13", id="swapped"),
        pytest.param(spoiled(np.nan), "1 pixels that are NaN or infinite", id="nan"),
        pytest.param(spoiled(np.inf), "1 pixels that are NaN or infinite", id="inf"),
    ],
)
def test_refused_frames_leave_the_rest_intact(
    localizers: dict[str, StreamLocalizer],
    make_movie: MakeMovie,
    pixels: np.ndarray,
    message: str,
) -> None:
    localizer = localizers["full"]
    good = make_movie([0, 1, 2])
    bad = replace(good[2], pixels=pixels)
    before = localizer.push(good[:2])
    with pytest.raises(InputError, match=f"frame 2 .*{message}"):
        localizer.push([bad])
    after = localizer.push(good[2:]) + localizer.flush()
    assert [result.index for result in before + after] == [0, 1, 2]


def test_region_outside_the_camera_maps(
    tiny_models: dict[str, ModelFile], make_movie: MakeMovie
) -> None:
    model = tiny_models["full"]
    baseline = np.full((20, 40), 100.0)
    maps = make_camera_maps(model.card.camera, baseline_adu_map=baseline)
    localizer = StreamLocalizer(model, maps=maps, threads=1)
    with pytest.raises(InputError, match="camera maps cover"):
        localizer.push(make_movie([0]))
    constant = StreamLocalizer(model, threads=1)
    inside = make_movie([0, 1], Roi(3, 2, 21, 13))
    expected = in_chunks(constant, inside, [2])
    got = in_chunks(localizer, inside, [2])
    assert_same(got, expected, model.card.tolerances)


class TableDouble:
    """A double of a backend: `counts` detections in rows of a table of 3."""

    name = "double"

    def __init__(self, counts: list[int], fail_at: int = 1000) -> None:
        self.counts = counts
        self.fail_at = fail_at
        self.row = 0
        self.starts: list[bool] = []

    def set_camera(self, maps: CameraMaps) -> None:
        self.maps = maps

    def step(self, frames: np.ndarray, *, segment_start: bool) -> BackendOutput:
        self.starts.append(segment_start)
        if len(self.starts) > self.fail_at:
            raise DeviceError("the double fails as told")
        rows = np.arange(self.row, self.row + len(frames))
        self.row += len(frames)
        counts = np.array([self.counts[row % len(self.counts)] for row in rows])
        table = np.zeros((len(frames), 3, 11), np.float32)
        for row, count in enumerate(counts):
            for entry in range(min(count, 3)):
                table[row, entry] = np.arange(11) + 100 * rows[row] + 20 * entry
        zeros = np.zeros(len(frames), np.float32)
        blocks = np.zeros((len(frames), 1, 1), np.float32)
        return BackendOutput(table, counts, zeros, zeros, blocks)

    def close(self) -> None:
        self.starts = []


def test_the_table_of_a_frame_is_made_once_when_it_is_asked_for(
    tiny_models: dict[str, ModelFile], make_movie: MakeMovie
) -> None:
    """And is that frame's, whatever came since."""
    double = TableDouble([9, 2, 3, 1])
    localizer = StreamLocalizer(tiny_models["full"], double)
    results = []
    for frame in make_movie([10, 11, 12]):
        results += localizer.push([frame])
    results += localizer.flush()
    tables = [result.localizations for result in reversed(results)]
    assert [table["frame"].tolist() for table in tables] == [[12], [11] * 3, [10] * 2]
    assert results[0].localizations is tables[-1]


@pytest.mark.parametrize("at_once", [4, 1])
def test_rows_become_localizations(
    tiny_models: dict[str, ModelFile], make_movie: MakeMovie, at_once: int
) -> None:
    double = TableDouble([9, 0, 2, 3, 4])
    localizer = StreamLocalizer(tiny_models["full"], double)
    movie = make_movie([10, 11, 12, 13])
    results = []
    for first in range(0, len(movie), at_once):
        results += localizer.push(movie[first : first + at_once])
    results += localizer.flush()
    assert [len(result.localizations) for result in results] == [0, 2, 3, 3]
    assert [result.index for result in results] == [10, 11, 12, 13]
    assert [result.table_full for result in results] == [False, False, False, True]
    row = results[1].localizations[1]  # row 2 of the double, entry 1: 220 + column
    assert row["frame"] == 11
    assert row["prob"] == 220
    assert (row["x_px"], row["y_px"]) == (221 + 30, 222 + 70)
    assert (row["z_nm"], row["photons"], row["background_photons"]) == (223, 224, 225)
    assert (row["x_sigma_px"], row["y_sigma_px"]) == (226, 227)
    assert (row["z_sigma_nm"], row["photons_sigma"]) == (228, 229)


def test_a_failing_backend_ends_the_segment(
    tiny_models: dict[str, ModelFile], make_movie: MakeMovie
) -> None:
    double = TableDouble([1], fail_at=1)
    localizer = StreamLocalizer(tiny_models["full"], double)
    movie = make_movie(list(range(6)))
    assert len(localizer.push(movie[:2])) == 1
    with pytest.raises(DeviceError):
        localizer.push(movie[2:4])
    assert localizer.flush() == []
    double.fail_at = 1000
    localizer.push(movie[4:])
    assert double.starts == [True, False, True]


def test_options_of_a_loaded_backend(tiny_models: dict[str, ModelFile]) -> None:
    with pytest.raises(ValueError, match="already has its threshold"):
        StreamLocalizer(tiny_models["full"], TableDouble([1]), threshold=0.5)


def reusing(frames: list[Frame]) -> Iterator[Frame]:
    """Frames of a source that has one buffer only."""
    buffer = frames[0].pixels.copy()
    for frame in frames:
        buffer[...] = frame.pixels
        yield replace(frame, pixels=buffer)


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_movie_with_one_buffer(
    localizers: dict[str, StreamLocalizer],
    tiny_models: dict[str, ModelFile],
    make_movie: MakeMovie,
    batch: int,
) -> None:
    localizer = localizers["full"]
    movie = make_movie([0, 1, 2, 3, 7, 8, 9])
    expected = in_chunks(localizer, movie, [7])
    got = list(localize_movie(reusing(movie), localizer, batch=batch))
    for one in got:
        one.segment -= 2
    assert_same(got, expected, tiny_models["full"].card.tolerances)
    assert list(localize_movie([], localizer, batch=batch)) == []


@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("fault", ["source", "frame"])
def test_nothing_before_a_fault_is_lost(
    localizers: dict[str, StreamLocalizer],
    make_movie: MakeMovie,
    batch: int,
    fault: str,
) -> None:
    movie = make_movie(list(range(9)))

    def frames() -> Iterator[Frame]:
        yield from movie[:6]
        if fault == "source":
            raise InputError("the file ends in the middle of frame 6")
        yield replace(movie[6], pixels=movie[6].pixels.astype("float64"))
        yield from movie[7:]

    got: list[int] = []
    results = localize_movie(frames(), localizers["full"], batch=batch)
    with pytest.raises(InputError, match="frame 6"):
        got.extend(result.index for result in results)
    assert got == [0, 1, 2, 3, 4, 5]


def test_refused_batch(localizers: dict[str, StreamLocalizer]) -> None:
    with pytest.raises(InputError, match="at least 1 frame"):
        list(localize_movie([], localizers["full"], batch=0))
