"""Gaussian PSF against official DECODE's numbers, itself and torch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.optics import GaussianPsf
from blinkloop.optics._namespace import array_namespace, erf
from blinkloop.schema import GaussianPsfSettings

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_misc.npz"
PSF = GaussianPsf(GaussianPsfSettings())
FLAT = GaussianPsf(
    GaussianPsfSettings(sigma0_px=1.3, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0))
)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file if name.startswith("gauss_")}


def one(x, y, z=0.0, n=1.0, height=41, width=45, psf=PSF):
    values = (np.array([float(v)]) for v in (x, y, z, n))
    return psf.render(*values, np.zeros(1, np.int64), 1, height, width)[0]


def official_emitters(golden):
    # Official x is the first image axis: its first coordinate belongs to the sigma of
    # our x, so only the picture is transposed.
    return (*golden["gauss_xyz"].T, golden["gauss_phot"])


def test_frames_are_the_official_ones(golden):
    emitters = official_emitters(golden)
    frames = PSF.render(*emitters, golden["gauss_frame"], 3, 32, 32)
    official = golden["gauss_frames"].swapaxes(1, 2)
    np.testing.assert_allclose(frames, official, rtol=1e-4, atol=2e-3)


def test_torch_gives_the_same_numbers(golden):
    torch = pytest.importorskip("torch")
    emitters, frame = official_emitters(golden), golden["gauss_frame"]
    tensors = [torch.from_numpy(np.array(values)) for values in emitters]
    other = PSF.render(*tensors, torch.from_numpy(frame), 3, 27, 35)
    assert isinstance(other, torch.Tensor)
    assert other.dtype == torch.float32
    frames = PSF.render(*emitters, frame, 3, 27, 35)
    np.testing.assert_allclose(other.numpy(), frames, rtol=1e-5, atol=1e-3)


def test_torch_is_differentiable_in_every_parameter():
    torch = pytest.importorskip("torch")
    point = [torch.tensor([v], dtype=torch.float64) for v in (4.3, 5.8, 90.0, 700.0)]
    for value in point:
        value.requires_grad_()

    def picture(*values):
        return PSF.render(*values, torch.zeros(1, dtype=torch.int64), 1, 9, 12)

    assert torch.autograd.gradcheck(picture, point)


@settings(max_examples=30)
@given(
    x=st.floats(14, 30),
    y=st.floats(14, 26),
    z=st.floats(-300, 300),
    n=st.floats(1, 1e5),
)
def test_all_photons_arrive(x, y, z, n):
    np.testing.assert_allclose(one(x, y, z, n).sum(), n, rtol=1e-6)


@settings(max_examples=30)
@given(
    x=st.floats(15, 20),
    y=st.floats(15, 20),
    z=st.floats(-500, 500),
    dx=st.integers(-4, 9),
    dy=st.integers(-4, 5),
)
def test_image_moves_with_the_emitter(x, y, z, dx, dy):
    small = np.s_[8:33, 8:37]
    there = np.roll(one(x + dx, y + dy, z), (-dy, -dx), (0, 1))
    np.testing.assert_allclose(there[small], one(x, y, z)[small], atol=1e-9)


@pytest.mark.parametrize("z", [-400.0, 0.0, 250.0])
def test_moments_are_position_and_sigma(z):
    # Frames that are not square: a swap of x and y, or of their sigmas, fails here.
    picture = one(19.3, 16.8, z, height=37, width=41)
    across, down = picture.sum(0), picture.sum(1)
    columns, rows = np.arange(41), np.arange(37)
    np.testing.assert_allclose(across @ columns, 19.3, atol=1e-3)
    np.testing.assert_allclose(down @ rows, 16.8, atol=1e-3)
    sigma_x = 1.1 * math.sqrt(1 + ((z + 250) / 280) ** 2)
    sigma_y = 1.1 * math.sqrt(1 + ((z - 250) / 280) ** 2)
    # Integration over the pixel adds 1/12 to the variance.
    across_variance = across @ (columns - 19.3) ** 2
    np.testing.assert_allclose(across_variance, sigma_x**2 + 1 / 12, rtol=1e-2)
    down_variance = down @ (rows - 16.8) ** 2
    np.testing.assert_allclose(down_variance, sigma_y**2 + 1 / 12, rtol=1e-2)


def test_two_dimensional_psf_ignores_z():
    np.testing.assert_array_equal(
        one(9, 8, 400.0, psf=FLAT), one(9, 8, -70.0, psf=FLAT)
    )
    np.testing.assert_allclose(
        one(9, 8, psf=FLAT), one(8, 9, psf=FLAT, height=45).T[:41]
    )


@pytest.mark.parametrize(
    ("x", "y"),
    [
        pytest.param(-1.4, 5.0, id="left"),
        pytest.param(12.1, 5.0, id="right"),
        pytest.param(6.0, -1.0, id="above"),
        pytest.param(6.0, 9.9, id="below"),
    ],
)
def test_emitters_outside_send_light_into_the_frame(x, y):
    cut = one(x, y, n=500.0, height=9, width=12)
    whole = one(x + 20, y + 20, n=500.0, height=49, width=52)
    assert 1.0 < cut.sum() < 250.0
    np.testing.assert_allclose(cut, whole[20:29, 20:32], atol=1e-9)


def test_overlapping_emitters_add_up():
    x, y = np.array([3.0, 3.4, 8.0]), np.array([2.0, 2.2, 4.0])
    z, n = np.array([0.0, 50.0, -50.0]), np.array([10.0, 20.0, 30.0])
    together = PSF.render(x, y, z, n, np.array([1, 0, 1]), 2, 7, 11)
    first = one(3.4, 2.2, 50.0, 20.0, 7, 11)
    second = one(3.0, 2.0, 0.0, 10.0, 7, 11) + one(8.0, 4.0, -50.0, 30.0, 7, 11)
    np.testing.assert_allclose(together, [first, second], atol=1e-12)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(np.zeros(0, np.int64), id="no emitter"),
        pytest.param(np.array([-1, 4]), id="other frames"),
    ],
)
def test_nothing_to_draw(frame):
    values = np.ones(frame.shape[0])
    picture = PSF.render(values, values, values, values, frame, 4, 5, 3)
    np.testing.assert_array_equal(picture, np.zeros((4, 5, 3)))


def test_error_function_is_the_library_one():
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.0, 5.9999, 6.0, 1e9, -1e9]])
    np.testing.assert_allclose(erf(x), [math.erf(v) for v in x], atol=1e-10)
    single = x.astype(np.float32)
    np.testing.assert_allclose(erf(single), [math.erf(v) for v in single], atol=2e-7)
    assert erf(single).dtype == np.float32
    assert np.isnan(erf(np.float32("nan")))


def test_namespace_follows_the_array():
    torch = pytest.importorskip("torch")
    assert array_namespace(np.zeros(1), 2.0) is np
    assert array_namespace(np.zeros(1), torch.zeros(1)) is torch
