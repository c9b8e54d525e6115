"""Estimates from the truth and the noise: unbiased, and at the bound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.optics import Camera, GaussianPsf, crlb
from blinkloop.optics.crlb import pixel_variance
from blinkloop.optics.efficient import Exposed, efficient_estimates, parameters_of
from blinkloop.optics.varied import VariedCamera, VariedGaussianPsf
from blinkloop.schema import EMITTER_DTYPE, CameraSettings, GaussianPsfSettings

PSF = GaussianPsf(
    GaussianPsfSettings(
        sigma0_px=1.1, astigmatism_nm=250.0, depth_nm=280.0, z_range_nm=(-400.0, 400.0)
    )
)
HEIGHT, WIDTH = 31, 34
BACKGROUND = 20.0
NAMES = ("x_px", "y_px", "z_nm", "photons")


def emitters(count: int, seed: int = 0) -> npt.NDArray[np.void]:
    """One per frame, in the middle of it."""
    rng = np.random.default_rng(seed)
    rows = np.zeros(count, EMITTER_DTYPE)
    rows["id"] = rows["frame"] = np.arange(count)
    rows["x_px"] = rng.uniform(15, 18, count)
    rows["y_px"] = rng.uniform(14, 17, count)
    rows["z_nm"] = rng.uniform(-400, 400, count)
    rows["photons"] = 4000.0
    return rows


def expected(rows: npt.NDArray[np.void], n_frames: int) -> npt.NDArray[np.float32]:
    place = (rows[name] for name in NAMES)
    images = PSF.render(*place, rows["frame"], n_frames, HEIGHT, WIDTH)
    return (images + BACKGROUND).astype(np.float32)


def seen(mean: npt.NDArray[np.float32], seed: int = 1) -> Exposed:
    frames = np.random.default_rng(seed).poisson(mean).astype(np.float32)
    return Exposed(frames, mean, mean.copy())


def test_estimates_have_the_errors_they_claim_and_reach_the_bound() -> None:
    rows = emitters(2000)
    found = efficient_estimates(rows, PSF, seen(expected(rows, 2000)))
    assert found.known.all()
    z = (found.value - parameters_of(rows)) / np.sqrt(found.variance)
    np.testing.assert_allclose(z.mean(0), 0.0, atol=4 / 2000**0.5)
    np.testing.assert_allclose(z.std(0), 1.0, atol=4 / (2 * 2000) ** 0.5)
    place = [rows[name].astype(np.float64) for name in NAMES]
    model = PSF.roi(*place)[0] + BACKGROUND
    bound = crlb(PSF.derivatives(*place)[:, :4], model)
    np.testing.assert_allclose(found.variance, bound, rtol=1e-3)


def test_without_noise_the_estimate_is_the_truth() -> None:
    rows = emitters(20)
    mean = expected(rows, 20)
    found = efficient_estimates(rows, PSF, Exposed(mean, mean, mean))
    np.testing.assert_allclose(found.value, parameters_of(rows), rtol=1e-6, atol=1e-6)


def test_frames_before_and_after_help_the_place_and_not_the_photons() -> None:
    alone = emitters(300)
    alone["frame"] = 3 * np.arange(300) + 1
    long = np.concatenate([alone, alone, alone])
    long["frame"] += np.repeat([-1, 0, 1], 300)
    one = efficient_estimates(alone, PSF, seen(expected(alone, 900)))
    three = efficient_estimates(long, PSF, seen(expected(long, 900)))
    middle = slice(300, 600)
    ratio = three.variance[middle] / one.variance
    np.testing.assert_allclose(ratio[:, :3], 1 / 3, rtol=0.02)
    # What z owes to the photons, a better z gives back.
    assert ratio[:, 3].max() < 1.0 + 1e-6
    assert ratio[:, 3].min() > 0.9
    z = (three.value - parameters_of(long))[middle] / np.sqrt(three.variance[middle])
    np.testing.assert_allclose(z.std(0), 1.0, atol=4 / 600**0.5)


def test_a_movie_of_its_own_photons_in_every_frame_is_not_mixed_up() -> None:
    rows = np.concatenate([emitters(1)] * 3)
    rows["frame"], rows["photons"] = [0, 1, 2], [500.0, 8000.0, 2000.0]
    mean = expected(rows, 3)
    bright = efficient_estimates(rows[[2, 0, 1]], PSF, Exposed(mean, mean, mean))
    np.testing.assert_allclose(bright.value[:, 3], [2000.0, 500.0, 8000.0], rtol=1e-6)
    # The dim first frame knows the place from the second, the third likewise.
    assert bright.variance[1, 0] < 2 * bright.variance[2, 0]


def test_read_and_excess_noise_count() -> None:
    rows = emitters(500)
    mean = expected(rows, 500)
    settings = CameraSettings(kind="scmos", read_noise_e=4.0, e_per_adu=0.1)
    camera = Camera(settings)
    adu = camera.forward(mean, np.random.default_rng(2))
    exposed = Exposed(camera.backward(adu), mean, pixel_variance(mean, camera))
    found = efficient_estimates(rows, PSF, exposed)
    z = (found.value - parameters_of(rows)) / np.sqrt(found.variance)
    np.testing.assert_allclose(z.std(0), 1.0, atol=4 / 1000**0.5)


def test_a_varied_camera_has_the_variance_of_each_frame() -> None:
    rng = np.random.default_rng(0)
    varied = VariedCamera(
        multiplied=np.array([False, True]),
        read_noise_e=np.array([3.0, 0.2])[:, None, None],
        spurious_e=np.array([0.0, 0.5])[:, None, None],
        e_per_adu=np.full((2, 1, 1), 0.01),
        baseline_adu=np.full((2, 1, 1), 5000.0),
        saturation_adu=1e9,
        quantum_efficiency=0.8,
    )
    mean = np.full((2, 300, 400), 30.0)
    back = varied.backward(varied.forward(mean, rng))
    claimed = pixel_variance(mean, varied)[:, 0, 0]
    np.testing.assert_allclose(back.var((1, 2)), claimed, rtol=0.02)


def test_dim_emitters_and_blind_pixels_give_no_estimate() -> None:
    rows = emitters(3)
    rows["photons"][0] = 30.0
    mean = expected(rows, 3)
    exposed = seen(mean)
    exposed.variance[1] = np.inf
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        found = efficient_estimates(rows, PSF, exposed)
    assert found.known.tolist() == [False, False, True]
    np.testing.assert_array_equal(found.value[:2], parameters_of(rows)[:2])
    assert not found.variance[:2].any()


def test_no_emitter_gives_empty_arrays() -> None:
    rows = emitters(0)
    found = efficient_estimates(rows, PSF, seen(np.full((2, 5, 7), 3.0, np.float32)))
    assert found.value.shape == (0, 4)
    assert found.known.shape == (0,)


def test_light_beyond_the_frame_is_not_counted() -> None:
    rows = emitters(2)
    rows["x_px"][1] = -0.4
    mean = expected(rows, 2)
    found = efficient_estimates(rows, PSF, seen(mean))
    assert found.variance[1, 0] > 1.2 * found.variance[0, 0]


def test_in_two_dimensions_z_is_known() -> None:
    rows = emitters(50)
    found = efficient_estimates(
        rows, PSF, seen(expected(rows, 50)), three_dimensional=False
    )
    np.testing.assert_array_equal(found.value[:, 2], rows["z_nm"])
    assert not found.variance[:, 2].any()
    assert found.variance[:, [0, 1, 3]].all()


def test_a_psf_per_emitter_is_that_of_its_frame() -> None:
    rows = emitters(40)
    varied = VariedGaussianPsf(
        np.full(40, 1.1), np.full(40, 250.0), np.full(40, 280.0)
    ).for_emitters(rows["frame"])
    exposed = seen(expected(rows, 40))
    one = efficient_estimates(rows, PSF, exposed)
    other = efficient_estimates(rows, varied, exposed)
    np.testing.assert_allclose(other.value, one.value, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(other.variance, one.variance, rtol=1e-2)


@pytest.mark.parametrize("three_dimensional", [True, False])
def test_torch_agrees(three_dimensional: bool) -> None:
    torch = pytest.importorskip("torch")
    rows = emitters(30)
    exposed = seen(expected(rows, 30))
    tensors = Exposed(
        *(
            torch.from_numpy(stack)
            for stack in (exposed.frames, exposed.expected, exposed.variance)
        )
    )
    one = efficient_estimates(rows, PSF, exposed, three_dimensional=three_dimensional)
    other = efficient_estimates(rows, PSF, tensors, three_dimensional=three_dimensional)
    np.testing.assert_allclose(other.value, one.value, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(other.variance, one.variance, rtol=1e-3)
