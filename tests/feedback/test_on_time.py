"""The mean on-time, learned from blinks of known length, or nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from feedback_doubles import ClockDouble, LaserDouble, result

from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import (
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
)
from blinkloop.runtime.found_places import on_image, spread_over
from blinkloop.runtime.on_time import OnTimeMeter
from blinkloop.runtime.records import Roi
from blinkloop.schema import LOCALIZATION_DTYPE

ODD = Roi(7, 300, 131, 97)
Points = npt.NDArray[np.float64]


def blinks(
    on_time: float,
    per_frame: float,
    frames: int,
    *,
    roi: Roi = ODD,
    sites: Points | None = None,
    found: float = 0.85,
    seed: int = 1,
) -> Iterator[Points]:
    """Detections (n, 2) of exponential blinks; some are missed in some frames."""
    rng = np.random.default_rng(seed)
    size = np.array([roi.width, roi.height])
    on = np.zeros((0, 4))
    for frame in range(-int(8 * on_time), frames):
        n = rng.poisson(per_frame / on_time)
        xy = rng.random((n, 2)) * size
        if sites is not None:
            xy = sites[rng.integers(0, len(sites), n)] + rng.normal(0, 0.6, (n, 2))
        start = frame + rng.random(n)
        end = start + rng.exponential(on_time, n)
        on = np.concatenate([on, np.column_stack([xy, start, end])])
        light = np.minimum(on[:, 3], frame + 1) - np.maximum(on[:, 2], frame)
        if frame >= 0:
            seen = on[(light > 0.3) & (rng.random(len(on)) < found), :2]
            low = np.array([roi.x, roi.y]) - 0.5
            yield low + seen + rng.normal(0, 0.15, seen.shape)
        on = on[on[:, 3] > frame + 1]


def after(frames: Iterator[Points], roi: Roi = ODD, every: int = 1) -> float | None:
    meter = OnTimeMeter()
    for index, xy in enumerate(frames):
        if index % every == 0:
            meter.take(index, roi, *xy.T)
    return meter.frames


def test_places_on_the_image() -> None:
    x = np.array([6.49, 6.5, 137.49, 137.5, np.nan, 20.0, np.inf])
    y = np.array([300.0, 299.5, 396.49, 300.0, 300.0, 299.4, 300.0])
    inside = on_image(ODD, x, y)
    np.testing.assert_allclose(inside, [[0.0, 130.99], [0.0, 96.99]])
    assert np.arange(5)[spread_over(5, 5)].tolist() == [0, 1, 2, 3, 4]
    assert np.arange(9)[spread_over(9, 3)].tolist() == [0, 4, 8]


@pytest.mark.parametrize("on_time", [1.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("per_frame", [20, 150])
def test_known_blinks(on_time: float, per_frame: float) -> None:
    got = after(blinks(on_time, per_frame, 300))
    assert got == pytest.approx(on_time, rel=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_soon_known(seed: int) -> None:
    """Before a laser that starts too low has moved far."""
    got = after(blinks(10.0, 80, 35, seed=seed))
    assert got == pytest.approx(10.0, rel=0.35)


@pytest.mark.parametrize(
    ("width", "height", "per_frame", "frames"),
    [(900, 700, 400, 100), (1024, 1000, 20000, 40), (3000, 1100, 15000, 40)],
    ids=["sparse", "2 per um2", "larger than the table"],
)
def test_large_images(width: int, height: int, per_frame: int, frames: int) -> None:
    roi = Roi(0, 0, width, height)
    got = after(blinks(6.0, per_frame, frames, roi=roi), roi)
    assert got == pytest.approx(6.0, rel=0.15)


def test_frames_left_out() -> None:
    """Numbers count, not calls: every third frame tells the same."""
    got = after(blinks(12.0, 100, 400), every=3)
    assert got == pytest.approx(12.0, rel=0.2)


def test_clusters_tell_late_or_nothing() -> None:
    sites = np.random.default_rng(3).random((30, 2)) * [ODD.width, ODD.height]
    early = after(blinks(4.0, 60, 30, sites=sites))
    late = after(blinks(4.0, 60, 800, sites=sites))
    assert early is None or early == pytest.approx(4.0, rel=0.4)
    assert late is None or late == pytest.approx(4.0, rel=0.4)


def test_nothing_to_tell() -> None:
    rng = np.random.default_rng(0)
    size = np.array([ODD.width, ODD.height])
    low = np.array([ODD.x, ODD.y])
    anywhere = (low + rng.random((30, 2)) * size for _ in range(300))
    assert after(anywhere) is None
    fixed = low + rng.random((30, 2)) * size
    assert after(fixed for _ in range(300)) is None
    assert after(np.zeros((0, 2)) for _ in range(300)) is None
    assert after(np.full((3, 2), np.nan) for _ in range(50)) is None
    assert after(blinks(3.0, 0.1, 60)) is None


def test_another_image_or_count_starts_anew() -> None:
    meter = OnTimeMeter()
    frames = list(blinks(3.0, 60, 60))
    for index, xy in enumerate(frames):
        meter.take(index, ODD, *xy.T)
    assert meter.frames is not None
    meter.take(60, Roi(0, 0, 50, 50), *frames[0].T)
    assert meter.frames is None
    for index, xy in enumerate(frames):
        meter.take(index, ODD, *xy.T)
    assert meter.take(5, ODD, *frames[5].T) is None
    meter.take(10**9, ODD, *frames[5].T)  # long after: nothing found again
    assert meter.frames is None


def test_old_blinks_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blinkloop.runtime.on_time._KEPT", 100)
    meter, index = OnTimeMeter(), 0
    for on_time in (10.0, 2.0):
        for xy in blinks(on_time, 60, 900):
            meter.take(index, ODD, *xy.T)
            index += 1
        assert meter.frames == pytest.approx(on_time, rel=0.15)


def test_the_estimator_believes_it() -> None:
    learning = DensityEstimator(100.0, on_time_frames=3.0, learn_on_time=True)
    told = DensityEstimator(100.0, on_time_frames=3.0)
    knows = DensityEstimator(100.0, on_time_frames=10.0)
    for index, xy in enumerate(blinks(10.0, 60, 200)):
        table = np.zeros(len(xy), LOCALIZATION_DTYPE)
        table["x_px"], table["y_px"] = xy.T
        frame = result(index, float(len(xy)), 1.0, roi=ODD, localizations=table)
        sds = [e.update(frame).smoothed_sd_per_um2 for e in (learning, told, knows)]
    assert learning.on_time_frames == pytest.approx(10.0, rel=0.15)
    assert told.on_time_frames == 3.0
    assert sds[0] == pytest.approx(sds[2], rel=0.1)
    assert sds[0] > 1.3 * sds[1]
    learning.reset()
    assert learning.on_time_frames == pytest.approx(10.0, rel=0.15)


def test_the_controller_waits_and_models_with_it() -> None:
    """It would have begun; the plant's answer is as slow as the emitters."""
    settings = ControllerSettings(
        target_per_um2=0.5, start_power=1.0, max_power=100.0, on_time_frames=3.0
    )
    controller = FeedbackController(settings)
    model = controller._sample._model
    controller.set_on_time(10.0)
    assert controller._settling_frames == 10 + 30
    model.advance(0)
    model.command(2.0)
    for index in range(1, 11):
        model.advance(index)
    assert model.mean(1) == pytest.approx(2.0 - math.exp(-1.0))


