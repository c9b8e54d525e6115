"""Hot pixels are found wherever they are; emitters, also static ones, are none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.hot_pixels import LEAST_FRAMES, HotPixels, find_hot_pixels
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.schema import CameraSettings, GaussianPsfSettings

HEIGHT, WIDTH, FRAMES = 45, 61, 16
CAMERA = Camera(
    CameraSettings(kind="scmos", baseline_adu=100, e_per_adu=0.5, read_noise_e=1.5)
)
Frames = npt.NDArray[np.uint16]


def read_out(photons: npt.NDArray[np.floating], rng: np.random.Generator) -> Frames:
    adu = np.asarray(CAMERA.forward(photons, rng))
    return adu.clip(0, 65535).astype(np.uint16)


def dark(n_frames: int = FRAMES, seed: int = 0) -> Frames:
    rng = np.random.default_rng(seed)
    return read_out(np.full((n_frames, HEIGHT, WIDTH), 30.0), rng)


def emitters(
    count: int, photons: float, sigma_px: float, on_frames: float | None, seed: int
) -> Frames:
    """Frames of emitters, also some beyond the border; None: they never go off."""
    rng = np.random.default_rng(seed)
    psf = GaussianPsf(
        GaussianPsfSettings(sigma0_px=sigma_px, astigmatism_nm=0, z_range_nm=(0, 0))
    )
    x, y = rng.uniform(-3, WIDTH + 2, count), rng.uniform(-3, HEIGHT + 2, count)
    flux = photons * rng.uniform(0.2, 2, count)
    start, stop = np.zeros(count), np.full(count, FRAMES)
    if on_frames is not None:
        start = rng.integers(-3, 2 * FRAMES, count)
        stop = start + rng.geometric(1 / on_frames, count)
    time = np.arange(FRAMES)[:, None]
    t, e = np.nonzero((time >= start) & (time < stop))
    zero = np.zeros(len(e))
    light = psf.render(x[e], y[e], zero, flux[e], t, FRAMES, HEIGHT, WIDTH)
    # No light comes from beyond a corner: nothing tells that from a hot corner.
    return read_out(np.asarray(light) + 30, rng)


def places(frames: Frames) -> set[tuple[int, int]]:
    hot = find_hot_pixels(list(frames))
    return set(zip(hot.x_px.tolist(), hot.y_px.tolist(), strict=True))


@pytest.mark.parametrize(
    "hot",
    [
        pytest.param([], id="none"),
        pytest.param([(30, 20)], id="one"),
        pytest.param([(0, 20), (60, 3), (9, 0), (33, 44)], id="border"),
        pytest.param([(0, 0), (60, 44), (0, 44), (60, 0)], id="corners"),
        pytest.param([(12, 7), (13, 7)], id="two beside each other"),
        pytest.param([(12, 7), (12, 8)], id="two below each other"),
        pytest.param([(12, 7), (13, 8)], id="two across"),
        pytest.param([(12, 7), (13, 7), (14, 7)], id="three in a row"),
        pytest.param([(0, 0), (1, 0)], id="two in a corner"),
        pytest.param([(12, 0), (13, 0)], id="two along the border"),
    ],
)
@pytest.mark.parametrize("excess_adu", [200, 3000])
def test_hot_pixels_are_found(hot: list[tuple[int, int]], excess_adu: int) -> None:
    frames = dark()
    for x, y in hot:
        frames[:, y, x] += np.uint16(excess_adu)
    assert places(frames) == set(hot)


def test_beside_a_much_brighter_one_too() -> None:
    frames = dark()
    frames[:, 20, 30] += 20000
    frames[:, 20, 31] += 900
    assert places(frames) == {(30, 20), (31, 20)}


@pytest.mark.parametrize("on_frames", [3.0, None])
@pytest.mark.parametrize("sigma_px", [0.7, 1.1, 2.0])
@pytest.mark.parametrize(("count", "photons"), [(8, 5000), (90, 1000), (90, 20000)])
def test_emitters_are_none(
    on_frames: float | None, sigma_px: float, count: int, photons: float
) -> None:
    for seed in range(3):
        assert not places(emitters(count, photons, sigma_px, on_frames, seed))


@pytest.mark.parametrize("on_frames", [3.0, None])
def test_hot_pixels_between_emitters(on_frames: float | None) -> None:
    frames = emitters(12, 2000, 1.1, on_frames, seed=4)
    quiet = np.ptp(frames[:, 1:-1, 1:-1].mean(0)) > 0
    assert quiet
    y, x = np.unravel_index(np.argmin(frames.max(0)), frames.shape[1:])
    frames[:, y, x] += 1500
    assert places(frames) == {(int(x), int(y))}


def test_a_pixel_that_blinks_is_none() -> None:
    frames = dark()
    frames[: FRAMES // 2 - 1, 20, 30] += 3000
    assert not places(frames)


@pytest.mark.parametrize("n_frames", [0, 1, LEAST_FRAMES - 1, LEAST_FRAMES, 9])
def test_short_movies_say_nothing(n_frames: int) -> None:
    frames = dark(n_frames)
    frames[:, 20, 30] += 3000
    assert places(frames) == ({(30, 20)} if n_frames >= LEAST_FRAMES else set())


def test_fixed_structure_is_none() -> None:
    frames = dark().astype(np.float64)
    frames[:, :, 17] += 400  # a bright column
    frames[:, 5, :] += 400
    frames[:, 25:, 40:] += 900  # an edge
    frames += np.random.default_rng(5).normal(0, 60, (HEIGHT, WIDTH))  # its pattern
    assert not places(frames.clip(0).astype(np.uint16))


@pytest.mark.parametrize("value", [0, 100, 65535])
def test_constant_frames_have_none(value: int) -> None:
    assert not places(np.full((FRAMES, 7, 9), value, np.uint16))


def test_saturated_and_float_frames() -> None:
    frames = dark()
    frames[:, 20, 30] = 65535
    assert places(frames) == {(30, 20)}
    broken = frames.astype(np.float32)
    broken[3, 5, 5] = np.nan
    broken[4, 20, 30] = np.inf
    assert places(broken) == {(30, 20)}  # type: ignore[arg-type]


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 7), st.integers(1, 7), st.sampled_from([np.uint8, np.uint16, "f4"])
)
def test_tiny_frames(height: int, width: int, dtype: str) -> None:
    rng = np.random.default_rng(height * 8 + width)
    frames = [rng.integers(0, 9, (height, width)).astype(dtype) for _ in range(6)]
    hot = find_hot_pixels(frames)
    assert hot.shape == (height, width)
    everywhere = HotPixels.at(*np.mgrid[0:width, 0:height], (height, width))
    np.testing.assert_array_equal(everywhere.repaired(frames[0]), frames[0])


def test_repair_takes_the_median_of_good_neighbours() -> None:
    frame = np.arange(35, dtype=np.uint16).reshape(5, 7)
    before = frame.copy()
    hot = HotPixels.at([3, 4, 0, 99], [2, 2, 0, 0], frame.shape)
    assert list(zip(hot.x_px, hot.y_px, strict=True)) == [(0, 0), (3, 2), (4, 2)]
    fixed = hot.repaired(frame)
    np.testing.assert_array_equal(frame, before)
    assert fixed.dtype == frame.dtype
    assert fixed[0, 0] == 7  # of 1, 7, 8
    others = np.delete(before[1:4, 2:5].ravel(), [4, 5])
    assert fixed[2, 3] == np.median(others)
    fixed[hot.y_px, hot.x_px] = before[hot.y_px, hot.x_px]
    np.testing.assert_array_equal(fixed, before)


def test_repair_of_a_view_and_inside_a_cluster() -> None:
    large = np.random.default_rng(0).integers(0, 99, (20, 30)).astype(np.float32)
    frame = large[2:16:2, 3:21]
    y, x = (grid.ravel() for grid in np.mgrid[2:5, 4:7])
    hot = HotPixels.at(x, y, frame.shape)
    fixed = hot.repaired(frame)
    ring = np.delete(frame[1:6, 3:8].ravel(), [6, 7, 8, 11, 12, 13, 16, 17, 18])
    assert fixed[3, 5] == np.median(ring)  # 3 x 3 px are all hot
    assert hot.near(1).sum() == 25
    assert hot.near(1)[1:6, 3:8].all()
