"""Best estimates in place of the truth: same loss on average, less noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from blinkloop.schema import (
    CameraSettings,
    GaussianPsfSettings,
    VariedGaussianPsfSettings,
)
from blinkloop.training.loss import Targets, localization_loss
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import LossSettings, Recipe, SampleSettings
from blinkloop.training.recipe_schedule import ScheduleSettings
from blinkloop.training.simulate import Simulator
from blinkloop.training.targets import to_targets
from blinkloop.training.validate import Validation


def recipe(**changes: object) -> Recipe:
    """Bright, sparse movies of 32 x 32 px."""
    values: dict[str, object] = {
        "psf": GaussianPsfSettings(
            sigma0_px=1.1,
            astigmatism_nm=250.0,
            depth_nm=280.0,
            z_range_nm=(-400.0, 400.0),
        ),
        "camera": CameraSettings(kind="scmos", read_noise_e=1.5, e_per_adu=0.5),
        "sample": SampleSettings(
            photons=(2000.0, 8000.0), density_per_um2=(0.2, 1.0), margin_px=8
        ),
        "schedule": ScheduleSettings(batch=12, patch_px=32),
        "loss": LossSettings(rao_blackwell=True),
    }
    return Recipe.model_validate(values | changes)


def errors(batch: object, one: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Estimate minus truth of the targets, in network units, and the variance."""
    truth = to_targets(batch, one)  # type: ignore[arg-type]
    best = to_targets(batch, one, estimated=True)  # type: ignore[arg-type]
    assert truth.variance is None
    assert best.variance is not None
    return (best.position - truth.position).numpy(), best.variance.numpy()


@pytest.mark.parametrize("device", [None, "cpu"])
def test_estimates_are_spread_about_the_truth_as_they_claim(
    device: str | None,
) -> None:
    one = recipe()
    off, variance = errors(Simulator(one, device=device).batch(0), one)
    known = variance[:, 1] > 0
    assert known.mean() > 0.8
    z = off[known] / np.sqrt(variance[known])
    np.testing.assert_allclose((z**2).mean(0), 1.0, atol=6 * (2 / known.sum()) ** 0.5)
    assert not off[~known].any()


def test_psf_and_cameras_that_vary_have_estimates_too() -> None:
    one = recipe(
        psf=VariedGaussianPsfSettings(
            sigma0_px=(0.9, 1.8), z_range_nm=(0.0, 0.0), emitter_z_range_nm=(-200, 200)
        ),
        camera_variation={"emccd_fraction": 0.4},
    )
    off, variance = errors(Simulator(one).batch(3), one)
    known = variance[:, 1] > 0
    assert known.mean() > 0.6
    z = (off[known] / np.sqrt(variance[known].clip(1e-30)))[:, :3]
    np.testing.assert_allclose((z**2).mean(0), 1.0, atol=6 * (2 / known.sum()) ** 0.5)
    assert not off[:, 3].any()


def test_without_asking_nothing_is_kept() -> None:
    one = recipe(loss=LossSettings())
    batch = Simulator(one).batch(0)
    assert batch.estimates is None
    assert to_targets(batch, one, estimated=True).variance is None


def test_the_frames_are_those_of_the_truth() -> None:
    with_, without = recipe(), recipe(loss=LossSettings())
    np.testing.assert_array_equal(
        Simulator(with_).batch(5).frames, Simulator(without).batch(5).frames
    )


def test_saturated_pixels_say_nothing() -> None:
    dark = recipe(
        camera=CameraSettings(
            kind="scmos", read_noise_e=1.5, e_per_adu=0.5, bit_depth=8, baseline_adu=50
        )
    )
    off, variance = errors(Simulator(dark).batch(0), dark)
    full_off, full = errors(Simulator(recipe()).batch(0), recipe())
    both = (variance[:, 1] > 0) & (full[:, 1] > 0)
    assert (variance[both, 1] >= 0.999 * full[both, 1]).all()
    assert (variance[both, 1] > 1.2 * full[both, 1]).any()
    assert np.isfinite(off).all()
    assert np.isfinite(full_off).all()


def test_the_gradient_is_the_same_on_average_and_less_noisy() -> None:
    """One emitter, one component: the truth is drawn about the estimate."""
    rng = np.random.default_rng(0)
    maps = torch.full((1, 10, 5, 5), 1e-6)
    maps[:, 5:9], maps[:, 9] = 0.05, 0.0
    maps[0, 0, 2, 2] = 0.99
    spread = torch.tensor([0.02, 0.04, 0.05, 0.03])
    best = torch.tensor([[0.03, 2.02, 1.98, 0.01]])

    def gradient(position: torch.Tensor, variance: torch.Tensor | None) -> np.ndarray:
        asked = maps.clone().requires_grad_(True)
        targets = Targets(
            torch.zeros(len(position), dtype=torch.int64),
            position,
            torch.zeros(1, 5, 5),
            None,
            variance,
        )
        location = localization_loss(
            asked, targets, LossSettings(occupancy_weight=0.0)
        ).location
        location.sum().backward()
        assert asked.grad is not None
        return asked.grad[0, 1:9, 2, 2].numpy() / len(position)

    draws = 20_000
    noise = torch.from_numpy(rng.standard_normal((draws, 4)).astype(np.float32))
    sampled = gradient(best + noise * spread, None)
    ours = gradient(best, spread[None] ** 2)
    scale = spread.numpy() / 0.05**2
    tolerance = 5 * np.concatenate([scale, 2 * scale * spread.numpy() / 0.05])
    np.testing.assert_allclose(ours, sampled, atol=float(tolerance.max() / draws**0.5))


def test_movies_that_keep_apart_are_not_crowded() -> None:
    sample = SampleSettings(density_per_um2=(2.0, 2.0), spaced_fraction=0.5)
    one = recipe(sample=sample, loss=LossSettings(crowding_power=1.0))
    batch = Simulator(one).batch(0)
    assert batch.density_per_um2 is not None
    assert set(batch.density_per_um2) == {0.0, 2.0}
    weight = to_targets(batch, one).weight
    assert weight is not None
    np.testing.assert_allclose(np.unique(weight), [1 / 9, 1.0], rtol=1e-6)


def test_validation_is_of_a_sample_not_of_emitters_that_keep_apart() -> None:
    def score(spaced_fraction: float) -> dict[str, float]:
        sample = SampleSettings(
            density_per_um2=(1.0, 1.0), spaced_fraction=spaced_fraction
        )
        one = recipe(sample=sample)
        torch.manual_seed(0)
        network = TwoStageNetwork(one.architecture).eval()
        with torch.no_grad():
            return Validation(one)(network)

    np.testing.assert_equal(score(1.0), score(0.0))
