"""Density estimate: values by hand, uncertainty against simulation."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from feedback_doubles import FIELD, result
from numpy.testing import assert_allclose

from blinkloop.errors import InputError
from blinkloop.runtime.density import (
    DensityEstimator,
    probability_floor,
)
from blinkloop.runtime.on_time import effective_frames
from blinkloop.runtime.records import FrameResult, Gap, Roi
from blinkloop.schema import LOCALIZATION_DTYPE

ODD = Roi(3, 5, 21, 11)


def test_raw_density_and_sd_by_hand() -> None:
    estimator = DensityEstimator(100.0)
    got = estimator.update(result(7, 20.48, 4.0))
    assert_allclose(got.per_um2, 0.5)  # 64 * 64 px * 0.01 um2 = 40.96 um2
    assert_allclose(got.sd_per_um2, 2.0 / 40.96)
    assert (got.index, got.n_frames) == (7, 1)
    assert_allclose(got.timestamp_s, 0.14)


def test_pixel_size_scales_the_area() -> None:
    one = DensityEstimator(100.0).update(result(0)).per_um2
    assert_allclose(DensityEstimator(200.0).update(result(0)).per_um2, one / 4)


def test_average_has_finite_memory() -> None:
    estimator = DensityEstimator(100.0, average_frames=5)
    for index in range(5):
        estimator.update(result(index, 100.0))
    for index in range(5, 10):
        got = estimator.update(result(index, 20.48))
    assert_allclose(got.smoothed_per_um2, 0.5)
    assert got.n_frames == 5


@pytest.mark.parametrize("on_time", [0.5, 3.0, 10.0])
def test_smoothed_sd_is_that_of_simulated_blinking(on_time: float) -> None:
    rng = np.random.default_rng(1)
    survive, mean, runs = math.exp(-1 / on_time), 20.0, 4000
    n = rng.poisson(mean, runs)
    total = np.zeros(runs)
    for _ in range(20):
        total += n
        n = rng.binomial(n, survive) + rng.poisson(mean * (1 - survive), runs)
    estimator = DensityEstimator(1000.0, on_time_frames=on_time)
    for index in range(20):
        got = estimator.update(result(index, mean, 0.0, roi=Roi(0, 0, 1, 1)))
    assert_allclose(got.smoothed_sd_per_um2, (total / 20).std(), rtol=0.06)


def test_effective_frames_limits() -> None:
    assert effective_frames(0, 3.0) == 0.0
    assert effective_frames(1, 3.0) == 1.0
    assert_allclose(effective_frames(20, 0.01), 20.0, rtol=1e-6)
    assert_allclose(effective_frames(5, 1e9), 1.0, rtol=1e-6)
    assert 2.0 < effective_frames(20, 3.0) < 5.0


def test_empty_field_has_an_uncertainty() -> None:
    got = DensityEstimator(100.0).update(result(0, 0.0, 0.0))
    assert (got.per_um2, got.smoothed_per_um2, got.crowding_per_um2) == (0, 0, 0)
    assert got.smoothed_sd_per_um2 > 0.01


def test_floor_is_subtracted_everywhere() -> None:
    floor = probability_floor(8.0)
    assert_allclose(floor, 3.3535e-4, rtol=1e-4)
    dark = result(0, floor * 64 * 64, floor * (1 - floor) * 64 * 64)
    got = DensityEstimator(100.0, p_floor=floor).update(dark)
    assert_allclose([got.per_um2, got.sd_per_um2, got.crowding_per_um2], 0, atol=1e-6)
    assert_allclose(DensityEstimator(100.0).update(dark).per_um2, 0.0335, rtol=1e-2)


def test_crowding_is_the_densest_block() -> None:
    blocks = np.zeros((8, 8))
    blocks[2, 5] = 3.2
    got = DensityEstimator(100.0).update(result(0, 3.2, blocks=blocks))
    assert_allclose(got.crowding_per_um2, 3.2 / 0.64)


def test_partial_blocks_are_no_crowd() -> None:
    blocks = np.zeros((2, 3))
    blocks[1, 2] = 1.0  # 3 x 5 px
    got = DensityEstimator(100.0).update(result(0, 1.0, roi=ODD, blocks=blocks))
    assert_allclose(got.crowding_per_um2, 1.0 / 0.64)
    assert_allclose(got.per_um2, 1.0 / (21 * 11 * 0.01))


@pytest.mark.parametrize(
    ("region", "area_px", "count"),
    [
        pytest.param(Roi(3, 5, 8, 8), 64, 6.4, id="first block"),
        pytest.param(Roi(0, 0, 11, 13), 64, 6.4, id="clipped by the image"),
        pytest.param(Roi(7, 5, 8, 8), 64, 6.4, id="across two blocks"),
        pytest.param(Roi(3, 5, 21, 11), 231, 23.1, id="all, odd"),
        pytest.param(Roi(19, 13, 99, 99), 15, 1.5, id="last, partial block"),
    ],
)
def test_region_counts_its_share(region: Roi, area_px: int, count: float) -> None:
    estimator = DensityEstimator(100.0, region=region)
    got = estimator.update(result(0, 23.1, 2.31, roi=ODD))
    assert_allclose(got.per_um2, 10.0, rtol=1e-6)
    sd = math.sqrt(2.31 * count / 23.1) / (area_px * 0.01)
    assert_allclose(got.sd_per_um2, sd, rtol=1e-6)


def test_region_sees_only_its_blocks() -> None:
    blocks = np.zeros((8, 8))
    blocks[0, 7] = 5.0  # row 0, last column: x and y are not swapped
    frame = result(0, 5.0, blocks=blocks)
    right = DensityEstimator(100.0, region=Roi(56, 0, 8, 8)).update(frame)
    bottom = DensityEstimator(100.0, region=Roi(0, 56, 8, 8)).update(frame)
    assert_allclose([right.per_um2, bottom.per_um2], [5 / 0.64, 0])
    assert bottom.crowding_per_um2 == 0


def test_region_off_the_image_is_nan_not_zero() -> None:
    got = DensityEstimator(100.0, region=Roi(500, 500, 8, 8)).update(result(0))
    assert math.isnan(got.per_um2)
    assert math.isnan(got.smoothed_per_um2)
    assert math.isnan(got.crowding_per_um2)


def test_camera_roi_change_forgets() -> None:
    estimator = DensityEstimator(100.0)
    estimator.update(result(0, 500.0))
    got = estimator.update(result(1, 2.31, roi=ODD))
    assert got.n_frames == 1
    assert_allclose(got.smoothed_per_um2, 1.0)


@pytest.mark.parametrize(
    ("missing", "kept"),
    [pytest.param(1, 19, id="one"), pytest.param(15, 5, id="many"), (19, 1), (500, 1)],
)
def test_gap_shortens_the_average(missing: int, kept: int) -> None:
    told, untold = DensityEstimator(100.0), DensityEstimator(100.0)
    for index in range(30):
        told.update(result(index))
        untold.update(result(index))
    told.gap(Gap(30, missing, "overflow"))
    after = 30 + missing
    assert told.update(result(after)).n_frames == kept
    assert untold.update(result(after)).n_frames == kept


@pytest.mark.parametrize("bad", ["count", "variance", "block"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_finite_is_kept_out_and_does_not_stay(bad: str, value: float) -> None:
    estimator = DensityEstimator(100.0)
    estimator.update(result(0))
    blocks = np.full((8, 8), 20 / 64)
    if bad == "block":
        blocks[3, 3] = value
    frame = result(
        1,
        value if bad == "count" else 20.0,
        value if bad == "variance" else 1.0,
        blocks=blocks,
    )
    got = estimator.update(frame)
    assert math.isnan(got.per_um2)
    assert math.isnan(got.sd_per_um2)
    assert got.n_frames == 1
    assert_allclose(got.smoothed_per_um2, 20 / 40.96)
    after = estimator.update(result(2))
    assert after.n_frames == 2
    assert_allclose(after.per_um2, 20 / 40.96)


def test_nan_for_long_empties_the_average() -> None:
    estimator = DensityEstimator(100.0, average_frames=5)
    estimator.update(result(0))
    for index in range(1, 6):
        got = estimator.update(result(index, math.nan))
    assert math.isnan(got.smoothed_per_um2)
    assert got.n_frames == 0


def test_counting_anew_forgets() -> None:
    estimator = DensityEstimator(100.0)
    for index in range(10):
        estimator.update(result(index))
    assert estimator.update(result(0)).n_frames == 1


def test_wrong_block_shape_is_an_error() -> None:
    with pytest.raises(InputError, match=r"shape \(7, 8\).*64 x 64 px has \(8, 8\)"):
        DensityEstimator(100.0).update(result(0, blocks=np.zeros((7, 8))))


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"pixel_size_nm": 0.0}, "pixel size"),
        ({"pixel_size_nm": math.nan}, "pixel size"),
        ({"average_frames": 0}, "average_frames"),
        ({"on_time_frames": 0.0}, "on_time_frames"),
        ({"p_floor": -1e-9}, "p_floor"),
        ({"p_floor": 0.5}, "p_floor"),
        ({"region": Roi(0, 0, 0, 5)}, "region"),
    ],
)
def test_bad_settings(kwargs: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        DensityEstimator(**{"pixel_size_nm": 100.0, **kwargs})  # type: ignore[arg-type]


def test_noise_of_the_network_enters_the_smoothed_sd() -> None:
    sure, doubtful = DensityEstimator(100.0), DensityEstimator(100.0)
    a = sure.update(result(0, 20.0, 0.0)).smoothed_sd_per_um2
    b = doubtful.update(result(0, 20.0, 20.0)).smoothed_sd_per_um2
    assert_allclose(b**2 - a**2, 20.0 / 40.96**2)


def test_field_is_the_default_region() -> None:
    whole = DensityEstimator(100.0, region=FIELD).update(result(0, 33.0, 3.0))
    assert whole == DensityEstimator(100.0).update(result(0, 33.0, 3.0))


@pytest.mark.parametrize("region", [None, Roi(5, 6, 9, 7)], ids=["whole", "region"])
def test_crowding_is_that_of_the_frames_kept_however_long_the_run(
    region: Roi | None,
) -> None:
    rng = np.random.default_rng(4)
    floor, span = 0.001, 6
    estimator = DensityEstimator(
        100.0, average_frames=span, region=region, p_floor=floor
    )
    rows, columns = np.array([8, 3]), np.array([8, 8, 5])
    seen: dict[int, np.ndarray] = {}
    index = 0
    for _ in range(400):
        index += int(rng.choice([1, 1, 1, 1, 2, 7]))
        # Values of very different size leave the largest rounding errors.
        blocks = (10.0 ** rng.uniform(-6, 4, (2, 3))).astype(np.float32)
        given = result(index, float(blocks.sum()), 1.0, roi=ODD, blocks=blocks)
        got = estimator.update(given)
        seen[index] = np.maximum(blocks - floor * np.outer(rows, columns), 0)
        kept = [seen[k] for k in range(index - span + 1, index + 1) if k in seen]
        assert got.n_frames == len(kept)
        mean = np.mean(kept, axis=0)
        wanted = mean[:1, :2].max() if region is not None else mean.max()
        assert_allclose(got.crowding_per_um2, wanted / 0.64, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("told", [True, False], ids=["afterwards", "at the next frame"])
def test_what_a_frame_teaches_counts_from_the_next_one_on(told: bool) -> None:
    """Whenever it is learned, the numbers are the same."""
    rng = np.random.default_rng(8)
    one, other = DensityEstimator(100.0), DensityEstimator(100.0)
    factors = []
    for index in range(60):
        # All on one line: neighbours hide many.
        found = np.zeros(12, LOCALIZATION_DTYPE)
        found["x_px"], found["y_px"] = rng.uniform(3, 5, (2, 12))
        frame = FrameResult(
            index=index,
            timestamp_s=0.01 * index,
            roi=Roi(0, 0, 41, 23),
            segment=0,
            localizations=found,
            table_full=False,
            count_mean=12.0,
            count_variance=1.0,
            block_mean=np.full((3, 6), 12 / 18, np.float32),
        )
        estimate = one.update(frame)
        factors.append(estimate.overlap)
        assert estimate == other.update(frame)
        if told:
            one.afterwards()
            one.afterwards()  # nothing is learned twice
    assert factors[0] == 1.0
    assert factors[-1] > 1.05


@pytest.mark.parametrize("average", [1, 2, 7])
def test_what_is_done_afterwards_changes_no_estimate(average: int) -> None:
    """With gaps, frames that say nothing, and a camera that counts anew."""
    rng = np.random.default_rng(3)
    frames = [*range(3, 30), *range(40, 60), 75, *range(0, 20)]
    prompt, late = (DensityEstimator(100.0, average_frames=average) for _ in range(2))
    for number, index in enumerate(frames):
        count = math.nan if number % 9 == 4 else rng.uniform(1, 50)
        if index == 40:
            for estimator in (prompt, late):
                estimator.gap(Gap(30, 10, "lost"))
        seen = result(index, count)
        expected, got = late.update(seen), prompt.update(seen)
        prompt.afterwards()
        assert_allclose(
            dataclasses.astuple(got), dataclasses.astuple(expected), rtol=1e-12
        )


@pytest.mark.parametrize("told", [False, True], ids=["", "afterwards"])
@pytest.mark.parametrize("average", [1, 2, 7])
def test_late_crowding_is_that_of_the_frame_before(average: int, told: bool) -> None:
    """All else is the same, with gaps, frames that say nothing, and counting anew."""
    rng = np.random.default_rng(4)
    frames = [*range(3, 30), *range(40, 60), 75, *range(0, 20)]
    prompt = DensityEstimator(100.0, average_frames=average)
    late = DensityEstimator(100.0, average_frames=average, crowding_late=True)
    before, differs = math.nan, 0
    for number, index in enumerate(frames):
        if index == 40:
            for estimator in (prompt, late):
                estimator.gap(Gap(30, 10, "lost"))
        if index == 0:
            before = math.nan
        count = math.nan if number % 9 == 4 else rng.uniform(1, 50)
        seen = result(index, count)
        expected, got = prompt.update(seen), late.update(seen)
        crowding = got.crowding_per_um2
        assert_allclose(
            dataclasses.astuple(dataclasses.replace(got, crowding_per_um2=0)),
            dataclasses.astuple(dataclasses.replace(expected, crowding_per_um2=0)),
        )
        if math.isfinite(count):
            assert_allclose(crowding, before, rtol=1e-12)
            differs += before != expected.crowding_per_um2
            before = expected.crowding_per_um2
        if told:
            late.afterwards()
    assert differs > 30


@pytest.mark.parametrize("late", [False, True])
def test_blocks_that_are_not_finite_are_no_density(late: bool) -> None:
    """Also when the count is: the laser is held, whenever the blocks are looked at."""
    estimator = DensityEstimator(100.0, crowding_late=late)
    for index in range(3):
        before = estimator.update(result(index, 20.0))
    broken = result(3, 20.0)
    broken.block_mean = broken.block_mean.copy()
    broken.block_mean[0, 0] = math.nan
    estimate = estimator.update(broken)
    assert math.isnan(estimate.per_um2)
    assert estimate.n_frames == before.n_frames
    after = [estimator.update(result(index, 20.0)) for index in (4, 5)]
    assert_allclose([one.crowding_per_um2 for one in after], before.crowding_per_um2)


def test_crowding_of_a_region_is_never_late() -> None:
    both = [
        DensityEstimator(100.0, region=Roi(0, 0, 16, 16), crowding_late=late)
        for late in (False, True)
    ]
    for index in range(3):
        one, other = (estimator.update(result(index, 20.0)) for estimator in both)
        assert one == other
        assert one.crowding_per_um2 > 0


def test_a_camera_that_counts_anew_is_seen_whatever_was_forgotten() -> None:
    estimator = DensityEstimator(100.0, average_frames=1)
    spots = np.zeros(2, LOCALIZATION_DTYPE)
    spots["x_px"] = spots["y_px"] = 30.0
    for index in range(100):
        estimator.update(result(index, 20.0, localizations=spots))
        estimator.afterwards()
    assert estimator.update(result(100, 20.0)).overlap > 1.0
    estimator.afterwards()
    assert estimator.update(result(0, 20.0)).overlap == 1.0
