"""Frames against their truth, without Micro-Manager."""

from __future__ import annotations

import numpy as np
import pytest
from virtual_samples import QUIET

from blinkloop.errors import InputError
from blinkloop.integrations.virtual import (
    KineticsSettings,
    Simulator,
    TruthLog,
    VirtualSettings,
)
from blinkloop.integrations.virtual.truth import TRUTH_FRAME_DTYPE
from blinkloop.schema import EMITTER_DTYPE, CameraSettings

BASE = QUIET


def _run(settings: VirtualSettings, powers):
    simulator = Simulator(settings)
    shape = (settings.height_px, settings.width_px)
    images, emitters, frames = [], [], []
    for number, power in enumerate(powers):
        out = np.full(shape, 9999, np.uint16)
        rows, facts = simulator.frame(out, float(power), number)
        images.append(out)
        emitters.append(rows)
        frames.append(facts)
    return np.stack(images), np.concatenate(emitters), np.concatenate(frames)


def _correlation(image, x_px, y_px, photons) -> float:
    """Of a (H, W) image with the emitters' light in their pixels and neighbours."""
    height, width = image.shape
    expected = np.zeros((height + 4, width + 4))
    column, row = np.rint(x_px).astype(int), np.rint(y_px).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            weight = np.exp(-(dx**2 + dy**2) / 4)
            at = row[inside] + dy + 2, column[inside] + dx + 2
            np.add.at(expected, at, photons[inside] * weight)
    return float(np.corrcoef(image.ravel(), expected[2:-2, 2:-2].ravel())[0, 1])


def test_light_is_where_the_truth_says() -> None:
    # In focus, or the blur would decide how well light and truth can agree.
    settings = BASE.model_copy(update={"z_range_nm": (0.0, 0.0)})
    images, emitters, _ = _run(settings, np.full(60, 2.0))
    image = images.sum(axis=0)
    x, y, n = emitters["x_px"], emitters["y_px"], emitters["photons"]
    assert _correlation(image, x, y, n) > 0.9
    assert _correlation(image, y, x, n) < 0.4
    assert _correlation(image, x + 4, y, n) < 0.6
    assert _correlation(image, x, y + 4, n) < 0.6


def test_photons_are_conserved() -> None:
    """Sum of a frame = background + emitters well inside, in ADU = photons here."""
    settings = BASE.model_copy(update={"margin_px": 0.0, "z_range_nm": (0.0, 0.0)})
    images, emitters, frames = _run(settings, np.full(80, 2.0))
    light = images.astype(float).sum() - 50.0 * images.size
    expected = emitters["photons"].sum() + frames["background_photons"].sum() * (
        settings.width_px * settings.height_px
    )
    # Some light of emitters near an edge falls beside the chip.
    assert 0.93 * expected < light < 1.01 * expected


def test_truth_tables() -> None:
    images, emitters, frames = _run(BASE, np.linspace(0.5, 3.0, 40))
    assert emitters.dtype == EMITTER_DTYPE
    assert frames.dtype == TRUTH_FRAME_DTYPE
    np.testing.assert_array_equal(frames["frame"], np.arange(40))
    np.testing.assert_allclose(frames["time_s"], np.arange(40) * 0.02)
    np.testing.assert_allclose(frames["power_mw"], np.linspace(0.5, 3.0, 40))
    inside = (
        (emitters["x_px"] >= -0.5)
        & (emitters["x_px"] <= 70.5)
        & (emitters["y_px"] >= -0.5)
        & (emitters["y_px"] <= 36.5)
    )
    assert 0 < (~inside).sum() < inside.sum()
    counts = np.bincount(emitters["frame"][inside], minlength=40)
    np.testing.assert_array_equal(frames["emitters"], counts)
    bright = inside & (emitters["photons"] >= 50)
    counts = np.bincount(emitters["frame"][bright], minlength=40)
    np.testing.assert_array_equal(frames["detectable"], counts)
    assert np.all(np.abs(emitters["background_photons"] - 20) < 20)
    assert images.max() < 65535


def test_ids_keep_their_place() -> None:
    _, emitters, _ = _run(BASE, np.full(50, 2.0))
    simulator = Simulator(BASE)
    for name, column in (("x_px", 0), ("y_px", 1), ("z_nm", 2)):
        np.testing.assert_allclose(
            emitters[name], simulator.positions[emitters["id"], column], rtol=1e-6
        )


