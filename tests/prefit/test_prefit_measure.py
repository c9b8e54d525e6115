"""Prefit recovers what a movie was simulated with, and refuses what tells nothing."""

from __future__ import annotations

import importlib
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training import Recipe
from blinkloop.training.prefit import choose_runs, make_recipe, measure
from blinkloop.training.recipes import load_recipe

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
try:
    from prefit import CAMERAS, START, Row, movie
finally:
    sys.path.pop(0)

SCMOS = Camera(CAMERAS["scmos"])


def row(**values) -> Row:
    return Row(**{**{f: getattr(START, f) for f in Row.__dataclass_fields__}, **values})


CASES = [
    row(name="2D-ideal-dim", camera="ideal", flux=700.0, background=3.0),
    row(name="2D-emccd", camera="emccd", flux=1500.0, on_time=1.5),
    row(name="2D-long-bright", flux=1e4, on_time=8.0, background=200.0),
    row(name="astigmatic", psf="astigmatic"),
    row(name="spline", psf="spline", known_psf=True),
]


@pytest.fixture(scope="module", params=CASES, ids=[case.name for case in CASES])
def measured(request):
    case = request.param
    frames = 400 if case.on_time > 4 else 250
    adu, psf = movie(case, frames, np.random.default_rng(17), size=(60, 85))
    camera = Camera(CAMERAS[case.camera])
    return case, measure([adu], camera, psf=psf if case.known_psf else None)


def test_facts_are_those_of_the_simulation(measured):
    case, found = measured
    np.testing.assert_allclose(found.photons.value, case.flux, rtol=0.15)
    np.testing.assert_allclose(found.background.value, case.background, rtol=0.1)
    np.testing.assert_allclose(found.on_time.value, case.on_time, rtol=0.25)
    np.testing.assert_allclose(found.density_per_um2.value, case.density, rtol=0.25)
    assert 0.1 < found.photons_relative_sd < 0.3
    np.testing.assert_allclose(found.noise_ratio, 1.0, atol=0.15)
    assert found.warnings == ()


def test_width_is_that_of_the_psf(measured):
    case, found = measured
    if case.known_psf:
        assert found.width is None
    elif case.psf == "astigmatic":
        np.testing.assert_allclose(found.width.sigma0_px, 1.1, rtol=0.05)
        np.testing.assert_allclose(found.width.astigmatism, 250 / 280, rtol=0.1)
    else:
        np.testing.assert_allclose(found.width.sigma0_px, 1.3, rtol=0.02)
        assert found.width.astigmatism == 0


def test_recipe_holds_the_truth_within_its_ranges(measured, tmp_path):
    case, found = measured
    camera = CAMERAS[case.camera]
    base = load_recipe("astigmatic-small")
    recipe = make_recipe(base, found, camera, name="mine", description="")
    recipe.save(tmp_path / "r.yaml")
    again = Recipe.load(tmp_path / "r.yaml")
    assert again == recipe
    sample = again.sample
    assert sample.photons[0] < case.flux < sample.photons[1]
    low, high = sample.background_photons
    assert low < case.background < high
    assert sample.on_time_frames[0] < case.on_time < sample.on_time_frames[1]
    assert sample.density_per_um2[0] <= case.density < sample.density_per_um2[1]
    assert again.camera == camera
    kept = again.schedule.model_dump() | {"precision": base.schedule.precision}
    assert kept == base.schedule.model_dump()
    assert again.schedule.precision == "auto"  # the machine's, not the base's
    assert (again.psf.astigmatism_nm > 0) == (case.psf != "2d")
    if case.psf == "2d":
        assert again.psf.z_range_nm == (0, 0)
    assert again.scaling().photons_max > case.flux


def test_background_range_is_the_quantiles_widened(measured):
    _, found = measured
    low, high = found.background_range
    assert 0 <= low < found.background.low < found.background.high < high


def test_on_time_where_a_wide_psf_merges_neighbours():
    """A PSF calibrated over twice the depth of the sample: spots merge up to 1 um."""
    dense = row(name="wide", psf="wide", density=0.2)
    adu, wide = movie(dense, 300, np.random.default_rng(1))
    found = measure([adu], SCMOS, psf=wide)
    np.testing.assert_allclose(found.on_time.value, dense.on_time, rtol=0.1)


