"""A PSF made from simulated beads is the one they were simulated with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, golden_spline, places, stack_of

from blinkloop.errors import InputError
from blinkloop.fitting import Windows, fit_psf
from blinkloop.optics import GaussianPsf
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training.calibration.bead_figure import calibration_figure
from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.beads import calibrate_beads

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "beads"


def calibrate(*pixels, stacks=None, **facts):
    settings = BeadSettings(**{"dz_nm": 50.0, "pixel_size_nm": 100.0, **facts})
    return calibrate_beads(stacks or [BeadStack(one) for one in pixels], settings)


def difference(psf, truth, z_nm, size=15):
    """RMS difference of images to the truth's, relative, and light of the truth.

    Both are drawn at the same places between pixels; an offset of the centre, which is
    a matter of definition, is part of the difference.
    """
    rng = np.random.default_rng(0)
    z = np.asarray(z_nm, float)
    middle = (size - 1) / 2
    x, y = middle + rng.uniform(-0.5, 0.5, (2, len(z)))
    frame, one = np.arange(len(z)), np.ones(len(z))
    at = (x, y, z, one, frame, len(z), size, size + 2)
    got, expected = psf.render(*at), truth.render(*at)
    scale = (got * expected).sum() / (got**2).sum()
    return np.sqrt(((scale * got - expected) ** 2).sum() / (expected**2).sum()), scale


def errors(psf, truth, low, high, size=25, count=300, photons=20_000.0):
    """Errors in nm of fresh emitters fitted with `psf`, sorted by z."""
    rng = np.random.default_rng(9)
    z = np.linspace(low, high, count)
    x, y = (size - 1) / 2 + rng.uniform(-0.5, 0.5, (2, count))
    light = np.full(count, photons)
    frames = truth.render(x, y, z, light, np.arange(count), count, size, size)
    frames = rng.poisson(np.maximum(frames, 0) + 10.0).astype(np.float64)
    none = np.zeros(count, np.int64)
    fits = fit_psf(Windows(frames, none, none), psf, z_starts=13, tries=2)
    return 100 * (fits.x_px - x), 100 * (fits.y_px - y), fits.z_nm - z, z


def check_fresh_emitters(psf, truth, low, high, z_nm=5.0, xy_nm=2.0):
    dx, dy, dz, z = errors(psf, truth, low, high)
    # Centre and focus are defined by the light, to a few nm; no part of the range may
    # be off by more than some nm.
    for error, limit in ((dx, xy_nm), (dy, xy_nm), (dz, z_nm)):
        assert abs(np.median(error)) < limit
        parts = [np.median(part) for part in np.array_split(error, 6)]
        assert np.abs(parts).max() < 2.5 * limit
    slope = np.polyfit(z, z + dz, 1)[0]
    np.testing.assert_allclose(slope, 1, atol=0.02)


@pytest.fixture(scope="module")
def one_bead():
    rng = np.random.default_rng(1)
    return calibrate(stack_of(astigmatic(), [(30.3, 22.7)], rng))


@pytest.fixture(scope="module")
def ten_beads():
    """Of uneven brightness, at heights that differ by up to 200 nm, 400 ADU offset."""
    rng = np.random.default_rng(2)
    beads = [
        (x, y, rng.uniform(0.3, 2), rng.uniform(-100, 100))
        for x, y in places(rng, (70, 147), 26, 17)
    ]
    assert len(beads) == 10
    stack = stack_of(astigmatic(), beads, rng, shape=(70, 147), offset_adu=400)
    return calibrate(stack), beads


def test_one_bead_gives_its_psf(one_bead):
    result, truth = one_bead, astigmatic()
    assert len(result.used) == 1
    psf = result.calibration.psf()
    # 60 000 photons a slice: noise alone is 1 to 2 % of an image; a pixel of 1.1 sigma
    # between samples is drawn to 1 %.
    rms, light = difference(psf, truth, np.linspace(-500, 500, 21))
    assert rms < 0.03
    np.testing.assert_allclose(light, 1, atol=0.03)
    check_fresh_emitters(psf, truth, -500, 500, z_nm=8.0)
    np.testing.assert_allclose(
        (result.used[0].x_px, result.used[0].y_px), (30.3, 22.7), atol=0.03
    )


def test_ten_beads_give_a_better_one(ten_beads, one_bead):
    result, _ = ten_beads
    truth, psf = astigmatic(), result.calibration.psf()
    assert len(result.used) == 10
    assert result.dropped == []
    zs = np.linspace(-500, 500, 21)
    rms, light = difference(psf, truth, zs)
    assert rms < 0.015
    assert rms < difference(one_bead.calibration.psf(), truth, zs)[0]
    np.testing.assert_allclose(light, 1, atol=0.02)
    check_fresh_emitters(psf, truth, -500, 500)
    quality = result.calibration.quality
    np.testing.assert_allclose(quality["refit_z_slope"], 1, atol=0.02)
    assert quality["refit_rmse_x_nm"] < 4
    assert quality["refit_rmse_z_nm"] < 15


def test_beads_are_where_they_were_put(ten_beads):
    result, beads = ten_beads
    for used in result.used:
        away = [np.hypot(used.x_px - b[0], used.y_px - b[1]) for b in beads]
        assert min(away) < 0.05
    truth = {round(b[0]): b for b in beads}
    # Heights are relative to the model's; a bead that lies higher passes the focus
    # later, in a slice of higher focus.
    heights = np.array([used.height_nm for used in result.used])
    matched = [
        min(beads, key=lambda b, u=u: np.hypot(u.x_px - b[0], u.y_px - b[1]))
        for u in result.used
    ]
    expected = np.array([b[3] for b in matched])
    assert len(truth) >= 5
    np.testing.assert_allclose(
        heights - heights.mean(), expected - expected.mean(), atol=5
    )


@pytest.mark.parametrize(
    ("make", "where", "shape", "low", "high"),
    [
        pytest.param(
            golden_spline,
            [(30.3, 22.7), (60.6, 25.2)],
            (49, 88),
            -400,
            400,
            id="golden",
        ),
        pytest.param(
            lambda: Lobes("helix"), [(30.3, 31.7)], (63, 61), -600, 600, id="helix"
        ),
        pytest.param(
            lambda: Lobes("tetrapod", reach_px=4.0),
            [(28.6, 33.2)],
            (63, 61),
            -600,
            600,
            id="tetrapod",
        ),
    ],
)
def test_other_shapes(make, where, shape, low, high):
    truth = make()
    rng = np.random.default_rng(8)
    slices = 21 if make is golden_spline else 33
    result = calibrate(stack_of(truth, where, rng, shape=shape, slices=slices))
    assert len(result.used) == len(where)
    psf = result.calibration.psf()
    # Up to an offset of the centre: fits of fresh emitters around their mean error.
    dx, dy, dz, z = errors(psf, truth, low, high)
    for error, limit in ((dx, 2.0), (dy, 2.0), (dz, 8.0)):
        parts = [np.median(part) for part in np.array_split(error, 6)]
        assert np.abs(parts - np.mean(parts)).max() < 2 * limit
    np.testing.assert_allclose(np.polyfit(z, z + dz, 1)[0], 1, atol=0.02)


@pytest.mark.parametrize(
    ("dz_nm", "slices", "voxel_nm"),
    [(20.0, 61, 75.0), (100.0, 15, 100.0)],
    ids=["fine steps are averaged", "coarse steps are kept"],
)
def test_steps(dz_nm, slices, voxel_nm):
    rng = np.random.default_rng(10)
    stack = stack_of(astigmatic(), [(31.4, 22.2)], rng, dz_nm=dz_nm, slices=slices)
    result = calibrate(stack, dz_nm=dz_nm)
    np.testing.assert_allclose(result.calibration.dz_nm, voxel_nm, rtol=0.05)
    check_fresh_emitters(
        result.calibration.psf(), astigmatic(), -450, 450, z_nm=8.0, xy_nm=2.5
    )


def test_a_stage_that_falls_is_the_same_stack_backwards():
    rng = np.random.default_rng(11)
    stack = stack_of(astigmatic(), [(30.3, 22.7)], rng)
    up, down = calibrate(stack), calibrate(stack[::-1], falling=True)
    np.testing.assert_array_equal(
        up.calibration.coefficients, down.calibration.coefficients
    )
    # Read the wrong way round, x and y change places at -z.
    wrong = calibrate(stack[::-1]).calibration.psf()
    z = np.array([-300.0])
    middle = np.array([9.0])
    at = (middle, middle, z, np.ones(1), np.zeros(1, np.int64), 1, 19, 19)
    image = wrong.render(*at)[0]
    right = up.calibration.psf().render(*at)[0]
    np.testing.assert_allclose(image, right.T, atol=0.1 * right.max())
    assert np.abs(image - right).max() > 0.3 * right.max()


def test_a_given_focus_counts_the_slices_of_the_file():
    rng = np.random.default_rng(11)
    stack = stack_of(astigmatic(), [(30.3, 22.7)], rng)
    given = calibrate(stack, focus=12.0).calibration
    np.testing.assert_allclose(given.reference[2] * given.dz_nm, 12 * 50.0)
    back = calibrate(stack[::-1], focus=20.0, falling=True).calibration
    np.testing.assert_allclose(back.reference[2] * back.dz_nm, 12 * 50.0)
    middle = calibrate(stack, focus="middle").calibration
    np.testing.assert_allclose(middle.reference[2] * middle.dz_nm, 16 * 50.0)


def test_em_mirror_turns_left_and_right_only():
    rng = np.random.default_rng(12)
    truth = golden_spline()
    stack = stack_of(truth, [(30.3, 22.7)], rng, slices=21)
    plain, turned = calibrate(stack), calibrate(stack[:, :, ::-1], mirrored=True)
    np.testing.assert_array_equal(
        plain.calibration.coefficients, turned.calibration.coefficients
    )
    # The bead is told where it lies in the file.
    np.testing.assert_allclose(turned.used[0].x_px, 60 - plain.used[0].x_px)
    np.testing.assert_allclose(turned.used[0].y_px, plain.used[0].y_px)


def test_places_are_those_of_the_chip():
    rng = np.random.default_rng(12)
    beads = [(30.3, 22.7), (5.0, 60.0)]
    stack = stack_of(astigmatic(), beads, rng, shape=(80, 61))
    result = calibrate(stacks=[BeadStack(stack, "a", origin=(1000, 200))])
    used, dropped = result.used[0], result.dropped[0]
    np.testing.assert_allclose((used.x_px, used.y_px), (1030.3, 222.7), atol=0.05)
    assert (dropped.x_px, dropped.y_px) == (1005, 260)


def test_a_bead_that_moves_is_dropped_drift_of_all_is_taken_out():
    rng = np.random.default_rng(13)
    truth, shape = astigmatic(), (70, 95)
    *still, moving = places(rng, shape, 26, 17)[:5]
    quiet = {"shape": shape, "drift_px": (0.6, -0.9)}
    stack = stack_of(truth, still, rng, **quiet).astype(np.float64)
    own = {"shape": shape, "drift_px": (3.0, 0.0), "background": 0, "offset_adu": 0}
    stack += stack_of(truth, [moving], rng, **own)
    result = calibrate(stack, correct_drift=True)
    assert len(result.used) == 4
    assert len(result.dropped) == 1
    np.testing.assert_allclose(result.dropped[0].x_px, moving[0], atol=1)
    quality = result.calibration.quality
    np.testing.assert_allclose(quality["walk_x_nm"], 60, atol=8)
    np.testing.assert_allclose(quality["walk_y_nm"], -90, atol=8)
    assert quality["refit_rmse_y_nm"] < 4
    check_fresh_emitters(result.calibration.psf(), truth, -500, 500)
    assert any("moves sideways by 1" in text for text in result.warnings)


def test_two_beads_that_look_like_one_are_dropped():
    rng = np.random.default_rng(18)
    first, *rest = places(rng, (70, 95), 26, 17)[:5]
    close = (first[0] + 4.5, first[1] + 1.0)
    stack = stack_of(astigmatic(), [first, close, *rest], rng, shape=(70, 95))
    result = calibrate(stack)
    assert len(result.used) == 4
    (drop,) = result.dropped
    assert "differs from the average" in drop.reason
    np.testing.assert_allclose((drop.x_px, drop.y_px), first, atol=3)
    check_fresh_emitters(result.calibration.psf(), astigmatic(), -500, 500)


def test_a_sloping_background_with_the_noise_of_an_emccd_is_taken_off():
    rng = np.random.default_rng(19)
    shape = (70, 147)
    quiet = {"shape": shape, "noise": False, "offset_adu": 0, "photons": 40_000}
    light = stack_of(astigmatic(), places(rng, shape, 26, 17), rng, **quiet)
    photons = rng.poisson(light + 40 + 2.0 * np.arange(147))
    electrons = rng.gamma(photons, 300.0) + rng.normal(0, 60, photons.shape)
    result = calibrate((electrons / 20 + 300).astype(np.uint16))
    assert len(result.used) == 10
    assert max(result.calibration.psf().window_shape) <= 21
    check_fresh_emitters(
        result.calibration.psf(), astigmatic(), -450, 450, z_nm=8.0, xy_nm=2.5
    )


def test_bleaching_is_seen_and_evened_out():
    rng = np.random.default_rng(14)
    stack = stack_of(astigmatic(), [(30.3, 22.7)], rng, offset_adu=0, background=0)
    bleached = stack * np.linspace(1.0, 0.5, 33)[:, None, None]
    result = calibrate(bleached, equal_light=True)
    assert any("bleach" in text for text in result.warnings)
    z = np.linspace(-500, 500, 11)
    zero = np.zeros(11)
    light = result.calibration.psf().roi(zero, zero, z, zero + 1)[0].sum((1, 2))
    np.testing.assert_allclose(light, 1, atol=0.02)
    uneven = calibrate(bleached).calibration.psf()
    light = uneven.roi(zero, zero, z, zero + 1)[0].sum((1, 2))
    assert light[-1] / light[0] > 1.3


def test_stacks_of_other_sizes_are_joined():
    rng = np.random.default_rng(15)
    first = stack_of(astigmatic(), [(30.3, 22.7)], rng)
    second = stack_of(
        astigmatic(), [(20.3, 20.7), (40.2, 44.4)], rng, slices=37, shape=(70, 60)
    )
    result = calibrate(first, second)
    assert len(result.used) == 3
    check_fresh_emitters(result.calibration.psf(), astigmatic(), -500, 500)


def test_a_flat_psf_is_said_to_have_no_z():
    rng = np.random.default_rng(16)
    flat = GaussianPsf(GaussianPsfSettings(astigmatism_nm=0, z_range_nm=(-800, 800)))
    result = calibrate(stack_of(flat, [(30.3, 22.7)], rng))
    assert any("z cannot be told" in text for text in result.warnings)


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        pytest.param(
            np.random.default_rng(0).poisson(100, (15, 60, 71)),
            "no bead found, nothing stands out",
            id="noise",
        ),
        pytest.param(np.zeros((15, 60, 71), np.uint16), "every pixel is 0", id="dark"),
        pytest.param(
            np.full((15, 60, 71), 65535, np.uint16), "every pixel is 65535", id="full"
        ),
    ],
)
def test_a_stack_without_a_bead(pixels, match):
    with pytest.raises(InputError, match=match):
        calibrate(pixels)


@pytest.mark.parametrize(
    ("beads", "top", "match"),
    [
        pytest.param([(30.0, 22.0, 60.0)], 65535, "with less light", id="saturated"),
        pytest.param([(3.0, 22.0)], 65535, "px from the border", id="border"),
        pytest.param(
            [(27.0, 22.0), (37.0, 24.0)], 65535, "another bead is", id="overlap"
        ),
    ],
)
def test_a_stack_without_a_usable_bead(beads, top, match):
    rng = np.random.default_rng(17)
    stack = np.minimum(stack_of(astigmatic(), beads, rng, slices=21), top)
    with pytest.raises(InputError, match=f"none can be used: .*{match}"):
        calibrate(stack)


def test_picture(ten_beads):
    figure = calibration_figure(ten_beads[0], title="ten beads")
    figure.canvas.draw()
    titles = {axes.get_title() for part in figure.subfigs for axes in part.get_axes()}
    assert any(title.startswith("slope ") for title in titles)
    assert "10 beads used, 0 dropped" in titles


@pytest.mark.parametrize("name", ["crlb1", "crlb2", "edof", "tetrapod"])
def test_real_stacks(name):
    tifffile = pytest.importorskip("tifffile", reason="needs the extra `io`")
    path = REAL / f"{name}_bead_stack.tiff"
    if not path.is_file():
        pytest.skip(f"the bead stacks of ../shared/data are not here ({path})")
    # Small windows keep the test fast; docs/calibration.md has the whole ones.
    result = calibrate(
        tifffile.imread(path)[8:-8], dz_nm=100.0, pixel_size_nm=110.0, roi_px=25
    )
    quality = result.calibration.quality
    assert quality["refit_failed"] <= 2
    np.testing.assert_allclose(quality["refit_z_slope"], 1, atol=0.05)
    # One bead whose slices, 100 nm apart, are fitted with those 200 nm apart.
    assert quality["refit_rmse_x_nm"] < 60
    assert quality["refit_rmse_z_nm"] < 120
