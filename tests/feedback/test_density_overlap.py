"""What neighbours hide: put back on simulated samples, nothing made up on even ones."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from feedback_doubles import result
from numpy.testing import assert_allclose

from blinkloop.errors import InputError
from blinkloop.runtime import density_overlap
from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.density_overlap import OVERLAP_PX, Overlap, piled_up
from blinkloop.runtime.records import FrameResult, Roi
from blinkloop.schema import LOCALIZATION_DTYPE

ODD = Roi(7, 300, 97, 61)
"""Not square, not a multiple of anything, far from the chip's corner."""

Points = npt.NDArray[np.float64]


def found(index: int, xy_px: Points, count: float, roi: Roi = ODD) -> FrameResult:
    """A frame with those detections."""
    table = np.zeros(len(xy_px), LOCALIZATION_DTYPE)
    table["x_px"], table["y_px"] = np.reshape(xy_px, (-1, 2)).T
    return result(index, count, 0.0, roi=roi, localizations=table)


def even(n: int, rng: np.random.Generator, roi: Roi = ODD) -> Points:
    low = np.array([roi.x - 0.5, roi.y - 0.5])
    return low + rng.random((n, 2)) * [roi.width, roi.height]


def factor_after(frames: list[Points], roi: Roi = ODD, on_time: float = 1.0) -> float:
    estimator = DensityEstimator(100.0, average_frames=10, on_time_frames=on_time)
    for index, xy in enumerate(frames):
        got = estimator.update(found(index, xy, float(len(xy)), roi))
    return got.overlap


def test_piled_up_is_the_inverse_of_what_is_seen() -> None:
    for truth in (1e-6, 0.1, 1.0, 2.0):
        assert_allclose(piled_up(1 - math.exp(-truth)), truth / (1 - math.exp(-truth)))
    assert piled_up(0.0) == piled_up(-1.0) == 1.0
    assert piled_up(5.0) == piled_up(0.9) < 3.0


@pytest.mark.parametrize("together", [1 / 3, 0.6, 0.999])
def test_piled_up_adds_up_the_chances(together: float) -> None:
    """Truth per seen one more is 1 / phi; and it joins that of a single spot."""
    seen = np.linspace(0, 0.85, 20_001)
    chance = (1 - together * seen) ** (1 / together)
    truth = np.trapezoid(1 / chance, seen)
    assert_allclose(piled_up(0.85, together), truth / 0.85, rtol=1e-6)
    assert piled_up(0.85, together) <= piled_up(0.85)
    assert_allclose(piled_up(1e-8, together), 1.0, rtol=1e-7)


@pytest.mark.parametrize(("sd_px", "rtol"), [(0.3, 0.02), (0.9, 0.03), (2.5, 0.03)])
def test_clusters_narrow_and_wide(sd_px: float, rtol: float) -> None:
    """Emitters that are hidden by each as the model says, whatever the cluster."""
    rng = np.random.default_rng(9)
    overlap, roi = Overlap(1.0), Roi(0, 0, 200, 150)
    middles = np.stack(np.meshgrid(np.arange(5.0) * 40, np.arange(4.0) * 37), -1)
    middles = middles.reshape(-1, 2) + 20.0
    mean_on = 0.8 * (1 + 2 * (sd_px / OVERLAP_PX) ** 2)  # about as many hidden in each
    true = counted = 0
    for index in range(500):
        frame: list[Points] = []
        for middle in middles:
            here: list[Points] = []
            n = rng.poisson(mean_on)
            for xy in middle + rng.normal(0, sd_px, (n, 2)):
                d2 = np.array([((xy - other) ** 2).sum() for other in here])
                hidden = 1 - np.prod(1 - np.exp(-d2 / (2 * OVERLAP_PX**2)))
                if rng.random() >= hidden:
                    here.append(xy)
            true += n
            frame += here
        counted += len(frame)
        overlap.take(index, roi, *np.reshape(frame, (-1, 2)).T)
    count = counted / 500
    assert counted < 0.8 * true
    hidden_px = 2 * math.pi * OVERLAP_PX**2
    allowed = piled_up(count / len(middles) * hidden_px / 24.0**2, 1 / 3)
    assert_allclose(overlap.factor(count), true / counted / allowed, rtol=rtol)


@pytest.mark.parametrize("per_frame", [3, 30, 200])
def test_even_sample_is_left_alone(per_frame: int) -> None:
    rng = np.random.default_rng(per_frame)
    frames = [even(rng.poisson(per_frame), rng) for _ in range(300)]
    assert 1.0 <= factor_after(frames) < 1.012


