"""The closed loop on images: its counters, and a short run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `train`")
pytest.importorskip("onnxruntime", reason="needs the extra `cpu`")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import closed_loop_images as images
import closed_loop_sample as sample
from closed_loop_sample import NOMINAL, TARGET, Case, score

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import open_session
from blinkloop.optics import GaussianPsf
from blinkloop.schema import GaussianPsfSettings


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "SIDE_PX", 48)
    monkeypatch.setattr(sample, "SECONDS", 3)
    monkeypatch.setattr(sample, "SETTLE_S", 1.0)
    monkeypatch.setattr(images, "_CALIBRATION", 40)


def spots(*places: tuple[float, float]) -> np.ndarray:
    """Emitters of 3000 photons on a background of 20, no noise, 40 x 33 px."""
    x, y = np.array(places, np.float32).reshape(-1, 2).T
    light = np.full(x.size, 3000, np.float32)
    frame = np.zeros(x.size, np.int64)
    psf = GaussianPsf(GaussianPsfSettings())
    drawn = psf.render(x, y, 0 * x, light, frame, 1, 33, 40)[0]
    return (drawn + 120).astype(np.uint16)


def test_htsmlm_counts_what_is_gone() -> None:
    law = images.Theirs(NOMINAL)
    assert law.peaks(spots((8, 9), (30, 9), (20, 25))).size == 0
    gone = law.peaks(spots((8, 9)))
    assert (gone > 0.2 * gone.max()).sum() == 2
    # What comes is not counted, and two that lie close are one.
    gone = law.peaks(spots((8, 9), (20, 20), (21.5, 20)))
    assert gone.max() < 1
    gone = law.peaks(spots((8, 9)))
    assert (gone > 0.2 * gone.max()).sum() == 1


def test_its_cut_off_finds_as_many_as_there_are() -> None:
    rng = np.random.default_rng(0)
    frames = [
        rng.poisson(spots(*rng.uniform(5, 28, (3, 2)))).astype(np.uint16)
        for _ in range(41)
    ]
    law = images.Theirs(NOMINAL)
    law.calibrate(frames, 2.0)
    counts = [(law.peaks(frame) >= law._cut).sum() for frame in frames][1:]
    assert np.mean(counts) == pytest.approx(2.0, abs=0.05)
    assert law._law is not None
    assert law._law.gone == pytest.approx(2.0, abs=0.05)


@pytest.mark.usefixtures("small")
def test_a_short_run() -> None:
    """Whatever network is bundled: it comes from three times too few."""
    session = open_session(
        resolve_model("astigmatic-lite"),
        CameraFlags(),
        {},
        source="movie",
        backend="onnxruntime-cpu",
        threads=1,
    )
    case = Case("few", 1 / 3.5, structure="uniform")
    track = images.simulate(
        session, case, lambda start: images.Ours(session, start, True), 1
    )
    assert track.power[0] == pytest.approx(NOMINAL / 3.5)
    assert track.density[:10].mean() < 0.6 * TARGET
    assert track.density[-100:].mean() == pytest.approx(TARGET, rel=0.4)
    assert score(case, track)["settling_s"] > 0
    settings = images.settings_of(session, case, 1)
    assert settings.start_power_mw * images._US_PER_MW == NOMINAL
