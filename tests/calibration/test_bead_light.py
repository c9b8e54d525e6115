"""A movie is no bead stack: blinking, or beads whose focus was not moved."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, golden_spline, stack_of

from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_light import flicker, shape_change
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads

SHAPE = (52, 75)


def calibrated(pixels, **facts):
    return calibrate_beads([BeadStack(pixels)], BeadSettings(50.0, 100.0, **facts))


def movie(on_frames, frames=120, emitters=60, off_frames=1e9, seed=3):
    """(T, H, W) molecules at random depths, on for exponential times."""
    rng = np.random.default_rng(seed)
    psf, light = astigmatic(), np.full((frames, *SHAPE), 20.0)
    for _ in range(emitters):
        x, y = rng.uniform(0, SHAPE[1]), rng.uniform(0, SHAPE[0])
        share = np.zeros(frames)
        start = rng.uniform(-on_frames, frames)
        while start < frames:
            stop = start + rng.exponential(on_frames)
            first = np.arange(frames)
            share += np.clip(
                np.minimum(stop, first + 1) - np.maximum(start, first), 0, 1
            )
            start = stop + rng.exponential(off_frames)
        k = np.flatnonzero(share)
        one = np.ones(len(k))
        z = rng.uniform(-400, 400)
        light += psf.render(
            x * one, y * one, z * one, 3000 * share[k], k, frames, *SHAPE
        )
    return (rng.poisson(light) + 100).astype(np.uint16)


@pytest.mark.parametrize(
    "facts",
    [
        {"on_frames": 3.0},
        {"on_frames": 25.0, "emitters": 15},
        {"on_frames": 5.0, "emitters": 12, "off_frames": 6.0},
        {"on_frames": 3.0, "frames": 24, "emitters": 20},
    ],
    ids=["blinks", "long on", "again and again", "few frames"],
)
def test_a_movie_of_molecules_is_refused(facts):
    with pytest.raises(InputError, match="on and off from slice to slice"):
        calibrated(movie(**facts))


@pytest.mark.parametrize("restless", [0.0, 0.02])
def test_a_movie_of_beads_in_focus_is_refused(restless):
    rng = np.random.default_rng(1)
    one = stack_of(
        astigmatic(), [(20.2, 25.7), (52.6, 24.1)], rng, shape=SHAPE, noise=False
    )[16]
    moved = [one + rng.normal(0, restless * one.mean()) for _ in range(60)]
    pixels = rng.poisson(np.maximum(moved, 0)).astype(np.uint16)
    with pytest.raises(InputError, match="look alike in all 60 slices"):
        calibrated(pixels)


@pytest.mark.parametrize(
    ("psf", "facts"),
    [
        (astigmatic(), {}),
        (astigmatic(), {"photons": 1500.0}),
        (astigmatic(), {"slices": 6}),
        (astigmatic(), {"slices": 7, "dz_nm": 10.0}),
        (golden_spline(), {"slices": 21, "photons": 5000.0}),
        (Lobes("helix"), {}),
        (Lobes("tetrapod"), {}),
    ],
    ids=["astigmatic", "dim", "few", "thin", "golden", "helix", "tetrapod"],
)
def test_light_of_beads_is_steady(psf, facts):
    rng = np.random.default_rng(5)
    none = {"background": 20, "offset_adu": 0, "shape": SHAPE, **facts}
    made = stack_of(psf, [(36.3, 25.2)], rng, **none) - 20.0
    scatter, noise = flicker(made[:, 8:43, 18:54])
    assert scatter < max(0.15, 2 * noise)


def test_two_lost_slices_of_forty_are_no_blinking():
    light = stack_of(
        astigmatic(),
        [(18.3, 17.2)],
        np.random.default_rng(6),
        slices=40,
        shape=(35, 37),
        background=0,
        offset_adu=0,
    ).astype(float)
    light[[9, 23]] = 0
    assert flicker(light)[0] < 0.1


@pytest.mark.parametrize(("slices", "dz_nm"), [(5, 300.0), (6, 50.0), (7, 50.0)])
def test_few_slices_are_enough(slices, dz_nm):
    """6 slices 50 nm apart have fewer than the coefficients of the least spline."""
    rng = np.random.default_rng(slices)
    made = stack_of(
        astigmatic(),
        [(20.3, 25.7), (52.6, 24.1)],
        rng,
        shape=SHAPE,
        slices=slices,
        dz_nm=dz_nm,
    )
    found = calibrate_beads([BeadStack(made)], BeadSettings(dz_nm, 100.0))
    assert len(found.used) == 2


def test_dim_molecules_are_no_bead_with_many_dark_slices():
    rng = np.random.default_rng(3)
    one = stack_of(
        astigmatic(),
        [(35.2, 24.1)],
        rng,
        shape=SHAPE,
        slices=80,
        dz_nm=10.0,
        photons=900.0,
        noise=False,
        offset_adu=0,
    )
    on = np.where(np.arange(80) % 8 == 5, 0.0, 1.0)[:, None, None]
    pixels = rng.poisson(20 + on * (one - 20.0)).astype(np.uint16)
    with pytest.raises(InputError, match="on and off from slice to slice"):
        calibrate_beads([BeadStack(pixels)], BeadSettings(10.0, 100.0))


def test_a_lost_slice_a_bleaching_bead_and_a_restless_lamp_are_no_blinking():
    rng = np.random.default_rng(8)
    made = stack_of(astigmatic(), [(20.3, 25.7), (52.6, 24.1)], rng, shape=SHAPE)
    pixels = 100 + (made - 100.0) * np.linspace(1.6, 0.6, len(made))[:, None, None]
    pixels = 100 + (pixels - 100) * rng.normal(1, 0.08, len(made))[:, None, None]
    pixels[11] = 120
    found = calibrated(pixels.astype(np.uint16))
    np.testing.assert_allclose(found.calibration.quality["refit_z_slope"], 1, atol=0.03)
    assert any("slice 11 of stack is dark" in line for line in found.warnings)


def test_one_bead_that_comes_loose_is_left_out():
    rng = np.random.default_rng(2)
    at = [(19.8, 25.7), (55.1, 25.4)]
    whole = stack_of(astigmatic(), at, rng, shape=SHAPE)
    without = stack_of(astigmatic(), at[1:], rng, shape=SHAPE)
    whole[17:] = without[17:]
    found = calibrated(whole)
    assert len(found.used) == len(at) - 1
    assert [drop.reason[:21] for drop in found.dropped] == ["its light goes on and"]


def test_shape_is_compared_without_its_noise():
    rng = np.random.default_rng(4)
    still = rng.poisson(np.full((60, 21, 23), 20.0)).astype(float) - 20
    still[:, 8:13, 9:14] += rng.poisson(60.0, (60, 5, 5))
    np.testing.assert_allclose(shape_change(still), 0, atol=4e-3)
    moving = np.stack([np.roll(one, k // 20, 1) for k, one in enumerate(still)])
    assert shape_change(moving) > 0.1