@pytest.mark.parametrize("mean_on", [0.2, 0.5, 1.0])
def test_places_seen_once_when_several_are_on(mean_on: float) -> None:
    """Emitters in the same place: of a Poisson number one is seen."""
    rng = np.random.default_rng(5)
    places = np.array(
        [[x, y] for x in (20.0, 50.0, 80.0) for y in (312.0, 336.0)], np.float64
    )
    places += rng.random(places.shape)
    overlap, seen = Overlap(1.0), 1 - math.exp(-mean_on)
    for index in range(600):
        on = rng.random(len(places)) < seen
        xy = places[on] + rng.normal(0, 0.1, (on.sum(), 2))
        overlap.take(index, ODD, *xy.T)
    # What the network allows for in a place as dense as the neighbourhood.
    box_px = 24.0 * 24.0
    hidden_px = 2 * math.pi * OVERLAP_PX**2
    allowed = piled_up(seen * hidden_px / box_px, 1 / 3)
    got = overlap.factor(len(places) * seen)
    assert_allclose(got, mean_on / seen / allowed, rtol=0.03)


@pytest.mark.parametrize("frames", [60, 600])
def test_places_of_unequal_density(frames: int) -> None:
    """The truth is a sum over places; their mean alone would be too low."""
    rng = np.random.default_rng(11)
    places = np.stack(np.meshgrid(np.arange(12.0) * 30, np.arange(9.0) * 30), -1)
    places = places.reshape(-1, 2) + 15.0
    mean_on = rng.choice([0.05, 0.3, 1.5], len(places), p=[0.4, 0.4, 0.2])
    overlap, roi = Overlap(1.0), Roi(0, 0, 360, 270)
    seen = 1 - np.exp(-mean_on)
    for index in range(frames):
        on = rng.random(len(places)) < seen
        overlap.take(index, roi, *places[on].T)
    count = float(seen.sum())
    truth = float(mean_on.sum()) / count
    hidden_px = 2 * math.pi * OVERLAP_PX**2
    around = float(np.average(seen, weights=seen)) * hidden_px / 24.0**2
    allowed = piled_up(around, 1 / 3)
    assert_allclose(overlap.factor(count), truth / allowed, rtol=0.03)
    of_the_mean = piled_up(float(np.average(seen, weights=seen)))
    assert of_the_mean < 0.94 * truth