def test_light_comes_in_from_outside() -> None:
    """All emitters sit beyond the edge, yet the edge is brighter than the middle."""
    settings = BASE.model_copy(update={"structure": "uniform", "n_emitters": 20_000})
    simulator = Simulator(settings)
    outside = simulator.positions[:, 0] > 70.5
    simulator.positions[~outside, 0] = 500.0
    out = np.zeros((37, 71), np.uint16)
    total = np.zeros((37, 71))
    for number in range(50):
        _, facts = simulator.frame(out, 2.0, number)
        assert facts["emitters"][0] == 0
        total += out - 50.0
    assert total[:, -1].mean() > 1.5 * total[:, 20:50].mean()


def test_same_seed_and_powers_same_frames() -> None:
    powers = np.random.default_rng(0).uniform(0, 5, 30)
    first, again = _run(BASE, powers), _run(BASE, powers)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    other_seed = _run(BASE.model_copy(update={"seed": 6}), powers)[0]
    assert np.any(other_seed != first[0])
    other_powers = _run(BASE, powers + 1)[0]
    np.testing.assert_array_equal(_run(BASE, powers[:5])[0], first[0][:5])
    assert np.any(other_powers != first[0])


def test_power_raises_density_and_bleaching_lowers_it() -> None:
    powers = np.r_[np.full(100, 1.0), np.full(100, 4.0), np.full(100, 1.0)]
    _, _, frames = _run(BASE, powers)
    low, high, low_again = (frames["emitters"][k + 20 : k + 100] for k in (0, 100, 200))
    assert high.mean() > 2 * low.mean()
    assert high.mean() > 2 * low_again.mean()
    fast = KineticsSettings(activation_per_mw_s=0.5, bleach_fraction=0.9)
    settings = BASE.model_copy(update={"kinetics": fast})
    _, _, frames = _run(settings, np.full(300, 2.0))
    assert frames["emitters"][200:].mean() < 0.2 * frames["emitters"][20:60].mean()
    assert np.all(np.diff(frames["bleached"]) >= 0)


@pytest.mark.parametrize("kind", ["ideal", "scmos", "emccd"])
def test_saturation_and_cameras(kind) -> None:
    camera = CameraSettings(
        kind=kind, bit_depth=10, em_gain=100.0 if kind == "emccd" else 1.0
    )
    settings = BASE.model_copy(update={"camera": camera, "photons": 1e5})
    images, _, _ = _run(settings, np.full(10, 3.0))
    assert images.max() == 1023


def test_empty_sample_is_background() -> None:
    settings = BASE.model_copy(update={"n_emitters": 0})
    images, emitters, frames = _run(settings, [50.0])
    assert emitters.size == 0
    assert frames["emitters"][0] == 0
    np.testing.assert_allclose(images.mean(), 70.0, rtol=0.05)


def test_truth_is_bounded_and_saved(tmp_path) -> None:
    log = TruthLog(rows_max=2000)
    simulator = Simulator(BASE)
    out = np.zeros((37, 71), np.uint16)
    for number in range(700):
        log.add(*simulator.frame(out, 2.0, number))
    emitters, frames = log.tables()
    # Whole chunks of frames go, the newest stay, and both tables agree.
    assert frames["frame"][-1] == 699
    assert frames["frame"][0] > 0
    np.testing.assert_array_equal(np.diff(frames["frame"]), 1)
    assert emitters["frame"].min() >= frames["frame"][0]
    with np.load(log.save(tmp_path / "truth.npz")) as file:
        np.testing.assert_array_equal(file["emitters"], emitters)
        np.testing.assert_array_equal(file["frames"], frames)
    h5py = pytest.importorskip("h5py", reason="needs the extra `io`")
    with h5py.File(log.save(tmp_path / "truth.h5")) as file:
        np.testing.assert_array_equal(file["emitters"][:], emitters)
        np.testing.assert_array_equal(file["frames"][:], frames)
    with pytest.raises(InputError, match=r"\.npz or \.h5"):
        log.save(tmp_path / "truth.csv")
    log.clear()
    assert [len(t) for t in log.tables()] == [0, 0]