@pytest.mark.parametrize("sigma_px", [1.3, 2.6])
def test_a_psf_of_another_microscope_is_noticed(sigma_px):
    adu, true = movie(row(name="x", flux=5000.0), 150, np.random.default_rng(2))
    shape = GaussianPsfSettings(sigma0_px=sigma_px, astigmatism_nm=0)
    found = measure([adu], SCMOS, psf=GaussianPsf(shape))
    said = [line for line in found.warnings if "look like the PSF given" in line]
    assert len(said) == (sigma_px > 2)
    assert measure([adu], SCMOS, psf=true).warnings == ()


def test_wrong_camera_facts_are_noticed():
    adu, _ = movie(row(name="x"), 120, np.random.default_rng(1), size=(64, 90))
    twice = CAMERAS["scmos"].model_copy(update={"e_per_adu": 2.0})
    found = measure([adu], Camera(twice))
    assert found.noise_ratio > 1.5
    assert any("--e-per-adu" in line for line in found.warnings)


def noise(level, frames=60, size=(50, 70), camera=SCMOS, seed=0):
    light = np.full((frames, *size), float(level), np.float32)
    return camera.forward(light, np.random.default_rng(seed)).astype(np.uint16)


def dense(camera=SCMOS):
    settings = SceneSettings(40, 50, 70, 100.0, (-400.0, 400.0))
    scene = simulate_scene(
        np.random.default_rng(3),
        GaussianPsf(GaussianPsfSettings()),
        camera,
        settings,
        density_per_um2=np.array([6.0]),
        photons=np.array([3000.0]),
        background_photons=np.array([10.0]),
        on_time_frames=np.array([3.0]),
    )
    return scene.frames_adu[0].astype(np.uint16)


def clipped():
    adu, _ = movie(row(name="x"), 60, np.random.default_rng(1), size=(50, 70))
    return np.minimum(adu, 180)


@pytest.mark.parametrize(
    ("adu", "reason"),
    [
        pytest.param(noise(20), "spots above the noise in 60 frames", id="background"),
        pytest.param(noise(0), "spots above the noise", id="dark"),
        pytest.param(noise(40000), "saturated", id="saturated"),
        pytest.param(clipped(), "saturated", id="saturated below the range"),
        pytest.param(
            np.full((9, 50, 70), 140, np.uint16), "frames are the same", id="constant"
        ),
        pytest.param(np.full((9, 50, 70), 65535, np.uint16), "saturated", id="white"),
        pytest.param(noise(20) - 60, "darker than the camera's baseline", id="offset"),
        pytest.param(dense(), "too dense", id="dense"),
        pytest.param(noise(20, size=(9, 70)), "too small", id="small"),
    ],
)
def test_movies_that_tell_nothing_are_refused(adu, reason):
    with pytest.raises(InputError, match=reason) as error:
        measure([adu], SCMOS)
    assert "\n" not in str(error.value)


def test_no_run_is_refused():
    with pytest.raises(InputError, match="no frames"):
        measure([], SCMOS)


def test_more_runs_than_needed_are_not_read(monkeypatch):
    module = importlib.import_module("blinkloop.training.prefit.measure")
    monkeypatch.setattr(module, "_ENOUGH", 200)
    adu, _ = movie(row(name="x"), 400, np.random.default_rng(1), size=(64, 90))
    read = []

    def runs():
        for start in range(0, 400, 100):
            read.append(start)
            yield adu[start : start + 100]

    seen = []
    found = measure(runs(), SCMOS, progress=lambda *said: seen.append(said))
    assert read == [0]
    assert found.frames == 100
    assert seen == [(100, found.candidates)]


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((5000, 128, 100), 1000), ((300, 2048, 2000), 300), ((7, 64, 64), 1000)],
)
def test_runs_cover_the_movie_and_stay_small(shape, wanted):
    runs = choose_runs(*shape, wanted)
    assert runs[0][0] == 0
    assert runs[-1][1] == shape[0]
    assert all(a < b <= c for (a, b), (c, _) in itertools.pairwise(runs))
    total = sum(stop - start for start, stop in runs)
    assert total <= max(wanted, 20)
    assert max(stop - start for start, stop in runs) * shape[1] * shape[2] < 1e8


@pytest.mark.parametrize("frames", [1, 2])
def test_a_frame_or_two_are_no_movie(frames):
    with pytest.raises(InputError, match=f"has {frames} frame"):
        choose_runs(frames, 64, 64, 1000)
