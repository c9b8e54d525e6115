"""Beads are found whatever the PSF; what cannot be used is refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, places, stack_of

from blinkloop.errors import InputError
from blinkloop.training.calibration.bead_finding import find_beads
from blinkloop.training.calibration.bead_pairs import lobe_distance_px
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.bead_selection import look_at, select_beads
from blinkloop.training.calibration.beads import calibrate_beads

PSFS = {
    "astigmatic": (astigmatic(), 26),
    "double helix": (Lobes("helix"), 34),
    "tetrapod": (Lobes("tetrapod", reach_px=5.0), 50),
}


@pytest.mark.parametrize("name", PSFS)
def test_every_bead_is_found_once(name):
    psf, apart = PSFS[name]
    rng = np.random.default_rng(3)
    shape = (2 * apart + 3, 3 * apart + 1)
    truth = np.array(places(rng, shape, apart, apart // 2))
    stack = stack_of(psf, truth, rng, shape=shape, slices=21, dz_nm=60)
    seen = find_beads(stack.astype(np.float64))
    strong = seen.response > 0.25 * seen.response[0]
    found = np.stack([seen.column[strong], seen.row[strong]], 1)
    assert len(found) == len(truth) == 6
    away = np.abs(found[:, None] - truth).max(2)
    # A pixel is exact to half of itself; noise and lobes may move the maximum by 1 px.
    assert away.min(1).max() <= 1.5
    assert sorted(away.argmin(1)) == list(range(len(truth)))


@pytest.mark.parametrize("turned", [False, True])
def test_lobes_that_stay_apart_are_one_bead(turned):
    # A double helix over a sixth of its turn; uneven beads, two of them near a border.
    psf = Lobes("helix", reach_px=8.0)
    beads = [
        (24.3, 20.8, 1.0),
        (71.6, 30.2, 0.6),
        (119.7, 24.4, 0.8),
        (40.2, 78.9, 0.9),
        (98.8, 82.3, 0.7),
    ]
    rng = np.random.default_rng(8)
    stack = stack_of(psf, beads, rng, shape=(104, 142), slices=11, dz_nm=26)
    stack = stack.astype(np.float64)
    truth = np.array(beads)[:, :2]
    if turned:
        stack, truth = stack.transpose(0, 2, 1), truth[:, ::-1]
    seen = find_beads(stack)
    found = np.stack([seen.column, seen.row], 1)
    assert len(found) == 5
    away = np.abs(found[:, None] - truth).max(2)
    assert away.min(1).max() <= 1.5
    assert sorted(away.argmin(1)) == list(range(5))


@pytest.mark.parametrize("reach_px", [6.0, 8.0])
@pytest.mark.parametrize(("slices", "dz_nm"), [(11, 26), (21, 26), (21, 50)])
def test_lobes_that_turn_about_their_middle_are_one_bead(reach_px, slices, dz_nm):
    """Once: of a single bead each lobe was one, and z did not follow the stage."""
    psf = Lobes("helix", reach_px=reach_px)
    rng = np.random.default_rng(8)
    stack = stack_of(
        psf, [(50.3, 44.2)], rng, shape=(91, 104), slices=slices, dz_nm=dz_nm
    )
    found = calibrate_beads([BeadStack(stack)], BeadSettings(float(dz_nm), 100.0))
    assert [round(bead.x_px) for bead in found.used] == [50]
    quality = found.calibration.quality
    np.testing.assert_allclose(quality["refit_z_slope"], 1, atol=0.02)
    assert quality["refit_rmse_z_nm"] < 8
    assert not any("two spots" in text for text in found.warnings)


@pytest.mark.parametrize("drift_px", [(0.0, 0.0), (2.0, 3.0), (-3.0, 2.0)])
def test_two_beads_are_no_lobes_though_they_drift(drift_px):
    rng = np.random.default_rng(9)
    beads = [(40.3, 40.2), (62.1, 47.3)]
    stack = stack_of(astigmatic(), beads, rng, shape=(90, 101), drift_px=drift_px)
    assert len(find_beads(stack.astype(np.float64))) == 2
    one = stack_of(astigmatic(), beads[:1], rng, shape=(90, 101), drift_px=drift_px)
    loose = stack_of(astigmatic(), beads[1:], rng, shape=(90, 101), background=0)
    assert len(find_beads((one + loose).astype(np.float64))) == 2


def test_grids_and_pairs_of_beads_are_no_lobes():
    x, y = (part.ravel() for part in np.mgrid[20:200:17, 20:120:17])
    bright = np.ones(x.shape)
    assert lobe_distance_px(x, y, bright) == 0
    # Two columns of a grid, whose rows are no farther apart than the columns.
    assert lobe_distance_px(x[:12], y[:12], bright[:12]) == 0
    # Pairs of any distance and direction; of one displacement, but uneven.
    x, y = np.array([[20, 33, 90, 95, 150, 142], [20, 21, 30, 45, 22, 12]])
    assert lobe_distance_px(x, y, np.ones(6)) == 0
    x, y = np.array([[20, 33, 90, 103, 150, 163], [20, 21, 30, 31, 22, 23]])
    assert lobe_distance_px(x, y, np.array([1, 0.3, 1, 0.9, 0.3, 1.0])) == 0
    assert 13 <= lobe_distance_px(x, y, np.ones(6)) <= 13.1


@pytest.mark.parametrize("level", [0.5, 20.0, 5000.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_holds_no_bead(level, seed):
    rng = np.random.default_rng(seed)
    noise = rng.poisson(level, (11, 75, 130)).astype(np.float64)
    assert len(find_beads(noise)) == 0


@pytest.mark.parametrize("value", [0, 100, 65535])
def test_an_even_image_holds_no_bead(value):
    assert len(find_beads(np.full((7, 31, 45), value, np.float64))) == 0


def test_hot_pixels_are_no_beads():
    rng = np.random.default_rng(4)
    stack = rng.poisson(50, (15, 60, 71)).astype(np.float64)
    stack[:, 20, 30] += 4000
    stack[:, 51, 7] += 900
    assert len(find_beads(stack)) == 0


def reasons(pixels, half=9, **facts):
    stack = BeadStack(pixels, **facts)
    used, dropped = select_beads(look_at(stack, stack.photons()), 0, half)
    said = {(one.column, one.row): why for one, why in dropped}
    return [(one.column, one.row) for one in used], said


def test_what_cannot_be_used_is_dropped_with_its_reason():
    rng = np.random.default_rng(5)
    beads = [
        (30.0, 30.0),
        (100.0, 40.0),
        (104.0, 51.0),
        (30.0, 92.0, 0.05),
        (4.0, 60.0),
    ]
    stack = stack_of(astigmatic(), beads, rng, shape=(120, 140), slices=21)
    used, said = reasons(stack)
    assert used == [(30, 30)]
    assert "another bead is 12 px away" in said[100, 40]
    assert "another bead is 12 px away" in said[104, 51]
    assert "dim: 5 %" in said[30, 92]
    assert "4 px from the border; a window of 19 px" in said[4, 60]


@pytest.mark.parametrize(
    ("top", "facts"),
    [
        pytest.param(65535, {}, id="16 bit"),
        pytest.param(4095, {}, id="12 bit in 16"),
        pytest.param(3000, {}, id="flat top"),
        pytest.param(3000, {"saturated_adu": 3000.0}, id="said"),
    ],
)
def test_a_saturated_bead_is_dropped_and_does_not_make_others_dim(top, facts):
    rng = np.random.default_rng(6)
    beads = [(30.0, 30.0, 60.0), (80.0, 31.0, 0.4)]
    stack = stack_of(astigmatic(), beads, rng, shape=(60, 111), slices=21)
    used, said = reasons(np.minimum(stack, top), **facts)
    assert used == [(80, 31)]
    assert f"saturated: {top} ADU" in said[30, 30]


def test_bright_beads_are_not_called_saturated():
    rng = np.random.default_rng(7)
    stack = stack_of(astigmatic(), [(30.0, 30.0, 8.0)], rng, shape=(60, 61))
    used, said = reasons(stack)
    assert used == [(30, 30)]
    assert said == {}


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        pytest.param(np.zeros((9, 9)), r"\(slices, rows, columns\)", id="an image"),
        pytest.param(np.zeros((9, 9, 9, 3)), r"\(slices, rows, columns\)", id="RGB"),
        pytest.param(np.zeros((1, 40, 41)), "1 slice, but a PSF needs", id="one slice"),
        pytest.param(np.zeros((4, 40, 41)), "4 slices", id="four slices"),
        pytest.param(np.zeros((9, 5, 41)), "41 x 5 px are too small", id="a strip"),
        pytest.param(np.full((9, 40, 41), np.nan), "not finite", id="nan"),
    ],
)
def test_what_is_no_stack(pixels, match):
    with pytest.raises(InputError, match=match):
        BeadStack(pixels, "beads.tif")


@pytest.mark.parametrize(
    ("facts", "match"),
    [
        ({"dz_nm": 0.0}, "z step of 0 nm"),
        ({"dz_nm": -50.0}, "--falling"),
        ({"dz_nm": float("nan")}, "z step of nan nm"),
        ({"dz_nm": 50_000.0}, "z step of 50000 nm"),
        ({"pixel_size_nm": 0.0}, "pixel size of 0 nm"),
        ({"pixel_size_nm": 0.117}, r"pixel size of 0.117 nm .* in nm, e.g. 100"),
        ({"pixel_size_nm": 6500.0}, "camera pixel / magnification"),
        ({"pixel_size_nm": float("inf")}, "pixel size of inf nm"),
        ({"roi_px": 12}, "odd number"),
        ({"roi_px": 5}, "odd number"),
        ({"smooth_z_nm": 0.0}, "smoothing over 0 nm"),
    ],
)
def test_settings_that_cannot_be(facts, match):
    with pytest.raises(InputError, match=match):
        BeadSettings(**{"dz_nm": 50.0, "pixel_size_nm": 100.0, **facts})


@pytest.mark.parametrize(
    ("facts", "match"),
    [({"dz_nm": 900.0}, "span 36 um"), ({"focus": 41.0}, "slices are 0 to 40")],
)
def test_settings_that_do_not_fit_the_stack(facts, match):
    settings = BeadSettings(**{"dz_nm": 50.0, "pixel_size_nm": 100.0, **facts})
    with pytest.raises(InputError, match=match):
        settings.check(BeadStack(np.zeros((41, 20, 21)), "beads.tif"))
