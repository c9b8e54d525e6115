"""Recipes that name files: measured PSFs and camera maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_psf import golden_calibration

from blinkloop.errors import InputError
from blinkloop.psf_file import load_psf, write_psf
from blinkloop.training.recipe import Recipe
from blinkloop.training.simulate import Conditions, Simulator, simulate_movies
from blinkloop.training.trainer import Trainer
from blinkloop.training.validate import Validation


def tiny(**parts: object) -> Recipe:
    schedule = {"batch": 4, "patch_px": 16, "iterations": 40, "precision": "fp32"}
    schedule |= {"warmup_iterations": 2, "validate_every": 40, "learning_rate": 3e-3}
    return Recipe.model_validate(
        {
            "architecture": {"features": 4, "depth": 1, "stem_stride": 2},
            "sample": {"density_per_um2": [1.0, 2.0]},
            "schedule": schedule,
            **parts,
        }
    )


@pytest.fixture
def spline(tmp_path: Path) -> Recipe:
    """A recipe with the golden spline in a file beside it."""
    pytest.importorskip("h5py")
    calibration = golden_calibration()
    (tmp_path / "psf").mkdir()
    write_psf(tmp_path / "psf" / "beads.h5", calibration)
    settings = calibration.settings(tmp_path / "psf" / "beads.h5")
    psf = settings.model_copy(update={"file": "psf/beads.h5"})
    return tiny(psf=psf.model_dump())


def test_training_on_a_measured_psf_lowers_the_loss(
    spline: Recipe, tmp_path: Path
) -> None:
    run, seen = tmp_path / "run", []
    validate = Validation(spline, folder=tmp_path)
    Trainer(spline, run, base=tmp_path, validate=validate).train(seen.append)
    first, last = (np.mean([p.loss for p in part]) for part in (seen[:5], seen[-5:]))
    assert last < 0.7 * first
    assert np.isfinite(seen[-1].validation["density_bias"])
    # The run holds the PSF: it can be simulated without the folder of the recipe.
    alone = Simulator(Recipe.load(run / "recipe.yaml"), run).batch(3)
    np.testing.assert_array_equal(
        alone.frames, Simulator(spline, tmp_path).batch(3).frames
    )


def test_images_are_those_of_the_spline(spline: Recipe, tmp_path: Path) -> None:
    one = np.ones(20)
    batch = simulate_movies(
        spline,
        np.random.default_rng(1),
        Conditions(one, 5000 * one, 5 * one, 3 * one),
        n_frames=3,
        folder=tmp_path,
    )
    z = batch.emitters["z_nm"]
    np.testing.assert_allclose([z.min(), z.max()], [-400, 400], atol=10)
    rows, psf = batch.emitters, load_psf(spline.psf, folder=tmp_path)
    columns = (rows[name] for name in ("x_px", "y_px", "z_nm", "photons", "frame"))
    expected = psf.render(*columns, 60, 16, 16).reshape(20, 3, 16, 16)
    expected += batch.background[:, None]
    variance = np.maximum(expected, 0) + 1.5**2 + 0.5**2 / 12
    chi2 = ((batch.frames - expected) ** 2 / variance).mean()
    np.testing.assert_allclose(chi2, 1.0, atol=0.05)
    assert expected.max() > 500


def test_a_missing_psf_is_one_line(spline: Recipe, tmp_path: Path) -> None:
    (tmp_path / "psf" / "beads.h5").unlink()
    with pytest.raises(InputError) as caught:
        Simulator(spline, tmp_path).batch(0)
    assert "beads.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_calibration_of_other_pixels_is_refused(spline: Recipe) -> None:
    data = spline.model_dump()
    data["camera"]["pixel_size_nm"] = 130.0
    with pytest.raises(ValueError, match="pixels of 100 nm"):
        Recipe.model_validate(data)


def test_the_virtual_microscope_forms_images_with_it(
    spline: Recipe, tmp_path: Path
) -> None:
    from blinkloop.integrations.virtual.settings import VirtualSettings
    from blinkloop.integrations.virtual.simulator import Simulator as Virtual

    psf = spline.psf.model_copy(update={"file": str(tmp_path / "psf" / "beads.h5")})
    sample = {"width_px": 35, "height_px": 24, "n_emitters": 400, "photons": 20_000.0}
    virtual = Virtual(VirtualSettings(psf=psf.model_dump(), **sample))
    frame = np.zeros((24, 35), np.uint16)
    _, facts = virtual.frame(frame, 50.0, 0)
    assert facts["detectable"][0] > 0
    assert frame.max() > np.median(frame) + 300
    for wrong in ({"pixel_size_nm": 130.0}, {"psf": {"kind": "gaussian-range"}}):
        with pytest.raises(ValueError, match="PSF"):
            VirtualSettings(**{"psf": psf.model_dump(), **sample, **wrong})


def write_maps(path: Path) -> None:
    """A chip with two hot columns."""
    shape = (30, 41)
    noise = np.full(shape, 1.0)
    noise[:, ::10] = 20.0
    rng = np.random.default_rng(0)
    np.savez(
        path,
        offset_adu=rng.normal(100, 5, shape),
        e_per_adu=rng.uniform(0.3, 0.7, shape),
        read_noise_e=noise,
    )


def test_maps_of_a_chip_are_taken_back(tmp_path: Path) -> None:
    write_maps(tmp_path / "chip.npz")
    recipe = tiny(camera_maps="chip.npz")
    one = np.ones(6)
    batch = simulate_movies(
        recipe,
        np.random.default_rng(2),
        Conditions(0 * one, 1000 * one, 20 * one, one),
        n_frames=400,
        folder=tmp_path,
    )
    error = batch.frames - batch.background[:, None]
    # Offsets of +-5 ADU and gains of +-40 % are gone from every pixel ...
    mean, sd = error.mean(axis=1), error.std(axis=1)
    assert np.abs(mean / (sd / 20)).max() < 5.5
    # ... the noise of the hot columns is not, and stands at a place of its own.
    hot = (sd > 15).any(axis=1)
    assert set(hot.sum(axis=1)) <= {1, 2}
    assert len({tuple(row) for row in hot}) > 2


def test_maps_are_copied_into_the_run(tmp_path: Path) -> None:
    write_maps(tmp_path / "chip.npz")
    Trainer(tiny(camera_maps="chip.npz"), tmp_path / "run", base=tmp_path).save()
    assert (tmp_path / "run" / "chip.npz").is_file()


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"camera_variation": {}}, "not both"),
        ({"camera": {"kind": "ideal"}}, "camera.kind scmos"),
    ],
    ids=["variation", "ideal"],
)
def test_maps_are_for_one_scmos(parts: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tiny(camera_maps="chip.npz", **parts)


def test_torch_simulates_batches_too(spline: Recipe, tmp_path: Path) -> None:
    simulator = Simulator(spline, tmp_path, device="cpu")
    batch, again = simulator.batch(5), simulator.batch(5)
    assert isinstance(batch.frames, torch.Tensor)
    np.testing.assert_array_equal(batch.frames.numpy(), again.frames.numpy())
    assert (batch.frames != simulator.batch(6).frames).any()
    plain = Simulator(spline, tmp_path).batch(5)
    assert set(map(len, (plain.emitters, batch.emitters))) != {0}
