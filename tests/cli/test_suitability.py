"""Frames are counted some at a time; the facts are those of every single one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import Session, open_session
from blinkloop.cli._suitability import Suitability
from blinkloop.range_check import TrainingRangeCheck
from blinkloop.runtime import FrameResult, Roi
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
