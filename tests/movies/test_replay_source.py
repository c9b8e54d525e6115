"""A replay keeps its pace and, like a camera, does not wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import Movie, MovieSource, open_movie
from blinkloop.integrations.replay import ReplaySource
from blinkloop.runtime.protocols import FrameSource
from blinkloop.runtime.records import Roi


class HandClock:
    """A double of time: it moves when it is told to, or when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


@pytest.fixture
def movie(tmp_path: Path, stack: npt.NDArray[Any]) -> Iterator[Movie]:
    np.save(tmp_path / "m.npy", stack)
    with open_movie(tmp_path / "m.npy") as opened:
        yield opened


def _replay(movie: Movie, clock: HandClock, **options: Any) -> ReplaySource:
    return ReplaySource(movie, 10.0, clock=clock, wait=clock.wait, **options)


def test_frames_come_when_they_are_exposed(movie: Movie) -> None:
    clock = HandClock()
    source = _replay(movie, clock, repeat=3)
    assert isinstance(source, FrameSource)
    source.start()
    whole = movie.read(0, 7)
    for i, frame in enumerate(source.frames()):
        assert frame.index == i
        assert frame.timestamp_s == pytest.approx(i / 10)
        assert clock.now - 1000 == pytest.approx((i + 1) / 10)
        np.testing.assert_array_equal(frame.pixels, whole[i % 7])
    assert i == 20
    assert source.lost == 0
    assert source.roi == Roi(0, 0, 9, 5)


def test_slow_consumer_loses_the_oldest_frames(movie: Movie) -> None:
    clock = HandClock()
    source = _replay(movie, clock, repeat=10, ring_frames=4)
    source.start()
    seen = []
    whole = movie.read(0, 7)
    for frame in source.frames():
        seen.append(frame.index)
        np.testing.assert_array_equal(frame.pixels, whole[frame.index % 7])
        if frame.index == 2:
            clock.now += 2.0  # 20 more frames are exposed meanwhile
    # 23 are exposed; the ring holds 19 .. 22.
    assert seen == [0, 1, 2, *range(19, 70)]
    assert source.lost == 0


def test_consumer_within_the_ring_loses_nothing(movie: Movie) -> None:
    clock = HandClock()
    source = _replay(movie, clock, repeat=4, ring_frames=10)
    source.start()
    seen = []
    for frame in source.frames():
        seen.append(frame.index)
        if frame.index == 5:
            clock.now += 0.9
    assert seen == list(range(28))


def test_stop_counts_what_was_left(movie: Movie) -> None:
    clock = HandClock()
    source = _replay(movie, clock)
    source.start()
    seen = []
    for frame in source.frames():
        seen.append(frame.index)
        if frame.index == 2:
            clock.now += 0.2
            source.stop()
    assert seen == [0, 1, 2]
    assert source.lost == 2


def test_real_clock_takes_the_time(movie: Movie) -> None:
    import time

    source = ReplaySource(movie, 100.0)
    source.start()
    started = time.perf_counter()
    assert sum(1 for _ in source.frames()) == 7
    assert time.perf_counter() - started >= 0.069


@pytest.mark.parametrize("fps", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_rate(fps: float, movie: Movie) -> None:
    with pytest.raises(InputError, match="frame rate"):
        ReplaySource(movie, fps)


def test_offline_source_delivers_all(movie: Movie) -> None:
    source = MovieSource(movie, 50.0, start=2, stop=6)
    assert isinstance(source, FrameSource)
    source.start()
    frames = list(source.frames())
    assert [frame.index for frame in frames] == [2, 3, 4, 5]
    assert [frame.timestamp_s for frame in frames] == pytest.approx(
        [0.04, 0.06, 0.08, 0.1]
    )
    np.testing.assert_array_equal([frame.pixels for frame in frames], movie.read(2, 6))
    stopped = MovieSource(movie)
    taken = []
    for frame in stopped.frames():
        taken.append(frame.index)
        stopped.stop()
    assert taken == [0]
