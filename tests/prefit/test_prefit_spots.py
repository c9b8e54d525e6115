"""Spots that are no lone emitters: beads that never blink, lobes, what spots hide."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training.prefit import measure
from blinkloop.training.prefit.candidates import Candidates
from blinkloop.training.prefit.pairs import count_pairs
from blinkloop.training.prefit.records import Run
from blinkloop.training.prefit.standing import standing_spots

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    from prefit import CAMERAS, START, movie
finally:
    sys.path.pop(0)

CAMERA = CAMERAS["scmos"]


def with_beads(adu, x, y, photons, rng):
    """The movie with spots that shine in all frames."""
    psf = GaussianPsf(GaussianPsfSettings(sigma0_px=1.0, astigmatism_nm=0.0))
    one = np.zeros(len(x), int)
    z, light = np.zeros(len(x)), np.full(len(x), photons)
    image = psf.render(x, y, z, light, one, 1, *adu.shape[1:])[0]
    more = rng.poisson(image, adu.shape) / CAMERA.e_per_adu
    return (adu + np.rint(more)).astype(np.uint16)


def test_beads_do_not_count_as_emitters():
    rng = np.random.default_rng(5)
    adu, _ = movie(START, 200, rng, size=(64, 90))
    x, y = np.array([20.3, 61.0, 75.4]), np.array([40.0, 17.2, 50.1])
    beads = measure([with_beads(adu, x, y, 2e4, rng)], Camera(CAMERA))
    none = measure([adu], Camera(CAMERA))
    np.testing.assert_allclose(beads.on_time.value, none.on_time.value, rtol=0.15)
    density = none.density_per_um2.value
    np.testing.assert_allclose(beads.density_per_um2.value, density, rtol=0.1)
    np.testing.assert_allclose(beads.photons.value, none.photons.value, rtol=0.05)
    width = none.width.sigma0_px
    np.testing.assert_allclose(beads.width.sigma0_px, width, rtol=0.02)
    assert none.warnings == ()
    (said,) = beads.warnings
    assert said.startswith("3 spots shine in nearly all frames")


def test_full_pixels_of_a_bead_do_not_refuse_the_movie():
    rng = np.random.default_rng(5)
    adu, _ = movie(START, 60, rng, size=(64, 90))
    adu[:, 20:24, 30:33] = 65535
    found = measure([adu], Camera(CAMERA))
    np.testing.assert_allclose(found.photons.value, START.flux, rtol=0.1)
    adu[::2, 40:44, 30:33] = 65535
    with pytest.raises(InputError, match="saturated"):
        measure([adu], Camera(CAMERA))


def spots(frame, column, row, shape=(80, 110)):
    """A run without pixels of these candidates."""
    order = np.argsort(frame, kind="stable")
    one = np.ones(len(frame))
    parts = (np.asarray(a)[order].astype(int) for a in (frame, column, row))
    candidates = Candidates(*parts, 20 * one, 100 * one)
    flags = np.zeros(len(frame), bool)
    return Run(int(max(frame)) + 1, *shape, candidates, None, flags, 0)


def test_emitters_that_stay_long_are_no_beads():
    """Where many are on for half of the run, some are on for all of it."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(60):
        start, length = rng.integers(-60, 60), int(rng.exponential(60)) + 1
        at = np.arange(max(start, 0), min(start + length, 60))
        x, y = rng.integers(0, 110), rng.integers(0, 80)
        found += [(t, x, y) for t in at]
    run = spots(*np.array(found).T)
    lasting = np.bincount(run.candidates.column * 1000 + run.candidates.row)
    assert lasting.max() >= 55
    flags, number = standing_spots(run.candidates, 60, (80, 110), 3)
    assert number == 0
    assert not flags.any()


def places(rng, frames, per_frame):
    count = rng.poisson(per_frame, frames)
    frame = np.repeat(np.arange(frames), count)
    n = len(frame)
    return frame, rng.uniform(0, 110, n), rng.uniform(0, 80, n)


@pytest.mark.parametrize("radius", [5.0, 8.0])
def test_hidden_area_is_counted(radius):
    """Of two spots within a radius one is missing; the rest tells the area."""
    rng = np.random.default_rng(4)
    frame, x, y = places(rng, 300, 25)
    kept = np.ones(len(frame), bool)
    for i in range(1, len(frame)):
        earlier = np.flatnonzero(kept[:i] & (frame[:i] == frame[i]))
        away = np.hypot(x[earlier] - x[i], y[earlier] - y[i])
        kept[i] = not (away < radius).any()
    pairs = count_pairs([spots(frame[kept], x[kept], y[kept])], 4, 100.0, 20.0)
    np.testing.assert_allclose(pairs.hidden_px2, np.pi * radius**2, rtol=0.15)
    assert pairs.together < 0.1


@pytest.mark.parametrize("clustered", [False, True])
def test_lobes_come_together_and_structures_do_not(clustered):
    rng = np.random.default_rng(4)
    frame, x, y = places(rng, 200, 8)
    if clustered:
        # On three filaments: close to each other, at different times.
        y = 20.0 * rng.integers(1, 4, len(y)) + rng.normal(0, 1, len(y))
    alone = count_pairs([spots(frame, x, y)], 3, 100.0, 20.0)
    both = np.tile(frame, 2), np.concatenate([x, x + 9]), np.concatenate([y, y + 5])
    lobes = count_pairs([spots(*both)], 3, 100.0, 20.0)
    np.testing.assert_allclose(alone.together, 0.0, atol=0.15)
    np.testing.assert_allclose(lobes.together, 1.0, atol=0.2)


def test_density_hangs_on_the_pairs_of_the_movie(monkeypatch):
    """PSFs of wide rings hide less around them than the finder thinks."""
    case = dataclasses.replace(START, density=0.3)
    adu, _ = movie(case, 200, np.random.default_rng(3), size=(64, 90))
    usual = measure([adu], Camera(CAMERA)).density_per_um2.value
    module = importlib.import_module("blinkloop.training.prefit.candidates")
    monkeypatch.setattr(module, "_MERGED", 4.0)
    wrong = measure([adu], Camera(CAMERA)).density_per_um2.value
    np.testing.assert_allclose(wrong, usual, rtol=0.02)


def test_too_few_pairs_tell_nothing():
    frame, x, y = places(np.random.default_rng(1), 60, 1)
    assert count_pairs([spots(frame, x, y)], 4, 100.0, 10.0) is None
    frame, x, y = places(np.random.default_rng(1), 12, 50)
    assert count_pairs([spots(frame, x, y)], 4, 100.0, 10.0) is None


def test_interval_of_the_density_is_honest_in_a_short_movie():
    """One block of frames has no spread: a hundred emitters have one of 10 %."""
    adu, _ = movie(START, 16, np.random.default_rng(6), size=(96, 128))
    found = measure([adu], Camera(CAMERA)).density_per_um2
    assert 0.3 < (found.high - found.low) / found.value < 1.5
