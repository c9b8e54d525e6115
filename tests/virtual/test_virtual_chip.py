"""Noise, image, drift, pixels, light out of focus, exposure and ROI of the sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from virtual_samples import QUIET

from blinkloop.integrations.virtual import (
    BackgroundSettings,
    DriftSettings,
    FaultSettings,
    SensorSettings,
    Simulator,
    VirtualSettings,
)
from blinkloop.integrations.virtual.background import out_of_focus_pattern
from blinkloop.runtime import Roi
from blinkloop.schema import CameraSettings

BASE = QUIET.model_copy(
    update={"background": BackgroundSettings(structure=0.0, drift=0.0)}
)


def movie(settings: VirtualSettings, frames: int, **how):
    """Images, emitters and facts of some frames."""
    simulator = Simulator(settings)
    roi = how.get("roi") or Roi(0, 0, settings.width_px, settings.height_px)
    out = np.zeros((frames, roi.height, roi.width), np.uint16)
    told = [simulator.frame(out[k], 2.0, k, **how) for k in range(frames)]
    emitters, facts = (np.concatenate(part) for part in zip(*told, strict=True))
    return out, emitters, facts


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
