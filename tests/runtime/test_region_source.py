"""A part of the image is analysed as if the camera gave no more; raw data keep all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cards import make_card
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.runtime import (
    CameraMaps,
    Localizer,
    Pipeline,
    PipelineSettings,
    RegionSource,
    StreamLocalizer,
    WholeRecorder,
    snapped,
)
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.records import Frame, FrameResult, Gap, Roi
from blinkloop.runtime.tiling import halo_px
from blinkloop.schema import LOCALIZATION_DTYPE, Architecture

IMAGE = Roi(30, 70, 53, 41)
PART = Roi(36, 80, 25, 17)


class Camera:
    """Frames of an image; it uses one buffer for all."""

    def __init__(self, frames: Sequence[Frame], image: Roi, lost: int = 0) -> None:
        self.given, self.roi, self.lost = frames, image, lost
        self.dtype = frames[0].pixels.dtype
        self.calls: list[str] = []

    def camera_facts(self) -> Mapping[str, Any]:
        return {"exposure_ms": 7.0}

    def start(self) -> None:
        self.calls.append("start")

    def frames(self) -> Iterator[Frame]:
        for frame in self.given:
            pixels = frame.pixels.copy()
            yield Frame(frame.index, frame.timestamp_s, pixels, frame.roi)
            pixels[...] = 0

    def stop(self) -> None:
        self.calls.append("stop")


class Looker:
    """A localizer that keeps what it is given and finds nothing."""

    def __init__(self) -> None:
        self.seen: dict[int, tuple[Roi, npt.NDArray[Any]]] = {}

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        for frame in frames:
            self.seen[frame.index] = frame.roi, frame.pixels.copy()
        blocks = np.zeros((3, 4), np.float32)
        none: npt.NDArray[Any] = np.zeros(0, LOCALIZATION_DTYPE)
        return [
            FrameResult(f.index, f.timestamp_s, f.roi, 0, none, False, 0.0, 0.0, blocks)
            for f in frames
        ]

    def flush(self) -> list[FrameResult]:
        return []

    def close(self) -> None:
        pass


class Keeper:
    """A recorder in memory."""

    def __init__(self) -> None:
        self.meta: dict[str, Any] = {}
        self.kept: dict[int, npt.NDArray[Any]] = {}
        self.gaps: list[Gap] = []

    def open(self, meta: Mapping[str, Any]) -> None:
        self.meta = dict(meta)

    def put(self, frame: Frame) -> None:
        self.kept[frame.index] = frame.pixels.copy()

    def mark(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def close(self, meta: Mapping[str, Any]) -> Sequence[str]:
        return []

    def discard(self) -> None:
        pass

    def summary(self) -> Mapping[str, Any]:
        return {"frames": len(self.kept)}


def movie(
    image: Roi, numbers: Sequence[int], seed: int = 0, *, spots_per_px: float = 1 / 60
) -> list[Frame]:
    """Noise and spots that differ by frame."""
    rng = np.random.default_rng(seed)
    frames = []
    for number in numbers:
        pixels = rng.poisson(40, (image.height, image.width)) + 100.0
        spots = rng.integers(pixels.shape, size=(int(pixels.size * spots_per_px), 2))
        pixels[spots[:, 0], spots[:, 1]] += rng.uniform(200, 2000, len(spots))
        frames.append(Frame(number, number * 0.02, pixels.astype(np.uint16), image))
    return frames


def localized(localizer: Localizer, frames: Sequence[Frame]) -> list[FrameResult]:
    results: list[FrameResult] = []
    for frame in frames:
        results += localizer.push([frame])
    return [*results, *localizer.flush()]


SIZES = st.integers(1, 90)
IMAGES = st.builds(Roi, st.integers(0, 9), st.integers(0, 9), SIZES, SIZES)


@given(
    image=IMAGES,
    data=st.data(),
    depth=st.integers(0, 3),
    stride=st.sampled_from([1, 2, 4]),
)
def test_snapped_moves_little_and_never_shrinks(
    image: Roi, data: st.DataObject, depth: int, stride: int
) -> None:
    architecture = Architecture(depth=depth, stem_stride=stride)
    grid = architecture.size_multiple
    least = max(grid, 8)
    part = {}
    for axis in ("width", "height"):
        most = getattr(image, axis)
        size = data.draw(st.integers(min(least, most), most), label=axis)
        part[axis] = (data.draw(st.integers(0, most - size)), size)
    (x, width), (y, height) = part["width"], part["height"]
    asked = Roi(image.x + x, image.y + y, width, height)
    got = snapped(asked, image, architecture)
    assert image.common(got) == got
    for axis, name in (("width", "x"), ("height", "y")):
        start = getattr(got, name) - getattr(image, name)
        size, end = getattr(got, axis), start + getattr(got, axis)
        assert start % grid == 0
        assert abs(getattr(got, name) - getattr(asked, name)) < grid
        # Whole strides, but where the image ends; and none more than needed.
        assert size % grid == 0 or end == getattr(image, axis)
        assert getattr(asked, axis) <= size < getattr(asked, axis) + grid
    assert snapped(got, image, architecture) == got


@pytest.mark.parametrize(
    ("region", "match"),
    [
        pytest.param(Roi(30, 70, 54, 41), "54 x 41 px .*not inside .*53 x 41", id="w"),
        pytest.param(Roi(29, 70, 20, 20), r"from \(29, 70\) is not inside", id="left"),
        pytest.param(Roi(30, 69, 20, 20), "not inside", id="above"),
        pytest.param(Roi(30, 70, 0, 20), "0 x 20 px .*not inside", id="no width"),
        pytest.param(Roi(30, 70, 20, -1), "20 x -1 px .*not inside", id="no height"),
        pytest.param(Roi(32, 72, 7, 20), "too small.* needs 8 x 8 px", id="narrow"),
    ],
)
def test_regions_that_are_refused(region: Roi, match: str) -> None:
    with pytest.raises(InputError, match=match):
        snapped(region, IMAGE, make_card().architecture)


@pytest.mark.parametrize("region", [Roi(29, 70, 5, 5), Roi(30, 70, 0, 5)])
def test_source_refuses_what_is_not_in_the_image(region: Roi) -> None:
    with pytest.raises(InputError, match="not inside the image"):
        RegionSource(Camera(movie(IMAGE, [0]), IMAGE), region)


def interior(rows: npt.NDArray[Any], part: Roi, image: Roi, halo: int) -> Any:
    """Rows that no border of the part that is not one of the image can change."""
    inside = np.ones(len(rows), bool)
    for name, first, size, edge, whole in (
        ("x_px", part.x, part.width, image.x, image.width),
        ("y_px", part.y, part.height, image.y, image.height),
    ):
        if first > edge:
            inside &= rows[name] >= first + halo
        if first + size < edge + whole:
            inside &= rows[name] < first + size - halo
    rows = rows[inside]
    return rows[np.lexsort((rows["x_px"].round(2), rows["y_px"].round(2)))]


@pytest.mark.parametrize("name", ["full", "half"])
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_the_part_equals_the_whole_in_its_interior(
    name: str, data: st.DataObject, tiny_models: dict[str, ModelFile]
) -> None:
    """Odd sizes, not square, on a chip with maps of its own for every pixel."""
    model = tiny_models[name]
    architecture = model.card.architecture
    halo = halo_px(architecture)
    width = data.draw(st.integers(2 * halo + 9, 190), label="width")
    height = data.draw(st.integers(13, 37), label="height")
    turned = data.draw(st.booleans(), label="turned")
    start = data.draw(st.integers(0, width - halo - 9), label="start")
    size = data.draw(st.integers(halo + 9, width - start), label="size")
    image, asked = Roi(30, 70, width, height), Roi(30 + start, 70, size, height)
    if turned:
        image = Roi(30, 70, height, width)
        asked = Roi(30, 70 + start, height, size)
    part = snapped(asked, image, architecture)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16), label="seed"))
    chip = Roi(0, 0, image.x + image.width, image.y + image.height)
    shape = chip.height, chip.width
    maps = CameraMaps(
        rng.normal(100, 20, shape).astype(np.float32),
        rng.uniform(0.5, 1.5, shape).astype(np.float32),
        chip,
    )
    frames = movie(image, [3, 4, 5], int(rng.integers(2**16)))
    whole = localized(
        StreamLocalizer(model, "onnxruntime-cpu", maps, threads=1), frames
    )
    source = RegionSource(Camera(frames, image), part)
    localizer = StreamLocalizer(model, "onnxruntime-cpu", maps, threads=1)
    results: list[FrameResult] = []
    for frame in source.frames():
        results += localizer.push([frame])
    results += localizer.flush()
    assert [result.index for result in results] == [3, 4, 5]
    for one, other in zip(results, whole, strict=True):
        assert one.roi == part
        rows = interior(one.localizations, part, image, halo)
        expected = interior(other.localizations, part, image, halo)
        assert len(rows) == len(expected)
        for column in rows.dtype.names or ():
            np.testing.assert_allclose(
                rows[column], expected[column], rtol=1e-3, atol=2e-3, err_msg=column
            )


def test_the_interior_is_not_empty(tiny_model: ModelFile) -> None:
    """What the property above compares."""
    halo = halo_px(tiny_model.card.architecture)
    image = Roi(30, 70, 190, 37)
    part = Roi(30 + 32, 70, 2 * halo + 16, 37)
    frames = movie(image, [0, 1])
    whole = localized(StreamLocalizer(tiny_model, threads=1), frames)
    assert sum(len(interior(r.localizations, part, image, halo)) for r in whole) > 0


def test_the_part_is_what_a_camera_with_that_region_gives(
    tiny_model: ModelFile,
) -> None:
    """To the bit, up to the borders."""
    frames = movie(IMAGE, [0, 1, 2])
    y, x = PART.y - IMAGE.y, PART.x - IMAGE.x
    cut = [
        Frame(
            frame.index,
            frame.timestamp_s,
            frame.pixels[y : y + PART.height, x : x + PART.width].copy(),
            PART,
        )
        for frame in frames
    ]
    direct = localized(StreamLocalizer(tiny_model, threads=1), cut)
    source = RegionSource(Camera(frames, IMAGE), PART)
    through = StreamLocalizer(tiny_model, threads=1)
    results = [r for frame in source.frames() for r in through.push([frame])]
    results += through.flush()
    assert sum(len(result.localizations) for result in results) > 0
    for one, other in zip(results, direct, strict=True):
        np.testing.assert_array_equal(one.localizations, other.localizations)
        np.testing.assert_array_equal(one.block_mean, other.block_mean)
        assert one.count_mean == other.count_mean


@example(part=PART)
@given(
    part=st.integers(1, 53).flatmap(
        lambda width: st.integers(1, 41).flatmap(
            lambda height: st.builds(
                Roi,
                st.integers(30, 83 - width),
                st.integers(70, 111 - height),
                st.just(width),
                st.just(height),
            )
        )
    )
)
@settings(max_examples=20)
def test_pixels_are_those_of_their_place_on_the_chip(part: Roi) -> None:
    columns, rows = np.meshgrid(np.arange(83), np.arange(111))
    chip = (columns + 1000 * rows).astype(np.float32)
    frame = Frame(4, 0.5, chip[70:, 30:], IMAGE)
    source = RegionSource(Camera([frame], IMAGE), part)
    (seen,) = [(f, f.pixels.copy()) for f in source.frames()]
    assert (seen[0].index, seen[0].timestamp_s, seen[0].roi) == (4, 0.5, part)
    expected = chip[part.y : part.y + part.height, part.x : part.x + part.width]
    np.testing.assert_array_equal(seen[1], expected)


def run(
    camera: Camera, part: Roi, recorder: Keeper | None = None
) -> tuple[Any, Looker, RegionSource]:
    source = RegionSource(camera, part)
    looker = Looker()
    keep = None if recorder is None else WholeRecorder(recorder, source)
    pipeline = Pipeline(
        source, looker, settings=PipelineSettings(wait=True), recorder=keep
    )
    return pipeline.run(), looker, source


def test_a_run_analyses_the_part_and_keeps_the_whole() -> None:
    frames = movie(IMAGE, [0, 1, 2, 5, 6])
    keeper = Keeper()
    camera = Camera(frames, IMAGE, lost=2)
    report, looker, _ = run(camera, PART, keeper)
    assert report.failure is None
    assert (report.frames_seen, report.frames_localized, report.frames_lost) == (
        9,
        5,
        4,
    )
    y, x = PART.y - IMAGE.y, PART.x - IMAGE.x
    for frame in frames:
        roi, pixels = looker.seen[frame.index]
        assert roi == PART
        part = frame.pixels[y : y + PART.height, x : x + PART.width]
        np.testing.assert_array_equal(pixels, part)
        np.testing.assert_array_equal(keeper.kept[frame.index], frame.pixels)
    assert [gap.count for gap in keeper.gaps] == [2, 2]
    assert keeper.meta["roi_px"] == [30, 70, 53, 41]
    assert (keeper.meta["width_px"], keeper.meta["height_px"]) == (53, 41)
    assert report.extra["raw"]["analysed_roi_px"] == [36, 80, 25, 17]
    assert camera.calls[0] == "start"
    assert "stop" in camera.calls[1:]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(Roi(30, 70, 41, 53), id="another shape"),
        pytest.param(PART, id="the shape of the part"),
        pytest.param(Roi(31, 70, 53, 41), id="another place"),
    ],
)
def test_a_frame_of_another_region_ends_the_run_and_is_counted(odd: Roi) -> None:
    frames = [*movie(IMAGE, [0, 1]), *movie(odd, [2]), *movie(IMAGE, [3])]
    report, looker, _ = run(Camera(frames, IMAGE), PART)
    assert "keep the camera's region of interest fixed" in str(report.failure)
    assert sorted(looker.seen) == [0, 1]
    assert (report.frames_seen, report.frames_localized, report.frames_lost) == (
        3,
        2,
        1,
    )


def test_pixels_are_not_copied_and_old_ones_not_given() -> None:
    source = RegionSource(Camera(movie(IMAGE, [0, 1]), IMAGE), PART)
    with pytest.raises(ValueError, match="frame 0 is gone"):
        source.whole(0)
    for frame in source.frames():
        assert np.shares_memory(frame.pixels, source.whole(frame.index).pixels)
    with pytest.raises(ValueError, match="frame 0 is gone; the last one is 1"):
        source.whole(0)


def test_everything_else_is_the_source() -> None:
    camera = Camera(movie(IMAGE, [0]), IMAGE, lost=3)
    source = RegionSource(camera, PART)
    assert (source.roi, source.image) == (PART, IMAGE)
    assert source.dtype == np.uint16
    assert source.lost == 3
    assert source.camera_facts() == {"exposure_ms": 7.0}
    assert source.frame_timeout_s is None
    camera.frame_timeout_s = 30.0  # type: ignore[attr-defined]
    assert source.frame_timeout_s == 30.0
