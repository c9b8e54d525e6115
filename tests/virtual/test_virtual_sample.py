"""Structures, background and settings of the virtual microscope."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from blinkloop.integrations.virtual import BackgroundSettings, VirtualSettings
from blinkloop.integrations.virtual.background import Background
from blinkloop.integrations.virtual.structures import sample_positions

SHAPES = ["filaments", "rings", "clusters", "uniform"]


@pytest.mark.parametrize("structure", SHAPES)
@pytest.mark.parametrize("z_range_nm", [(-400.0, 300.0), (0.0, 0.0)], ids=["3D", "2D"])
def test_positions_fill_the_sample_and_stay_in_it(structure, z_range_nm) -> None:
    settings = VirtualSettings(
        width_px=97,
        height_px=43,
        structure=structure,
        n_emitters=5000,
        z_range_nm=z_range_nm,
        margin_px=6.0,
    )
    points = sample_positions(settings, np.random.default_rng(1))
    assert points.shape == (5000, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    assert np.all(low >= [-6.5, -6.5, z_range_nm[0]])
    assert np.all(high <= [102.5, 48.5, z_range_nm[1]])
    # Not square: x must use the width, y the height; the margin is populated.
    assert low[0] < -5
    assert low[1] < -5
    assert high[0] > 101
    assert high[1] > 47
    if z_range_nm[1] > z_range_nm[0]:
        assert high[2] - low[2] > 500


def _occupied(structure: str) -> float:
    """Share of 50 nm cells that hold an emitter."""
    settings = VirtualSettings(
        structure=structure, n_emitters=30_000, unspecific_fraction=0.0
    )
    points = sample_positions(settings, np.random.default_rng(0))
    cells = np.unique(np.floor(points[:, :2] * 2).astype(int), axis=0)
    return len(cells) / (settings.sample_um2 * 400)


def test_structures_are_structured() -> None:
    # Poisson: 1 - exp(-0.84 emitters per cell).
    assert _occupied("uniform") == pytest.approx(0.57, abs=0.02)
    for structure in ("filaments", "rings", "clusters"):
        assert _occupied(structure) < 0.35


@pytest.mark.parametrize("structure", SHAPES)
@pytest.mark.parametrize("n", [0, 1])
def test_tiny_pools(structure, n) -> None:
    settings = VirtualSettings(structure=structure, n_emitters=n)
    assert sample_positions(settings, np.random.default_rng(0)).shape == (n, 3)


def test_pool_from_a_labelling_density() -> None:
    settings = VirtualSettings(
        width_px=20, height_px=10, margin_px=5, labelling_per_um2=100
    )
    assert settings.sample_um2 == pytest.approx(6.0)
    assert settings.field_um2 == pytest.approx(2.0)
    assert settings.pool == 600


@pytest.mark.parametrize(
    "changes",
    [
        {"n_emitters": 5, "labelling_per_um2": 1.0},
        {"z_range_nm": (1.0, -1.0)},
        {"start_power_mw": 60.0},
        {"exposure_ms": 0.0},
        {"structure": "pores"},
        {"colour": "blue"},
        {"psf": {"kind": "airy"}},
    ],
    ids=lambda c: next(iter(c)),
)
def test_bad_settings(changes) -> None:
    with pytest.raises(ValidationError):
        VirtualSettings(**changes)


def test_background_varies_slowly_and_bleaches() -> None:
    settings = BackgroundSettings(
        photons=20.0, structure=0.2, bleach_time_s=10.0, drift=0.05, drift_period_s=4.0
    )
    background = Background(settings, 61, 97, np.random.default_rng(0))
    image = background.at(0.0)
    assert image.shape == (61, 97)
    np.testing.assert_allclose(image.mean(), 20.0, rtol=0.06)
    np.testing.assert_allclose(image.std() / image.mean(), 0.2, rtol=0.01)
    assert image.min() >= 0
    for axis in (0, 1):
        assert np.abs(np.diff(image, axis=axis)).max() < 0.15 * image.mean()
    np.testing.assert_allclose(background.at(8.0), image * np.exp(-0.8), rtol=1e-5)
    wave = [background.factor(t) * np.exp(t / 10) for t in np.linspace(0, 4, 200)]
    np.testing.assert_allclose([min(wave), max(wave)], [0.95, 1.05], atol=1e-3)


def test_flat_background() -> None:
    settings = BackgroundSettings(photons=7.0, structure=0.0, drift=0.0)
    image = Background(settings, 5, 9, np.random.default_rng(0)).at(3.0)
    np.testing.assert_allclose(image, np.full((5, 9), 7.0))
