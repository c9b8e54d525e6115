"""Windows and analytic derivatives of the Gaussian PSF."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.optics import GaussianPsf, crlb
from blinkloop.schema import GaussianPsfSettings

ASTIGMATIC = GaussianPsf(GaussianPsfSettings())
FLAT = GaussianPsf(
    GaussianPsfSettings(sigma0_px=1.3, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0))
)
DEFOCUSED = GaussianPsf(GaussianPsfSettings(astigmatism_nm=0.0, depth_nm=400.0))
PSFS = [
    pytest.param(ASTIGMATIC, id="astigmatic"),
    pytest.param(FLAT, id="2D"),
    pytest.param(DEFOCUSED, id="defocus"),
]
AT, SIZE = (np.array([6]), np.array([2])), (9, 9)


def some(count=40, rng=None, z=400.0):
    rng = rng or np.random.default_rng(5)
    x, y = rng.uniform(20, 24, count), rng.uniform(17, 20, count)
    return x, y, rng.uniform(-z, z, count), rng.uniform(100, 9000, count)


@pytest.mark.parametrize("psf", PSFS)
@pytest.mark.parametrize("half", [2, 5, None])
def test_windows_are_cut_from_the_frame(psf, half):
    values = some()
    images, column, row = psf.roi(*values, half_px=half)
    size = 2 * (psf.reach_px if half is None else half) + 1
    assert images.shape == (40, size, size)
    assert column.dtype == row.dtype == np.int64
    frames = psf.render(*values, np.arange(40), 40, 39, 45)
    for k in range(40):
        c, r = column[k], row[k]
        assert abs(values[0][k] - (c + size // 2)) <= 0.5
        assert abs(values[1][k] - (r + size // 2)) <= 0.5
        cut = frames[k, max(r, 0) : r + size, max(c, 0) : c + size]
        np.testing.assert_allclose(
            images[k, max(-r, 0) : 39 - r, max(-c, 0) : 45 - c], cut, atol=1e-6
        )


@pytest.mark.parametrize("psf", PSFS)
def test_the_window_holds_the_light_of_the_whole_range(psf):
    z = np.array(psf.z_range_nm)
    images, _, _ = psf.roi(np.zeros(2) + 0.49, np.zeros(2) - 0.49, z, np.ones(2))
    assert images.sum((1, 2)).min() > 1 - 3e-4


@pytest.mark.parametrize("psf", PSFS)
@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(9.51, 10.49),
    y=st.floats(5.51, 6.49),
    z=st.floats(-450, 450),
    n=st.floats(1, 1e5),
)
def test_derivatives_are_the_slopes_of_the_image(psf, x, y, z, n):
    # The window stays where it is: x and y keep their pixel.
    values = np.array([[x], [y], [z], [n]])
    derivatives = psf.derivatives(*values, half_px=4)[0]
    np.testing.assert_array_equal(derivatives[4], 1.0)
    for number, step in enumerate((1e-3, 1e-3, 0.1, 1e-2)):
        shift = np.zeros((4, 1))
        shift[number] = step
        up = psf.derivatives_in(*(values + shift), *AT, SIZE)
        down = psf.derivatives_in(*(values - shift), *AT, SIZE)
        up, down = (
            (values[3] + shift[3]) * up[0, 3],
            (values[3] - shift[3]) * down[0, 3],
        )
        scale = np.abs(derivatives[number]).max() + 1e-6 * n
        np.testing.assert_allclose(
            (up - down) / (2 * step), derivatives[number], atol=2e-4 * scale
        )


def test_derivatives_belong_to_the_windows():
    values = some()
    images, _, _ = ASTIGMATIC.roi(*values)
    derivatives = ASTIGMATIC.derivatives(*values)
    assert derivatives.shape == (40, 5, *images.shape[1:])
    np.testing.assert_allclose(values[3][:, None, None] * derivatives[:, 3], images)


def test_windows_that_stay_may_be_oblong_and_anywhere():
    x, y = np.array([3.2]), np.array([7.9])
    z, n = np.array([130.0]), np.array([800.0])
    frame = ASTIGMATIC.render(x, y, z, n, np.zeros(1, int), 1, 15, 12)[0]
    column, row = np.array([2]), np.array([5])
    by = ASTIGMATIC.derivatives_in(x, y, z, n, column, row, (7, 4))[0]
    np.testing.assert_allclose(n * by[3], frame[5:12, 2:6], atol=1e-7)


def test_torch_gives_the_same_numbers():
    torch = pytest.importorskip("torch")
    values = [v.astype(np.float32) for v in some()]
    tensors = [torch.from_numpy(v) for v in values]
    ours, column, row = ASTIGMATIC.roi(*values)
    theirs, column_t, row_t = ASTIGMATIC.roi(*tensors)
    assert theirs.dtype == torch.float32
    assert column_t.dtype == row_t.dtype == torch.int64
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=1e-4, atol=2e-3)
    np.testing.assert_array_equal(column_t.numpy(), column)
    np.testing.assert_array_equal(row_t.numpy(), row)
    np.testing.assert_allclose(
        ASTIGMATIC.derivatives(*tensors).numpy(),
        ASTIGMATIC.derivatives(*values),
        rtol=1e-3,
        atol=5e-3,
    )


def test_torch_gradients_are_the_derivatives():
    torch = pytest.importorskip("torch")
    point = [torch.tensor([v], dtype=torch.float64) for v in (6.3, 4.6, 90.0, 900.0)]
    for value in point:
        value.requires_grad_()
    images, _, _ = ASTIGMATIC.roi(*point, half_px=4)
    weights = torch.linspace(-1, 2, images.numel(), dtype=torch.float64)
    torch.sum(images.flatten() * weights**2).backward()
    by = ASTIGMATIC.derivatives(*(v.detach() for v in point), half_px=4)[0]
    for number, value in enumerate(point):
        expected = torch.sum(by[number].flatten() * weights**2)
        np.testing.assert_allclose(value.grad.item(), expected.item(), rtol=1e-9)


def test_a_2d_psf_tells_nothing_of_z_and_bounds_the_rest():
    values = some(count=3)
    images, _, _ = FLAT.roi(*values)
    bound = crlb(FLAT.derivatives(*values), images + 10.0)
    assert np.isinf(bound[:, 2]).all()
    assert np.isfinite(bound[:, [0, 1, 3, 4]]).all()
    # Bound of an isolated emitter, Mortensen et al. 2010, doi:10.1038/nmeth.1447.
    variance = 1.3**2 + 1 / 12
    tau = 2 * np.pi * variance * 10.0 / values[3]
    t = np.linspace(0, 1, 20001)[1:]
    integral = np.array([np.mean(np.log(t) / (1 + t / a)) for a in tau])
    expected = variance / values[3] / (1 + integral)
    np.testing.assert_allclose(bound[:, 0], expected, rtol=0.02)


def test_an_astigmatic_psf_bounds_all_five():
    values = some()
    images, _, _ = ASTIGMATIC.roi(*values)
    bound = crlb(ASTIGMATIC.derivatives(*values), images + 10.0)
    assert np.isfinite(bound).all()


def test_no_emitter_is_no_window():
    none = np.zeros(0)
    images, column, row = ASTIGMATIC.roi(none, none, none, none, half_px=3)
    assert images.shape == (0, 7, 7)
    assert column.shape == row.shape == (0,)
    assert ASTIGMATIC.derivatives(none, none, none, none).shape[:2] == (0, 5)
