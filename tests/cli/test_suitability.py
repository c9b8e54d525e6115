"""Frames are counted some at a time; the facts are those of every single one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import Session, open_session
from blinkloop.cli._suitability import PixelTap, Suitability
from blinkloop.range_check import TrainingRangeCheck
from blinkloop.runtime import Frame, FrameResult, Roi
from blinkloop.schema import LOCALIZATION_DTYPE


class NoPixels:
    """A tap that kept none."""

    kept_origin = (0, 0)

    def take(self, index: int) -> None:
        """No pixels of any frame."""


@pytest.fixture(scope="module")
def session() -> Session:
    model = Path(__file__).parent.parent / "golden" / "tiny_half.onnx"
    return open_session(
        model, CameraFlags(), {}, source="movie", backend="onnxruntime-cpu", threads=1
    )


def make_result(index: int, roi: Roi, rng: np.random.Generator) -> FrameResult:
    rows = np.zeros(index % 4, LOCALIZATION_DTYPE)
    for name in LOCALIZATION_DTYPE.names or ():
        rows[name] = rng.uniform(0.1, 50, len(rows))
    blocks = np.zeros((1, 1), np.float32)
    return FrameResult(index, 0.0, roi, 0, rows, False, float(index), 0.1, blocks)


@pytest.mark.parametrize("frames", [0, 1, 16, 17, 50])
@pytest.mark.parametrize("at_once", [1, 7])
def test_any_chunking_gives_the_same_facts(
    session: Session, frames: int, at_once: int
) -> None:
    rng = np.random.default_rng(3)
    # The region changes on the way.
    rois = [Roi(0, 0, 21, 13)] * 20 + [Roi(2, 1, 11, 9)] * 30
    results = [make_result(n, rois[n], rng) for n in range(frames)]
    check = TrainingRangeCheck(session.model.card, session.camera.settings)
    for result in results:
        check.add(
            result.localizations,
            frames=1,
            height=result.roi.height,
            width=result.roi.width,
            emitters=result.count_mean,
        )
    watched: Any = Suitability(session, NoPixels())  # type: ignore[arg-type]
    for start in range(0, frames, at_once):
        watched.observe(results[start : start + at_once])
    facts, wanted = watched.facts(), check.report().facts
    assert facts["frames"] == frames
    assert {key: facts[key] for key in wanted} == pytest.approx(wanted)
    assert len(watched.warnings()) == len(check.report().warnings)


class Frames:
    """A source of frames of one size."""

    lost, dtype, roi = 0, np.dtype(np.uint16), Roi(0, 0, 21, 13)

    def __init__(self, count: int, height: int, width: int) -> None:
        self._count, self._size = count, (height, width)

    def frames(self) -> Iterator[Frame]:
        """Give each the value of its number."""
        height, width = self._size
        for index in range(self._count):
            pixels = np.full(self._size, index, np.uint16)
            yield Frame(index, 0.0, pixels, Roi(0, 0, width, height))


@pytest.mark.parametrize(
    ("height", "width", "kept"), [(13, 21, 64), (512, 512, 16), (1024, 1030, 4)]
)
def test_pixels_that_wait_take_little_memory(
    height: int, width: int, kept: int
) -> None:
    source: Any = Frames(90, height, width)
    tap = PixelTap(source)
    assert sum(1 for _ in tap.frames()) == 90
    found = {index: tap.take(index) for index in range(90)}
    there = [index for index, pixels in found.items() if pixels is not None]
    assert there == list(range(90 - kept, 90))
    for index in there:
        np.testing.assert_array_equal(np.unique(found[index]), [index])


class Pixels(NoPixels):
    """A tap that kept all."""

    def take(self, index: int) -> Any:
        """Noise."""
        return np.random.default_rng(index).integers(90, 110, (13, 21), np.uint16)


def test_frames_that_waited_for_the_hot_pixels_are_looked_at_a_few_at_a_time(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, roi = np.random.default_rng(5), Roi(0, 0, 21, 13)
    watched: Any = Suitability(session, Pixels())  # type: ignore[arg-type]
    looked: list[int] = []
    monkeypatch.setattr(
        watched._range, "add_pixels", lambda pixels, photons: looked.append(1)
    )
    counts = []
    for number in range(40):
        watched.observe([make_result(number, roi, rng)])
        counts.append(len(looked))
    assert counts[:15] == [0] * 15
    # From the 16th on; the frame's own and one that waited.
    assert counts[15:30] == list(range(2, 32, 2))
    assert np.diff(counts).max() == 2
    assert counts[-1] == 40
    watched.observe([make_result(n, roi, rng) for n in range(40, 43)])
    watched.facts()
    assert len(looked) == 43
