"""Whole scenes: conservation of light, density, drift, defocused light, torch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.reach import reach_px
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.optics.varied import VariedGaussianPsf
from blinkloop.schema import CameraSettings, GaussianPsfSettings

PSF = GaussianPsf(GaussianPsfSettings(sigma0_px=1.2))
CAMERA = Camera(CameraSettings(kind="ideal", e_per_adu=1.0))
SETTINGS = SceneSettings(
    n_frames=5, height_px=24, width_px=35, pixel_size_nm=100, z_range_nm=(-400, 400)
)


def scene(movies=40, seed=0, *, density=1.0, photons=800.0, background=6.0, **other):
    settings = dataclasses.replace(SETTINGS, **other.pop("settings", {}))
    one = np.ones(movies)
    return simulate_scene(
        np.random.default_rng(seed),
        other.pop("psf", PSF),
        other.pop("camera", CAMERA),
        settings,
        density_per_um2=density * one,
        photons=photons * one,
        background_photons=background * one,
        on_time_frames=3 * one,
        **other,
    )


def inside(rows, height=24, width=35):
    x, y = rows["x_px"], rows["y_px"]
    return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)


def test_density_is_per_frame_and_area():
    made = scene(200)
    count = inside(made.emitters).sum() / (200 * 5)
    np.testing.assert_allclose(count, 24 * 35 * 0.01, rtol=0.05)
    frames = np.bincount(made.emitters["frame"], minlength=1000).reshape(200, 5)
    # Stationary: no frame of a movie has more than another.
    np.testing.assert_allclose(frames.mean(0) / frames.mean(), 1.0, atol=0.06)


def test_light_is_conserved():
    """What leaves through an edge comes in from the margin."""
    made = scene(200, settings={"margin_px": None})
    light = (made.frames_adu - 100).mean() - 6.0
    expected = made.emitters["photons"][inside(made.emitters)].sum() / (
        200 * 5 * 24 * 35
    )
    np.testing.assert_allclose(light, expected, rtol=0.02)
    blind = scene(200, settings={"margin_px": 0})
    lost = (blind.frames_adu - 100).mean() - 6.0
    within = blind.emitters["photons"].sum() / (200 * 5 * 24 * 35)
    assert lost < 0.93 * within, "without a margin light is lost"


def test_frames_are_emitters_and_background():
    made = scene(6, photons=3000.0, background=10.0)
    rows = made.emitters
    columns = (rows[name] for name in ("x_px", "y_px", "z_nm", "photons", "frame"))
    expected = PSF.render(*columns, 30, 24, 35) + 10.0
    seen = made.frames_adu.reshape(30, 24, 35) - 100
    chi2 = ((seen - expected) ** 2 / expected).mean()
    np.testing.assert_allclose(chi2, 1.0, atol=0.03)


def test_one_frame_no_emitter_no_movie():
    made = scene(3, density=0.0, settings={"n_frames": 1})
    assert made.frames_adu.shape == (3, 1, 24, 35)
    assert len(made.emitters) == 0
    assert made.frame_background is None
    none = scene(0)
    assert none.frames_adu.shape == (0, 5, 24, 35)


def test_saturated_pixels_are_clipped():
    camera = Camera(CameraSettings(kind="scmos", bit_depth=8, e_per_adu=1.0))
    made = scene(4, camera=camera, photons=20_000.0)
    assert made.frames_adu.max() == 255
    assert (made.frames_adu == 255).mean() > 0.01


def test_a_margin_of_none_is_the_reach_of_each_psf():
    psf = VariedGaussianPsf(np.repeat([0.8, 1.9], 5), np.zeros(10), np.full(10, 1e9))
    reach = reach_px(psf, (-400, 400), 2)
    np.testing.assert_array_equal(reach, [3, 7])
    made = scene(2, density=30.0, psf=psf, settings={"margin_px": None})
    movie = made.emitters["frame"] // 5
    for index, margin in enumerate(reach):
        x = made.emitters["x_px"][movie == index]
        np.testing.assert_allclose(
            [x.min(), x.max()], [-0.5 - margin, 34.5 + margin], atol=0.3
        )
    np.testing.assert_array_equal(
        reach_px(PSF, (-500, 500), 1), np.ceil(3.5 * PSF.sigmas_px(np.array(500.0))[0])
    )


def test_background_drifts_from_the_first_frame_to_the_last():
    made = scene(
        50, density=0.0, background=40.0, settings={"background_drift_max": 0.8}
    )
    drift = made.frame_background.mean(axis=(2, 3))
    np.testing.assert_allclose(drift.mean(axis=1), 40.0, rtol=1e-5)
    steps = np.diff(drift, axis=1)
    np.testing.assert_allclose(steps, np.repeat(steps[:, :1], 4, axis=1), rtol=1e-3)
    change = (drift[:, -1] - drift[:, 0]) / 40
    assert np.abs(change).max() <= 0.8
    assert change.min() < -0.5
    assert change.max() > 0.5
    error = (made.frames_adu - 100).mean(axis=(2, 3)) - drift
    assert np.abs(error).max() < 5 * np.sqrt(60 / 840)


def test_defocused_emitters_are_light_but_no_truth():
    plain = scene(60, seed=7)
    made = scene(60, seed=7, settings={"defocused_fraction": 2.0})
    np.testing.assert_array_equal(made.emitters["x_px"], plain.emitters["x_px"])
    added = made.frame_background - made.background[:, None]
    # Twice the light of those in focus: they blink alike, and are as bright.
    light = plain.emitters["photons"][inside(plain.emitters)].sum() / (60 * 5 * 840)
    np.testing.assert_allclose(added.mean(), 2 * light, rtol=0.12)
    more = (made.frames_adu.mean() - plain.frames_adu.mean()) / added.mean()
    np.testing.assert_allclose(more, 1.0, rtol=0.02)
    # Wide: neighbouring pixels hardly differ.
    assert np.abs(np.diff(added, axis=3)).mean() < 0.2 * added.std()


def test_truth_holds_the_background_of_its_place():
    made = scene(
        8, settings={"background_structure": 0.3, "background_structure_max": 0.5}
    )
    rows = made.emitters[inside(made.emitters)]
    x, y = np.rint(rows["x_px"]).astype(int), np.rint(rows["y_px"]).astype(int)
    expected = made.background[rows["frame"] // 5, y, x]
    np.testing.assert_array_equal(rows["background_photons"], expected)
    assert np.ptp(expected) > 2


def test_torch_forms_the_same_images():
    torch = pytest.importorskip("torch")
    bright = {"photons": 1e5, "background": 1000.0, "movies": 3}
    settings = {"defocused_fraction": 1.0, "background_drift_max": 0.2}
    ours = scene(**bright, settings=settings)
    images = torch.Generator().manual_seed(1)
    theirs = scene(**bright, settings=settings, images=images)
    np.testing.assert_array_equal(theirs.emitters, ours.emitters)
    np.testing.assert_allclose(
        theirs.frame_background, ours.frame_background, rtol=1e-4
    )
    # Two draws of the same Poisson means.
    a, b = theirs.frames_adu.numpy() - 100.0, ours.frames_adu - 100.0
    kept = (a < 60_000) & (b < 60_000)
    chi2 = ((a - b) ** 2 / (a + b))[kept].mean()
    np.testing.assert_allclose(chi2, 1.0, atol=0.03)
    again = scene(**bright, settings=settings, images=images.manual_seed(1))
    np.testing.assert_array_equal(again.frames_adu.numpy(), theirs.frames_adu.numpy())
