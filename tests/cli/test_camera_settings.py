"""How many frames the hand-over of a live run holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blinkloop.cli._live import camera_settings
from blinkloop.integrations.movies import open_movie
from blinkloop.integrations.replay import ReplaySource


@pytest.mark.parametrize(
    ("fps", "ring"), [(1, 16), (20, 20), (100, 100), (900, 900), (5000, 1000)]
)
def test_a_second_of_small_frames(tmp_path: Path, fps: float, ring: int) -> None:
    """At least 16, and at most those of a camera with exposures of 1 ms."""
    path = tmp_path / "movie.npy"
    np.save(path, np.zeros((2, 8, 12), np.uint16))
    with open_movie(path) as movie:
        assert camera_settings(ReplaySource(movie, fps)).ring_frames == ring


def test_large_frames_have_64_mib(tmp_path: Path) -> None:
    path = tmp_path / "movie.npy"
    np.save(path, np.zeros((1, 1024, 2048), np.uint16))
    with open_movie(path) as movie:
        assert camera_settings(ReplaySource(movie, 100)).ring_frames == 16
