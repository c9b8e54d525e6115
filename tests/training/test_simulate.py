"""Simulated samples: varied microscopes, visible movies, old checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from blinkloop.errors import InputError
from blinkloop.schema import VariedGaussianPsfSettings
from blinkloop.training.microscopes import draw_camera, draw_psf, footprint_px, psf_of
from blinkloop.training.recipe import Recipe
from blinkloop.training.recipes import load_recipe
from blinkloop.training.simulate import Conditions, Simulator, simulate_movies
from blinkloop.training.trainer import Trainer
from blinkloop.training.validate import Validation


def varied(**sample: object) -> Recipe:
    """The bundled range of microscopes with a tiny network."""
    data = load_recipe("universal-2d").model_dump(mode="json")
    data["architecture"] = {"features": 4, "depth": 1, "stem_stride": 2}
    data["schedule"] |= {"iterations": 4, "batch": 6, "patch_px": 20}
    data["schedule"] |= {"warmup_iterations": 1, "precision": "fp32"}
    data["sample"] |= sample
    return Recipe.model_validate(data)


def gaussians_only() -> VariedGaussianPsfSettings:
    """That range without objectives, which tests/training/test_objectives.py covers."""
    settings = varied().psf
    assert isinstance(settings, VariedGaussianPsfSettings)
    return settings.model_copy(update={"objectives": None})


def test_each_movie_has_a_psf_of_its_own_in_all_its_frames() -> None:
    psf = draw_psf(gaussians_only(), np.random.default_rng(1), 400, 3)
    sigma = psf.sigma0_px.reshape(400, 3)
    np.testing.assert_array_equal(sigma[:, :1] == sigma, True)
    assert len(np.unique(sigma)) == 400
    assert sigma.min() >= 0.75
    assert sigma.max() <= 2.2
    # Log-uniform: the median is the geometric mean of the limits.
    np.testing.assert_allclose(np.median(sigma), np.sqrt(0.75 * 2.2), rtol=0.1)
    shift = psf.astigmatism_nm.reshape(400, 3)[:, 0]
    np.testing.assert_allclose(np.mean(shift == 0), 0.5, atol=0.1)
    np.testing.assert_allclose(np.mean(shift > 0), 0.25, atol=0.09)
    assert 300 < np.abs(shift).max() <= 400


def test_cameras_are_drawn_in_the_shares_asked_for() -> None:
    camera = draw_camera(varied(), np.random.default_rng(2), 1000, 2)
    multiplied = camera.multiplied.reshape(1000, 2)[:, 0]
    read = camera.read_noise_e.reshape(1000, 2)[:, 0]
    spurious = camera.spurious_e.reshape(1000, 2)[:, 0]
    np.testing.assert_allclose(multiplied.mean(), 0.35, atol=0.05)
    np.testing.assert_allclose((read == 0).mean(), 0.1, atol=0.03)
    assert read[multiplied].max() <= 0.5 < 2.5 < read.max() <= 3.0
    np.testing.assert_array_equal(spurious[~multiplied], 0.0)
    assert spurious[multiplied].max() > 0.04


def test_frames_are_photons_whatever_the_camera() -> None:
    recipe = varied(density_per_um2=[1e-6, 1e-6], background_structure_max=0.0)
    movies = 60
    level = np.full(movies, 30.0)
    one = np.ones(movies)
    batch = simulate_movies(
        recipe,
        np.random.default_rng(3),
        Conditions(0 * one, 1000 * one, level, one),
        n_frames=4,
    )
    assert len(batch.emitters) == 0
    # Baseline, gain, spurious charge and rounding are all taken back.
    error = (batch.frames - batch.background[:, None]).mean(axis=(1, 2, 3))
    sd = np.sqrt((2 * 30 + 9) / (4 * 20 * 20))
    assert np.abs(error).max() < 4.5 * sd
    np.testing.assert_allclose(error.mean(), 0, atol=4 * sd / np.sqrt(movies))


def test_a_network_without_z_is_shown_no_z() -> None:
    batch = Simulator(varied(density_per_um2=[2.0, 2.5])).batch(0)
    assert len(batch.emitters) > 100
    np.testing.assert_array_equal(batch.emitters["z_nm"], 0.0)


def test_hopeless_movies_are_drawn_again() -> None:
    recipe = varied(signal_to_noise_min=5.0, photons_relative_sd=0.0)
    movies = 300
    one = np.ones(movies)
    batch = simulate_movies(
        recipe,
        np.random.default_rng(4),
        Conditions(3 * one, 150 * one, 200 * one, 20 * one),
        n_frames=3,
    )
    movie = batch.emitters["frame"] // 3
    brightest = np.zeros(movies)
    np.maximum.at(brightest, movie, batch.emitters["photons"])
    # At best, N / sqrt(N + A b) with the footprint of the sharpest PSF.
    area = 4 * np.pi * 0.75**2
    ratio = brightest / np.sqrt(brightest + area * 200)
    assert ratio.min() > 4.9
    assert brightest.max() > 5000, "drawn up to the upper end"
    bright = simulate_movies(
        recipe,
        np.random.default_rng(4),
        Conditions(3 * one, 20000 * one, 0.5 * one, 20 * one),
        n_frames=3,
    )
    np.testing.assert_allclose(bright.emitters["photons"].max(), 20000, rtol=1e-5)


def test_footprint_of_a_rendered_psf() -> None:
    recipe = Recipe.model_validate(
        {"psf": {"kind": "gaussian", "sigma0_px": 2.0, "astigmatism_nm": 0.0}}
    )
    psf = psf_of(recipe.psf, np.random.default_rng(0), 2, 3, Path())
    np.testing.assert_allclose(footprint_px(psf, 2), 16 * np.pi, rtol=0.03)
    drawn = draw_psf(gaussians_only(), np.random.default_rng(0), 2, 3)
    expected = 4 * np.pi * drawn.sigma0_px[[0, 3]] ** 2
    np.testing.assert_allclose(footprint_px(drawn, 2), expected)


def test_varied_recipe_trains_and_validates(tmp_path: Path) -> None:
    recipe = varied()
    seen = []
    trainer = Trainer(recipe, tmp_path, validate=Validation(recipe))
    trainer.train(seen.append)
    assert seen[-1].validation is not None
    assert np.isfinite(seen[-1].loss)


def test_checkpoint_from_before_a_field_still_resumes(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "architecture": {"features": 4, "depth": 1, "stem_stride": 2},
            "sample": {"photons_floor": 50.0},
            "schedule": {"batch": 2, "patch_px": 16},
        }
    )
    Trainer(recipe, tmp_path).save()
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    saved = json.loads(state["recipe"])
    del saved["camera_variation"], saved["sample"]["background_structure_max"]
    torch.save(state | {"recipe": json.dumps(saved)}, path)
    assert Trainer(recipe, tmp_path).iteration == 0
    saved["sample"]["photons_floor"] = 51.0
    torch.save(state | {"recipe": json.dumps(saved)}, path)
    with pytest.raises(InputError, match="another recipe"):
        Trainer(recipe, tmp_path)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"psf": {"kind": "gaussian-range", "z_range_nm": [-1, 1]}}, "always"),
        ({"psf": {"kind": "gaussian-range", "sigma0_px": [2, 1]}}, "low, high"),
        ({"camera_variation": {"ideal_fraction": 0.8}}, "must not exceed 1"),
        ({"camera_variation": {"e_per_adu": [0, 1]}}, "above 0"),
        ({"sample": {"background_structure_max": 0.9}}, "below 1"),
    ],
    ids=["z", "order", "shares", "e-per-adu", "negative-background"],
)
def test_impossible_ranges_are_one_line(tmp_path: Path, part, says) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(part), encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)
