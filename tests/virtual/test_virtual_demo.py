"""The demo's plant: the target is reachable from both sides and bleaching is felt."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.virtual import Simulator, demo_settings
from blinkloop.schema import (
    Architecture,
    CameraSettings,
    GaussianPsfSettings,
    ModelCard,
    Scaling,
    SplinePsfSettings,
    TrainingRanges,
    VariedGaussianPsfSettings,
)


def _card(**changes) -> ModelCard:
    facts = {
        "name": "test",
        "architecture": Architecture(features=8),
        "pixel_size_nm": 100.0,
        "z_range_nm": (-500.0, 500.0),
        "psf": GaussianPsfSettings(),
        "camera": CameraSettings(read_noise_e=1.7),
        "scaling": Scaling(
            input_offset_photons=20.0,
            input_scale_photons=60.0,
            photons_max=7000.0,
            z_max_nm=600.0,
            background_max=50.0,
        ),
        "training_ranges": TrainingRanges(
            photons=(500.0, 5000.0),
            background_photons=(5.0, 40.0),
            density_per_um2=(0.0, 1.5),
            on_time_frames=(1.0, 6.0),
        ),
    }
    return ModelCard(**(facts | changes))


def _density(settings, powers) -> np.ndarray:
    simulator = Simulator(settings)
    out = np.zeros((settings.height_px, settings.width_px), np.uint16)
    seen = [simulator.frame(out, p, k)[1]["emitters"][0] for k, p in enumerate(powers)]
    return np.array(seen) / settings.field_um2


@pytest.mark.parametrize(("start", "factor"), [("low", 1 / 3.5), ("high", 3.5)])
@pytest.mark.parametrize(
    ("structure", "seed"), [("filaments", 4), ("filaments", 0), ("rings", 1)]
)
def test_density_at_the_start(start, factor, structure, seed) -> None:
    settings = demo_settings(_card(), start=start, structure=structure, seed=seed)
    density = _density(settings, np.full(120, settings.start_power_mw))[20:].mean()
    assert density == pytest.approx(0.5 * factor, rel=0.2)
    assert density < 0.5 / 3 or density > 0.5 * 3


def test_the_needed_power_rises_but_stays_far_from_the_limit() -> None:
    """Power along the plant's own law holds the target over the whole run."""
    settings = demo_settings(_card(), start="right", seconds=8.0, target_per_um2=0.4)
    n = 400
    left = 1 - np.arange(n) / n * (1 - 1 / 2.2)
    density = _density(settings, 2.0 / left)
    for part in np.split(density, 4):
        assert part[20:].mean() == pytest.approx(0.4, rel=0.15)
    assert settings.max_power_mw == 50.0
    flat = _density(settings, np.full(n, 2.0))
    assert flat[-100:].mean() < 0.85 * flat[20:120].mean()


def test_the_card_is_followed() -> None:
    card = _card(
        pixel_size_nm=130.0,
        z_range_nm=(-300.0, 200.0),
        training_ranges=TrainingRanges(
            photons=(500.0, 1500.0),
            background_photons=(1.0, 5.0),
            density_per_um2=(0.0, 1.0),
            on_time_frames=(4.0, 6.0),
        ),
    )
    settings = demo_settings(card, exposure_ms=30.0)
    assert settings.photons == 1000.0
    assert settings.background.photons == 3.0
    assert settings.kinetics.on_time_ms == 150.0
    assert settings.pixel_size_nm == 130.0
    assert settings.camera_facts.pixel_size_nm == 130.0
    assert settings.camera_facts.read_noise_e == 1.7
    assert settings.z_range_nm == (-240.0, 160.0)
    assert settings.psf == card.psf


def test_what_it_cannot_do() -> None:
    card = _card(psf=SplinePsfSettings(file="a.mat", z_range_nm=(-500.0, 500.0)))
    with pytest.raises(InputError, match="measured PSF"):
        demo_settings(card)
    with pytest.raises(InputError, match="positive"):
        demo_settings(_card(), target_per_um2=0.0)


def test_a_range_of_psfs_is_shown_by_its_middle() -> None:
    card = _card(
        psf=VariedGaussianPsfSettings(sigma0_px=(1.0, 2.25)), z_range_nm=(0.0, 0.0)
    )
    settings = demo_settings(card)
    assert isinstance(settings.psf, GaussianPsfSettings)
    assert settings.psf.sigma0_px == pytest.approx(1.5)
    # Emitters lie in depth, though the network does not tell how deep.
    assert settings.z_range_nm == pytest.approx((-320.0, 320.0))