def test_a_dense_half_is_even_in_itself() -> None:
    rng = np.random.default_rng(2)
    half = Roi(ODD.x, ODD.y, ODD.width // 2, ODD.height)
    frames = [even(60, rng, half) for _ in range(200)]
    assert 1.0 <= factor_after(frames) < 1.02


def test_one_long_blink_is_no_crowd() -> None:
    """An emitter that stays on for six frames is not its own neighbour."""
    rng = np.random.default_rng(4)
    frames: list[Points] = []
    for _ in range(9):
        frames += [even(8, rng)] * 6
    assert 1.0 <= factor_after(frames, on_time=2.0) < 1.02


def test_density_and_its_sd_are_raised_alike() -> None:
    rng = np.random.default_rng(5)
    places = even(6, rng)
    plain = DensityEstimator(100.0, on_time_frames=1.0, overlap_px=0.0)
    full = DensityEstimator(100.0, on_time_frames=1.0)
    for index in range(200):
        frame = found(index, places[rng.random(6) < 0.6], 3.6)
        before, after = plain.update(frame), full.update(frame)
    assert before.overlap == 1.0
    assert after.overlap > 1.2
    for name in ("per_um2", "smoothed_per_um2", "sd_per_um2", "smoothed_sd_per_um2"):
        assert_allclose(
            getattr(after, name), after.overlap * getattr(before, name), rtol=1e-12
        )
    assert after.crowding_per_um2 == before.crowding_per_um2


def test_a_copied_number_is_held_as_it_is_counted() -> None:
    estimator = DensityEstimator(100.0, on_time_frames=1.0)
    crowd, roi = np.full((3, 2), 310.0), Roi(300, 300, 40, 40)
    for index in range(50):
        got = estimator.update(found(index, crowd, 3.0, roi))
    assert got.overlap > 1.2
    estimator.count_as_seen()
    assert estimator.update(found(50, crowd, 3.0, roi)).overlap == 1.0


def test_only_the_region_is_looked_at() -> None:
    region = Roi(ODD.x, ODD.y, 40, ODD.height)
    estimator = DensityEstimator(100.0, on_time_frames=1.0, region=region)
    rng = np.random.default_rng(0)
    crowd = np.full((3, 2), [90.0, 330.0])  # on the image, off the region
    for index in range(200):
        xy = np.concatenate([even(6, rng, region), crowd])
        got = estimator.update(found(index, xy, 9.0))
    assert got.overlap < 1.02
    off = DensityEstimator(100.0, region=Roi(5000, 5000, 9, 9))
    assert off.update(found(0, crowd, 3.0)).overlap == 1.0


def test_nothing_odd_breaks_it() -> None:
    """No detections, positions off the image or not finite, gaps, a new image."""
    estimator = DensityEstimator(100.0, on_time_frames=1.0)
    odd = np.array([[np.nan, 310.0], [-1e9, 310.0], [20.0, np.inf], [103.4, 360.4]])
    for index in (0, 1, 2, 900, 901, 902, 903, 904, 905, 906):
        got = estimator.update(found(index, odd if index % 2 else odd[:0], 1.0))
        assert 1.0 <= got.overlap <= 2.0
    one = Roi(0, 0, 1, 1)
    for index in range(907, 940):
        got = estimator.update(found(index, np.zeros((2, 2)), 2.0, one))
        assert 1.0 <= got.overlap <= 2.0
    assert estimator.update(found(3, odd, 1.0)).overlap == 1.0  # started anew
    estimator.update(found(4, odd, math.nan))


@pytest.mark.parametrize("per_frame", [6, 30, 200])
def test_beads_hide_nobody(per_frame: int) -> None:
    """Fiducials: always on, in one place each, found once per frame, at times not."""
    rng = np.random.default_rng(per_frame)
    roi = Roi(40, 7, 160, 120)
    beads = even(8, rng, roi)
    frames = []
    for _ in range(300):
        here = beads[rng.random(8) < 0.99] + rng.normal(0, 0.15, (8, 2))[0]
        frames.append(np.concatenate([even(rng.poisson(per_frame), rng, roi), here]))
    assert 1.0 <= factor_after(frames, roi) < 1.025


def test_beads_among_clusters_count_once() -> None:
    """What the clusters hide is put back as without the beads."""
    rng = np.random.default_rng(6)
    x, y = np.meshgrid(np.arange(6) * 26.0 + 12, np.arange(4) * 30.0 + 12)
    places = np.stack([x.ravel(), y.ravel()], 1)
    beads, roi = (
        np.array([[25.0, 27.0], [77.0, 57.0], [129.0, 87.0]]),
        Roi(0, 0, 160, 120),
    )
    alone, both = Overlap(1.0), Overlap(1.0)
    for index in range(600):
        on = rng.random(len(places)) < 0.63
        xy = places[on] + rng.normal(0, 0.1, (on.sum(), 2))
        alone.take(index, roi, *xy.T)
        both.take(index, roi, *np.concatenate([xy, beads]).T)
    count = 0.63 * len(places)
    assert alone.factor(count) > 1.3
    assert_allclose(
        (count + 3) * both.factor(count + 3), count * alone.factor(count) + 3, rtol=0.02
    )


def test_a_dark_start_is_no_map() -> None:
    """The laser is off at first: frames without anything, then the first emitter."""
    overlap, none = Overlap(1.0), np.zeros((0, 2))
    for index in range(20):
        overlap.take(index, ODD, *none.T)
    overlap.take(20, ODD, *np.array([[50.0, 320.0]]).T)
    assert overlap.factor(1.0) == 1.0


def test_old_places_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(density_overlap, "_KEPT", 100)
    rng = np.random.default_rng(1)
    overlap = Overlap(1.0)
    for index in range(200):
        overlap.take(index, ODD, np.full(9, 30.0), np.full(9, 330.0))
    crowded = overlap.factor(9.0)
    for index in range(200, 1400):
        overlap.take(index, ODD, *even(30, rng).T)
    assert crowded == 2.0
    assert overlap.factor(30.0) < 1.02
    overlap.reset()
    assert overlap.factor(30.0) == 1.0


def test_reach_has_limits() -> None:
    with pytest.raises(InputError, match="overlap_px"):
        DensityEstimator(100.0, overlap_px=-1.0)
    with pytest.raises(InputError, match="overlap_px"):
        DensityEstimator(100.0, overlap_px=math.nan)


def test_large_fields_take_six_bytes_for_each_bin_and_say_the_same() -> None:
    """2048 x 2048 px: 101 MB, not 268. Halved twice, with a bead that is missed."""
    image = Roi(3, 5, 64, 48)
    small, wide = Overlap(2.0), Overlap(2.0)
    rng = np.random.default_rng(1)
    places = rng.uniform(5, 43, (12, 2))
    for index in range(0, 8200, 2):
        found = places[rng.integers(0, 12, rng.poisson(6))]
        found = found + rng.normal(0, 0.6, found.shape)
        if rng.random() < 0.97:
            found = np.concatenate([found, [[20.2, 30.1]]])
        for overlap in (small, wide):
            overlap.take(index, image, found[:, 0] + 3, found[:, 1] + 5)
            if overlap is wide and index == 0:
                wide._map = wide._map.astype(np.float64)
                wide._met = wide._met.astype(np.float64)
    bins = 4 * image.width * image.height
    margin = small._map.size / bins
    assert small._map.nbytes + small._met.nbytes <= 6 * margin * bins
    assert small._met.max() > 1000
    assert small.factor(7.0) > 1.1
    np.testing.assert_allclose(small.factor(7.0), wide.factor(7.0), rtol=1e-9)