@pytest.mark.parametrize(("on_time", "begins"), [(2.0, 29), (12.0, 59)])
def test_the_loop_waits_for_it_but_not_for_ever(on_time: float, begins: int) -> None:
    """First command: when the emitters have followed, and at 40 frames if unknown."""
    settings = ControllerSettings(
        target_per_um2=5.0, start_power=1.0, max_power=100.0, learn_on_time=True
    )
    first: dict[bool, int] = {}
    for told_by_detections in (True, False):
        estimator = DensityEstimator(100.0, average_frames=10, learn_on_time=True)
        clock, laser = ClockDouble(), LaserDouble()
        guard = LaserGuard(
            laser,
            LaserLimits(max_value=100.0),
            mode="control",
            clock=clock,
            watchdog=False,
        )
        loop = FeedbackLoop(estimator, FeedbackController(settings), guard)
        loop.start()
        for index, xy in enumerate(blinks(on_time, 100, 120)):
            table = np.zeros(len(xy), LOCALIZATION_DTYPE)
            table["x_px"], table["y_px"] = xy.T
            found = table if told_by_detections else table[:0]
            loop.observe(
                [result(index, float(len(xy)), 1.0, roi=ODD, localizations=found)]
            )
            if guard.value > 1.0 and told_by_detections not in first:
                first[told_by_detections] = index
        on = loop.summary()["on_time_frames"]
        expected = on_time if told_by_detections else 3.0
        assert on == pytest.approx(expected, rel=0.25)
        loop.close()
    assert first[False] == 39
    assert first[True] <= begins
    assert first[True] >= 3 * on_time
