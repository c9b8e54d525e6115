"""The table of counted and corrected densities: its samples, and a short run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="needs the extra `train`")
pytest.importorskip("onnxruntime", reason="needs the extra `cpu`")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import closed_loop_sample as sample
import density_overlap as script

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import open_session
from blinkloop.integrations.virtual import VirtualSettings, structures


def test_samples_are_what_their_names_say() -> None:
    before = structures._CLUSTER_SIGMA_NM
    with script.shape("clusters:30:2") as name:
        assert name == "clusters"
        assert (structures._CLUSTER_SIGMA_NM, structures._CLUSTERS_PER_UM2) == (30, 2)
    assert before == structures._CLUSTER_SIGMA_NM
    settings = VirtualSettings(
        width_px=40, height_px=30, n_emitters=500, margin_px=0, unspecific_fraction=0
    )
    with script.shape("half") as name:
        half = settings.model_copy(update={"structure": name})
        points = structures.sample_positions(half, structures.random_streams(0)[0])
    assert points[:, 0].max() < 19.6
    assert points[:, 0].min() < 1
    with script.shape("rings") as name:
        assert name == "rings"


def test_clusters_are_counted_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample, "SIDE_PX", 48)
    monkeypatch.setattr(script, "_LEARNED", 60)
    session = open_session(
        resolve_model("astigmatic-lite"),
        CameraFlags(),
        {},
        source="movie",
        backend="auto",
        threads=1,
    )
    counted, corrected = script.shares(session, "clusters", 0.5, 160, 0)
    assert counted < 0.9
    assert abs(corrected - 1.0) < 0.7 * (1.0 - counted)
