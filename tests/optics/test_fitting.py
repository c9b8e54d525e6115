"""Single-emitter fits: unbiased, at the Cramer-Rao bound, calm about bad windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.fit_likelihood import Counts
from blinkloop.fitting import Windows, cut_windows, fit_psf, fit_widths
from blinkloop.optics import Camera, GaussianPsf, SplinePsf
from blinkloop.schema import CameraSettings, GaussianPsfSettings
from blinkloop.training.calibration.spline_fit import spline_coefficients

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_spline.npz"
ASTIGMATIC = GaussianPsf(GaussianPsfSettings())
FLAT = GaussianPsf(
    GaussianPsfSettings(sigma0_px=1.3, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0))
)
HEIGHT, WIDTH, HALF = 13, 15, 5
EMCCD = CameraSettings(
    kind="emccd",
    em_gain=300,
    e_per_adu=45,
    read_noise_e=74.4,
    spurious_e=0.002,
    quantum_efficiency=0.9,
)


@pytest.fixture(scope="module")
def spline():
    """The astigmatic Gaussian, sampled and splined as a calibration would be."""
    size, slices, dz = 19, 25, 50.0
    z = (12 - np.arange(slices)) * dz
    at = np.full(slices, 9.0)
    stack, _, _ = ASTIGMATIC.roi(at, at, z, np.ones(slices), half_px=9)
    assert stack.shape[1:] == (size, size)
    # (Z, Y, X) samples to the (X, Y, Z) of the coefficients.
    coefficients = spline_coefficients(np.ascontiguousarray(stack.transpose(2, 1, 0)))
    return SplinePsf(coefficients, (9.0, 9.0, 12.0), dz)


def movie(psf, photons, count, rng, camera=None, *, background=20.0, z=400.0):
    """One emitter in each small frame, near its centre."""
    truth = {
        "x_px": rng.uniform(6.5, 7.5, count),
        "y_px": rng.uniform(5.5, 6.5, count),
        "z_nm": rng.uniform(-z, z, count),
        "photons": np.full(count, float(photons)),
        "background": np.full(count, background),
    }
    values = (truth[name] for name in ("x_px", "y_px", "z_nm", "photons"))
    expected = psf.render(*values, np.arange(count), count, HEIGHT, WIDTH) + background
    if camera is None:
        frames = rng.poisson(expected).astype(float)
    else:
        frames = camera.backward(camera.forward(expected, rng))
    middle = np.full(count, 7), np.full(count, 6)
    return truth, cut_windows(frames, np.arange(count), *middle, HALF, camera)


def errors(fits, truth, name):
    bound = {"z_nm": "z_sigma_nm", "x_px": "x_sigma_px", "y_px": "y_sigma_px"}
    sigma = getattr(fits, bound.get(name, f"{name}_sigma"))
    error = (getattr(fits, name) - truth[name])[fits.good]
    return error, np.sqrt(np.mean(sigma[fits.good] ** 2))


def assert_efficient(fits, truth, names, *, most=1.08):
    assert fits.good.mean() > 0.99
    for name in names:
        error, bound = errors(fits, truth, name)
        ratio = np.sqrt(np.mean(error**2)) / bound
        assert 0.95 < ratio < most, (name, ratio)
        # A tenth of the standard error: maximum likelihood is biased in second order.
        assert abs(error.mean()) < 0.1 * bound + 4 * bound / len(error) ** 0.5, name


PLANE = ("x_px", "y_px", "photons", "background")
ALL = (*PLANE, "z_nm")


@pytest.mark.parametrize("photons", [1000, 2000, 5000])
def test_astigmatic_fits_reach_the_bound(photons):
    truth, windows = movie(ASTIGMATIC, photons, 3000, np.random.default_rng(photons))
    fits = fit_psf(windows, ASTIGMATIC)
    assert_efficient(fits, truth, ALL)
    # The bound of each fit describes its own error, not only all together.
    scores = (fits.x_px - truth["x_px"]) / fits.x_sigma_px
    assert 0.95 < scores[fits.good].std() < 1.08
    freedom = windows.photons[0].size - 5
    np.testing.assert_allclose(fits.pearson[fits.good].mean(), freedom, rtol=0.02)
    ratio = fits.log_likelihood_ratio[fits.good].mean()
    np.testing.assert_allclose(ratio, freedom, rtol=0.03)


@pytest.mark.parametrize("photons", [1000, 5000])
def test_spline_fits_reach_the_bound(spline, photons):
    truth, windows = movie(spline, photons, 1800, np.random.default_rng(photons + 7))
    assert_efficient(fit_psf(windows, spline), truth, ALL)


def test_flat_fits_reach_the_bound_without_z():
    truth, windows = movie(FLAT, 1500, 3000, np.random.default_rng(2), z=0.0)
    fits = fit_psf(windows, FLAT)
    assert_efficient(fits, truth, PLANE)
    assert np.isnan(fits.sigma_x_px).all()
    np.testing.assert_array_equal(fits.z_nm, np.full(3000, np.nan))


@pytest.mark.parametrize(
    "camera",
    [
        pytest.param(Camera(EMCCD), id="EMCCD"),
        pytest.param(
            Camera(EMCCD.model_copy(update={"em_gain": 40.0, "e_per_adu": 6.0})),
            id="EMCCD of low gain",
        ),
        pytest.param(Camera(CameraSettings(read_noise_e=2.5)), id="sCMOS"),
        pytest.param(
            Camera(
                CameraSettings(),
                read_noise_map_e=np.random.default_rng(3).lognormal(
                    0.5, 0.7, (HEIGHT, WIDTH)
                ),
            ),
            id="sCMOS with a map",
        ),
    ],
)
def test_camera_noise_is_in_the_fit_and_in_its_bound(camera):
    rng = np.random.default_rng(11)
    truth, windows = movie(ASTIGMATIC, 3000, 2000, rng, camera, background=4.0)
    fits = fit_psf(windows, ASTIGMATIC)
    assert_efficient(fits, truth, ALL)
    freedom = windows.photons[0].size - 5
    np.testing.assert_allclose(fits.pearson[fits.good].mean(), freedom, rtol=0.02)
    blind = fit_psf(Windows(windows.photons, windows.column, windows.row), ASTIGMATIC)
    assert blind.x_sigma_px.mean() < 0.97 * fits.x_sigma_px.mean()


def test_widths_are_those_of_the_psf():
    truth, windows = movie(FLAT, 2000, 2500, np.random.default_rng(4), z=0.0)
    fits = fit_widths(windows)
    assert_efficient(fits, truth, PLANE)
    good = fits.sigma_x_px[fits.good]
    np.testing.assert_allclose(good.mean(), 1.3, rtol=5e-3)
    np.testing.assert_array_equal(fits.sigma_x_px, fits.sigma_y_px)


def test_two_widths_tell_z():
    truth, windows = movie(ASTIGMATIC, 4000, 1500, np.random.default_rng(5), z=300.0)
    fits = fit_widths(windows, separate=True)
    assert_efficient(fits, truth, PLANE)
    sigma_x, sigma_y = ASTIGMATIC.sigmas_px(truth["z_nm"])
    for found, true in ((fits.sigma_x_px, sigma_x), (fits.sigma_y_px, sigma_y)):
        error = (found / true - 1)[fits.good]
        assert abs(error.mean()) < 0.01
        assert error.std() < 0.1


def test_z_that_is_known_is_not_fitted():
    truth, windows = movie(ASTIGMATIC, 3000, 1500, np.random.default_rng(6), z=0.0)
    fits = fit_psf(windows, ASTIGMATIC, z_range_nm=(0.0, 0.0))
    assert_efficient(fits, truth, PLANE)
    wrong = fit_psf(windows, ASTIGMATIC, z_range_nm=(300.0, 300.0))
    assert wrong.pearson.mean() > 2 * fits.pearson.mean()


def test_a_second_try_finds_the_better_z():
    # Without astigmatism z and -z look alike: which one is found is open, but more
    # tries are never less likely.
    psf = GaussianPsf(GaussianPsfSettings(astigmatism_nm=0.0, depth_nm=300.0))
    truth, windows = movie(psf, 3000, 300, np.random.default_rng(8))
    one, two = (fit_psf(windows, psf, tries=tries) for tries in (1, 2))
    assert (two.log_likelihood_ratio <= one.log_likelihood_ratio + 1e-6).all()
    error = np.abs(two.z_nm) - np.abs(truth["z_nm"])
    assert np.median(np.abs(error)) < 20.0


def test_pixels_that_are_nan_are_left_out():
    truth, windows = movie(ASTIGMATIC, 3000, 1200, np.random.default_rng(9))
    photons = windows.photons.copy()
    photons[:, 4, 6] = np.nan
    fits = fit_psf(Windows(photons, windows.column, windows.row), ASTIGMATIC)
    assert_efficient(fits, truth, ALL)
    np.testing.assert_array_equal(fits.pixels, np.full(1200, 120))
    whole = fit_psf(windows, ASTIGMATIC)
    assert whole.x_sigma_px.mean() < fits.x_sigma_px.mean()


def bad(kind):
    photons = np.random.default_rng(1).poisson(10.0, (3, 9, 11)).astype(float)
    if kind == "zero":
        photons[:] = 0
    elif kind == "saturated":
        photons[:] = 65535.0
    elif kind == "all nan":
        photons[:] = np.nan
    elif kind == "one nan column":
        photons[:, :, 0] = np.nan
    elif kind == "hot pixel":
        photons[:, 4, 5] = 1e5
    elif kind == "negative":
        photons -= 200.0
    elif kind == "beyond the border":
        x, y = np.full(3, -4.0), np.full(3, 4.0)
        z, n = np.zeros(3), np.full(3, 1e5)
        photons += ASTIGMATIC.render(x, y, z, n, np.arange(3), 3, 9, 11)
    return photons


@pytest.mark.parametrize(
    "kind",
    ["zero", "saturated", "all nan", "negative", "hot pixel", "beyond the border"],
)
def test_bad_windows_are_flagged(kind, spline):
    at = np.zeros(3, np.int64)
    windows = Windows(bad(kind), at, at)
    for fits in (
        fit_psf(windows, ASTIGMATIC),
        fit_psf(windows, spline),
        fit_widths(windows),
        fit_widths(windows, separate=True),
    ):
        assert not np.isnan(fits.photons).any()
        if kind == "hot pixel":
            # Sharper than any PSF: no width limit hides it, its residuals do.
            assert (~fits.good | (fits.pearson > 5 * fits.pixels)).all()
        else:
            assert not fits.good.any()


@pytest.mark.parametrize("kind", ["noise", "one nan column"])
def test_noise_alone_is_no_emitter_of_weight(kind):
    fits = fit_psf(Windows(bad(kind), *np.zeros((2, 3), np.int64)), ASTIGMATIC)
    assert (fits.photons[fits.good] < 8 * fits.photons_sigma[fits.good]).all()


def test_the_golden_spline_does_not_break_a_fit():
    # Its coefficients are random: no two voxels join, so no fit can follow it.
    with np.load(GOLDEN) as file:
        psf = SplinePsf(file["coeff"], tuple(file["ref0"]), float(file["vx"][2]))
    _, windows = movie(psf, 3000, 50, np.random.default_rng(10))
    fits = fit_psf(windows, psf)
    assert np.isfinite(fits.photons).all()
    assert fits.good.mean() < 0.5


def test_positions_are_those_of_the_frame():
    x, y = np.array([30.3, 1.2]), np.array([11.6, 20.4])
    frames = ASTIGMATIC.render(
        x, y, np.array([120.0, -60.0]), np.full(2, 5000.0), np.array([1, 0]), 2, 23, 35
    )
    windows = cut_windows(
        frames + 5.0, np.array([1, 0]), np.array([30, 1]), np.array([12, 20]), 5
    )
    assert windows.photons.shape == (2, 11, 11)
    np.testing.assert_array_equal(windows.column, [24, 0])
    np.testing.assert_array_equal(windows.row, [7, 12])
    fits = fit_psf(windows, ASTIGMATIC)
    assert fits.good.all()
    np.testing.assert_allclose(fits.x_px, x, atol=1e-3)
    np.testing.assert_allclose(fits.y_px, y, atol=1e-3)
    np.testing.assert_allclose(fits.z_nm, [120.0, -60.0], atol=1.0)


@settings(max_examples=20, deadline=None)
@given(
    dx=st.floats(-1.5, 1.5),
    dy=st.floats(-1.5, 1.5),
    z=st.floats(-450, 450),
    photons=st.floats(300, 1e5),
    background=st.floats(0.1, 100),
)
def test_without_noise_the_truth_is_found(dx, dy, z, photons, background):
    values = (np.array([v]) for v in (6.0 + dx, 7.0 + dy, z, photons))
    frame = ASTIGMATIC.render(*values, np.zeros(1, int), 1, 15, 13) + background
    zero = np.zeros(1, np.int64)
    fits = fit_psf(Windows(frame, zero, zero), ASTIGMATIC)
    assert fits.good.all()
    np.testing.assert_allclose(fits.x_px, 6.0 + dx, atol=2e-2 * fits.x_sigma_px[0])
    np.testing.assert_allclose(fits.z_nm, z, atol=2e-2 * fits.z_sigma_nm[0])
    np.testing.assert_allclose(fits.photons, photons, atol=fits.photons_sigma[0] / 50)


def test_no_window_is_no_fit():
    none = np.zeros(0, np.int64)
    windows = cut_windows(np.zeros((2, 14, 12)), none, none, none, 3)
    assert len(windows) == len(fit_psf(windows, ASTIGMATIC)) == 0
    assert fit_widths(windows).good.shape == (0,)


def test_windows_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="do not fit into frames of 9 x 40"):
        cut_windows(np.zeros((1, 9, 40)), *np.zeros((3, 1), np.int64), 5)
    with pytest.raises(InputError, match="at least 3 x 3"):
        Windows(np.zeros((4, 2, 9)), *np.zeros((2, 4), np.int64))


def test_fits_need_few_steps_and_go_together(monkeypatch):
    """What the rates in docs/prefit.md come from; they are measured there, not here."""
    slopes, calls = Counts.slopes, []

    def counted(self, model, theta):
        calls.append(len(theta))
        return slopes(self, model, theta)

    monkeypatch.setattr(Counts, "slopes", counted)
    _, windows = movie(ASTIGMATIC, 1000, 1500, np.random.default_rng(12))
    fits = fit_psf(windows, ASTIGMATIC)
    assert fits.iterations.mean() < 6
    # At most 60 steps, a start and an end for each 512 windows; who is done takes part
    # no more.
    assert len(calls) <= 3 * 62
    assert sum(calls) == fits.iterations.sum() + 2 * 1500
