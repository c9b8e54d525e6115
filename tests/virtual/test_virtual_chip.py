"""Noise, image, drift, pixels, light out of focus, exposure and ROI of the sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blinkloop.errors import InputError
from blinkloop.integrations.virtual import (
    BackgroundSettings,
    DriftSettings,
    FaultSettings,
    KineticsSettings,
    SensorSettings,
    Simulator,
    VirtualSettings,
)
from blinkloop.integrations.virtual.background import out_of_focus_pattern
from blinkloop.integrations.virtual.image import emitter_image
from blinkloop.integrations.virtual.shot_noise import draw_counts
from blinkloop.optics import GaussianPsf
from blinkloop.optics.sensor import read_sensor_maps
from blinkloop.runtime import Roi
from blinkloop.schema import CameraSettings, GaussianPsfSettings

BASE = VirtualSettings(
    width_px=71,
    height_px=37,
    n_emitters=3000,
    kinetics=KineticsSettings(activation_per_mw_s=0.05),
    camera=CameraSettings(kind="ideal", baseline_adu=50.0, e_per_adu=1.0),
    background=BackgroundSettings(structure=0.0, drift=0.0),
    seed=5,
)


def movie(settings: VirtualSettings, frames: int, **how):
    """Images, emitters and facts of some frames."""
    simulator = Simulator(settings)
    roi = how.get("roi") or Roi(0, 0, settings.width_px, settings.height_px)
    out = np.zeros((frames, roi.height, roi.width), np.uint16)
    told = [simulator.frame(out[k], 2.0, k, **how) for k in range(frames)]
    emitters, facts = (np.concatenate(part) for part in zip(*told, strict=True))
    return out, emitters, facts


@pytest.mark.parametrize("mean", [0.0, 0.03, 1.0, 7.77, 20.0, 63.99, 64.5, 900.0])
def test_counts_are_poisson(mean: float) -> None:
    """Chi-squared against the distribution itself, to 5 SD."""
    n = 200_000
    means = np.full((200, 1000), mean, np.float32)
    counts = draw_counts(means, np.random.default_rng(3))
    assert counts.shape == means.shape
    assert counts.dtype == np.float32
    if mean == 0.0:
        assert not counts.any()
        return
    values = np.arange(int(mean + 8 * math.sqrt(mean) + 9))
    log_p = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in values]
    expected = n * np.exp(log_p)
    seen = np.bincount(counts.ravel().astype(int), minlength=values.size)
    enough = expected > 20
    excess = (seen[: values.size] - expected)[enough] ** 2 / expected[enough]
    freedom = enough.sum() - 1
    assert excess.sum() < freedom + 5 * math.sqrt(2 * freedom) + 5
    np.testing.assert_allclose(counts.mean(), mean, atol=5 * math.sqrt(mean / n))


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 9)),
               elements=st.floats(0, 300, width=32)),
    st.integers(0, 99),
)  # fmt: skip
def test_counts_of_any_image(means, seed) -> None:
    counts = draw_counts(means, np.random.default_rng(seed))
    assert counts.shape == means.shape
    assert np.all(counts[means == 0] == 0)
    np.testing.assert_array_equal(counts, np.rint(counts))
    assert np.all(counts <= means + 12 * np.sqrt(means) + 12)
    np.testing.assert_array_equal(
        counts, draw_counts(means, np.random.default_rng(seed))
    )


def test_neighbours_are_independent() -> None:
    """The small rest of a mean is given out among all pixels: to none too often."""
    means = np.full((300, 301), 0.12, np.float32)
    counts = draw_counts(means, np.random.default_rng(0))
    np.testing.assert_allclose(counts.var() / counts.mean(), 1.0, atol=0.03)
    shifted = np.corrcoef(counts[:, 1:].ravel(), counts[:, :-1].ravel())[0, 1]
    assert abs(shifted) < 0.02


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 150), st.integers(1, 40), st.integers(0, 99))
def test_image_is_that_of_the_psf(emitters, height, width, seed) -> None:
    rng = np.random.default_rng(seed)
    psf = GaussianPsf(GaussianPsfSettings())
    places = rng.uniform(
        [-20, -20, -400], [width + 20, height + 20, 400], (emitters, 3)
    )
    photons = rng.uniform(10, 5000, emitters)
    x, y, z = places.astype(np.float32).T
    frame = np.zeros(emitters, np.int64)
    wanted = psf.render(
        x, y, z, photons.astype(np.float32), frame, 1, height, width
    )[0]  # fmt: skip
    image = emitter_image(psf, places, photons, height, width)
    assert image.shape == (height, width)
    np.testing.assert_allclose(image, wanted, rtol=1e-4, atol=2e-2)


def test_drift_moves_truth_and_light() -> None:
    drift = DriftSettings(
        x_nm_per_s=500.0 / 1.02, y_nm_per_s=-300.0 / 1.02, z_nm_per_s=20.0
    )
    focus = BASE.model_copy(update={"z_range_nm": (0.0, 0.0)})
    still = movie(focus, 51)
    moved = movie(focus.model_copy(update={"drift": drift}), 51)
    np.testing.assert_array_equal(moved[1]["id"], still[1]["id"])
    # After 50 frames of 20 ms, and the frame's own drift: 1.02 s.
    last = moved[1]["frame"] == 50
    for name, by in (("x_px", 5.0), ("y_px", -3.0), ("z_nm", 20.4)):
        away = moved[1][name][last] - still[1][name][last]
        np.testing.assert_allclose(away, by, rtol=1e-3)
    assert moved[2]["drift_x_nm"][-1] == pytest.approx(500.0)
    shown = moved[0][-1].astype(float)
    seen = [np.corrcoef(shown.ravel(), np.roll(still[0][-1], by, (0, 1)).ravel())[0, 1]
            for by in ((-3, 5), (0, 0), (3, -5))]  # fmt: skip
    assert seen[0] > 0.4 > 4 * max(seen[1:])


def test_random_drift_spreads_as_a_random_walk() -> None:
    drift = DriftSettings(random_nm=30.0)
    ends = [
        movie(
            BASE.model_copy(update={"drift": drift, "seed": seed, "n_emitters": 0}), 50
        )[2]["drift_y_nm"][-1]
        for seed in range(40)
    ]
    assert np.std(ends) == pytest.approx(30.0, rel=0.3)  # after 1 s


def test_light_out_of_focus_follows_the_structure() -> None:
    haze = BackgroundSettings(structure=0.0, drift=0.0, out_of_focus=0.5)
    sharp, _, facts = movie(BASE, 60)
    blurred, _, hazy = movie(BASE.model_copy(update={"background": haze}), 60)
    added = blurred.astype(float).mean(axis=0) - sharp.mean(axis=0)
    pattern = out_of_focus_pattern(Simulator(BASE).positions, 8.0, 37, 71)
    light = (hazy["background_photons"] - facts["background_photons"]).mean()
    assert added.mean() == pytest.approx(light, rel=0.1)
    # It blinks with the emitters: more light where and when more of them are on.
    steps = hazy["background_photons"] - facts["background_photons"]
    assert np.corrcoef(steps, facts["on_mean"])[0, 1] > 0.8
    wanted = pattern * light / pattern.mean()
    smooth = np.array([[b.mean() for b in np.array_split(a, 7, 1)]
                       for a in np.array_split(added, 4, 0)])  # fmt: skip
    wanted = np.array([[b.mean() for b in np.array_split(a, 7, 1)]
                       for a in np.array_split(wanted, 4, 0)])  # fmt: skip
    assert np.corrcoef(smooth.ravel(), wanted.ravel())[0, 1] > 0.8


def test_pattern_keeps_the_light() -> None:
    sites = np.array([[30.0, 17.0, 0.0], [-200.0, 10.0, 0.0]])
    pattern = out_of_focus_pattern(sites, 3.0, 37, 71)
    assert pattern.sum() == pytest.approx(0.5, abs=1e-4)  # the other one is far away
    assert np.unravel_index(pattern.argmax(), pattern.shape) == (17, 30)
    assert out_of_focus_pattern(np.zeros((0, 3)), 3.0, 5, 4).sum() == 0


def test_pixels_differ_as_the_maps_say(tmp_path) -> None:
    uneven = SensorSettings(offset_sd_adu=3.0, gain_sd=0.05, read_noise_spread=0.5)
    changes = {
        "sensor": uneven,
        "n_emitters": 0,
        "camera": CameraSettings(kind="scmos", e_per_adu=0.5, read_noise_e=2.0),
        "background": BackgroundSettings(photons=0.0),
    }
    settings = BASE.model_copy(update=changes)
    images, _, _ = movie(settings, 400)
    simulator = Simulator(settings)
    maps = simulator.sensor_maps
    assert maps is not None
    assert maps.offset_adu.std() == pytest.approx(3.0, rel=0.1)
    assert maps.e_per_adu.std() / 0.5 == pytest.approx(0.05, rel=0.1)
    assert np.log(maps.read_noise_e / 2.0).std() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_allclose(images.mean(axis=0), maps.offset_adu, atol=5.0)
    seen = np.corrcoef(images.mean(axis=0).ravel(), maps.offset_adu.ravel())[0, 1]
    assert seen > 0.98
    wanted = maps.read_noise_e / maps.e_per_adu
    ratio = images.std(axis=0) / np.hypot(wanted, math.sqrt(1 / 12))
    np.testing.assert_allclose(ratio.mean(), 1.0, atol=0.02)
    assert ratio.std() < 0.06
    part, _, _ = movie(settings, 200, roi=Roi(11, 7, 30, 20))
    cut = maps.offset_adu[7:27, 11:41]
    assert np.corrcoef(part.mean(axis=0).ravel(), cut.ravel())[0, 1] > 0.97
    assert Simulator(BASE).sensor_maps is None


def test_exposure_and_kinetics() -> None:
    """Twice the exposure: twice the light, blinks of half as many frames."""
    _, short, few = movie(BASE, 60, exposure_ms=10.0)
    _, long, more = movie(BASE, 60, exposure_ms=40.0)
    assert more["time_s"][-1] == pytest.approx(59 * 0.04)
    assert more["background_photons"][0] == pytest.approx(40.0, rel=0.01)
    assert few["background_photons"][0] == pytest.approx(10.0, rel=0.01)
    bright = [np.quantile(table["photons"], 0.95) for table in (short, long)]
    assert bright[1] == pytest.approx(4 * bright[0], rel=0.25)
    blink = [len(t) / len(np.unique(t["id"])) for t in (short, long)]
    assert blink[0] > 1.5 * blink[1]


def test_roi_is_a_part_of_the_chip() -> None:
    roi = Roi(20, 11, 40, 9)
    whole, emitters, _ = movie(BASE, 60)
    part, same, facts = movie(BASE, 60, roi=roi)
    np.testing.assert_array_equal(emitters["x_px"], same["x_px"])
    mean = whole[:, 11:20, 20:60].mean(axis=0)
    assert np.corrcoef(part.mean(axis=0).ravel(), mean.ravel())[0, 1] > 0.95
    inside = (
        (same["x_px"] >= 19.5)
        & (same["x_px"] <= 59.5)
        & (same["y_px"] >= 10.5)
        & (same["y_px"] <= 19.5)
    )
    counts = np.bincount(same["frame"][inside], minlength=60)
    np.testing.assert_array_equal(facts["emitters"], counts)


def test_a_closed_shutter_leaves_the_camera_alone() -> None:
    dark, emitters, _ = movie(BASE, 5, shutter=False)
    assert len(emitters)
    assert np.all(dark == 50)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="needs exposure_ms"):
        FaultSettings(kind="exposure", frame=3)
    with pytest.raises(ValueError, match="needs roi"):
        FaultSettings(kind="roi", frame=3)


def test_maps_are_kept_in_a_file(tmp_path) -> None:
    from blinkloop.integrations.virtual.sensor import save_sensor

    maps = Simulator(
        BASE.model_copy(update={"sensor": SensorSettings(gain_sd=0.1)})
    ).sensor_maps
    assert maps is not None
    again = read_sensor_maps(save_sensor(maps, tmp_path / "maps.npz"))
    np.testing.assert_array_equal(again.e_per_adu, maps.e_per_adu)
    with pytest.raises(InputError, match=r"\.npz"):
        save_sensor(maps, tmp_path / "maps.txt")
