"""Cubic-spline PSF against official DECODE's numbers, itself and torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.optics import Camera, SplinePsf, crlb, pixel_variance
from blinkloop.schema import CameraSettings

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_spline.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def psf(golden):
    return SplinePsf(golden["coeff"], tuple(golden["ref0"]), float(golden["vx"][2]))


def emitters(golden):
    # Official x is the first image axis. Rows of the file's images are our columns.
    x, y, z = golden["xyz"].T
    return x, y, z, golden["phot"]


def smooth_psf(dtype=np.float64, size=11, slices=5):
    """A smooth bump as a spline: per axis a product of uniform cubic B-splines."""
    # Rows: polynomial of each of the four pieces of the cubic B-spline, 1 voxel each.
    pieces = (
        np.array([[0, 0, 0, 1], [1, 3, 3, -3], [4, 0, -6, 3], [1, -3, 3, -1]]) / 6.0
    )

    def line(count, weights):
        # Sum of shifted B-splines; voxel i holds pieces of those that reach it.
        a = np.zeros((count, 4))
        for shift, weight in weights.items():
            for piece in range(4):
                if 0 <= shift + piece < count:
                    a[shift + piece] += weight * pieces[piece]
        return a

    narrow, wide = {2: 0.1, 3: 0.8, 4: 0.1}, {1: 0.1, 2: 0.25, 3: 0.3, 4: 0.25, 5: 0.1}
    # Astigmatic: tall below the focus, broad above it; each part's light is constant.
    rising = {-3: 0.0, -2: 0.1, -1: 0.4, 0: 0.7, 1: 0.8, 2: 1.0, 3: 1.0, 4: 1.0}
    falling = {shift: 1.0 - weight for shift, weight in rising.items()}
    a = 0.0
    for x, y, z in ((narrow, wide, rising), (wide, narrow, falling)):
        lines = line(size, x), line(size, y), line(slices, z)
        a = a + np.einsum("xi,yj,zk->xyzkji", *lines)
    a = a.reshape(size, size, slices, 64)
    # B-splines centred at voxel coordinate 5 in x and y.
    return SplinePsf(a.astype(dtype), (5.0, 5.0, 2.0), 40.0)


def test_frames_are_the_official_ones(psf, golden):
    frames = psf.render(*emitters(golden), golden["frame"], 3, 32, 32)
    np.testing.assert_allclose(frames, golden["frames"].swapaxes(1, 2), atol=5e-4)
    assert frames.dtype == np.float32


def test_windows_are_the_official_ones(psf, golden):
    rois, column, row = psf.roi(*emitters(golden))
    x, y, _, _ = emitters(golden)
    # Official windows start one pixel earlier, with a row and column of zeros.
    np.testing.assert_array_equal(column, np.floor(x).astype(int) - 5)
    np.testing.assert_array_equal(row, np.floor(y).astype(int) - 5)
    official = golden["rois"].swapaxes(1, 2)
    np.testing.assert_allclose(rois[:, :-1, :-1], official[:, 1:, 1:], atol=5e-4)
    np.testing.assert_array_equal(rois[:, -1], 0)
    np.testing.assert_allclose(official[:, 0], 0, atol=1e-9)


@pytest.mark.parametrize(
    ("ours", "official", "sign"),
    [
        pytest.param(0, 0, 1, id="x"),
        pytest.param(1, 1, 1, id="y"),
        # The official z derivative has the opposite sign of the slope of its image.
        pytest.param(2, 2, -1, id="z"),
        pytest.param(3, 3, 1, id="photons"),
        pytest.param(4, 4, 1, id="background"),
    ],
)
def test_derivatives_are_the_official_ones(psf, golden, ours, official, sign):
    derivatives = psf.derivatives(*emitters(golden))[:, ours, :-1, :-1]
    expected = sign * golden["drv"].swapaxes(2, 3)[:, official, 1:, 1:]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(derivatives, expected, atol=3e-6 * scale)


def test_bound_is_the_official_one(psf, golden):
    derivatives = psf.derivatives(*emitters(golden))
    model = psf.roi(*emitters(golden))[0] + golden["bg"]
    # Official background does not reach pixels without PSF.
    derivatives[:, 4, -1, :] = derivatives[:, 4, :, -1] = 0
    bound = crlb(derivatives, model.astype(np.float32))
    np.testing.assert_allclose(bound, golden["crlb"], rtol=1e-4)


def test_torch_gives_the_same_numbers(psf, golden):
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(values) for values in emitters(golden)]
    frame = torch.from_numpy(golden["frame"])
    frames = psf.render(*emitters(golden), golden["frame"], 3, 29, 33)
    other = psf.render(*tensors, frame, 3, 29, 33)
    assert isinstance(other, torch.Tensor)
    np.testing.assert_allclose(other.numpy(), frames, atol=5e-4)
    derivatives = psf.derivatives(*emitters(golden))
    np.testing.assert_allclose(
        psf.derivatives(*tensors).numpy(), derivatives, atol=1e-4
    )
    model = psf.roi(*emitters(golden))[0] + np.float32(20)
    np.testing.assert_allclose(
        crlb(torch.from_numpy(derivatives), torch.from_numpy(model)).numpy(),
        crlb(derivatives, model),
        rtol=1e-4,
    )


def test_torch_gradients_are_the_derivatives():
    torch = pytest.importorskip("torch")
    psf = smooth_psf()
    values = [torch.tensor([v], dtype=torch.float64) for v in (6.3, 4.6, 11.0, 900.0)]
    for value in values:
        value.requires_grad_()
    frame = torch.zeros(1, dtype=torch.int64)
    picture = psf.render(*values, frame, 1, 9, 13)
    weights = torch.arange(picture.numel(), dtype=torch.float64) ** 2
    weights = weights.reshape(picture.shape)
    torch.sum(picture * weights).backward()
    derivatives = psf.derivatives(*(v.detach() for v in values))
    _, column, row = psf.roi(*(v.detach() for v in values))
    for number, value in enumerate(values):
        window = np.zeros((9, 13))
        for i in range(11):
            for j in range(11):
                r, c = int(row) + i, int(column) + j
                if 0 <= r < 9 and 0 <= c < 13:
                    window[r, c] = derivatives[0, number, i, j]
        expected = np.sum(window * weights.numpy()[0])
        np.testing.assert_allclose(value.grad.item(), expected, rtol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(6.01, 6.94),
    y=st.floats(6.01, 6.94),
    z=st.floats(-90, 70),
    n=st.floats(1, 1e4),
)
def test_derivatives_are_the_slopes_of_the_image(x, y, z, n):
    psf, step = smooth_psf(), 1e-4
    values = np.array([[x], [y], [z], [n]])
    derivatives = psf.derivatives(*values)[0]
    frame = np.zeros(1, np.int64)
    _, column, row = psf.roi(*values)
    at = np.s_[row[0] : row[0] + 11, column[0] : column[0] + 11]
    for number in range(4):
        shift = np.zeros((4, 1))
        shift[number] = step
        up = psf.render(*(values + shift), frame, 1, 19, 20)[0][at]
        down = psf.render(*(values - shift), frame, 1, 19, 20)[0][at]
        np.testing.assert_allclose(
            (up - down) / (2 * step), derivatives[number], atol=1e-4 * n
        )


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(8, 9), y=st.floats(8, 9), dx=st.integers(-2, 3), dy=st.integers(-2, 3)
)
def test_image_moves_with_the_emitter(x, y, dx, dy):
    psf, frame = smooth_psf(), np.zeros(1, np.int64)
    z, n = np.zeros(1), np.full(1, 100.0)
    here = psf.render(np.array([x]), np.array([y]), z, n, frame, 1, 21, 23)[0]
    there = psf.render(np.array([x + dx]), np.array([y + dy]), z, n, frame, 1, 21, 23)
    moved = np.roll(here, (dy, dx), (0, 1))
    np.testing.assert_allclose(there[0], moved, atol=1e-9)


@pytest.mark.parametrize("x", [8.0, 8.25, 8.999999])
def test_smooth_image_keeps_all_light(x):
    # B-splines sum to 1 on the pixel grid wherever they are sampled.
    psf, frame = smooth_psf(), np.zeros(1, np.int64)
    values = (np.array([x]), np.array([9.3]), np.array([20.0]), np.array([500.0]))
    at_centre = psf.render(np.array([8.5]), *values[1:], frame, 1, 21, 23).sum()
    np.testing.assert_allclose(
        psf.render(*values, frame, 1, 21, 23).sum(), at_centre, rtol=1e-12
    )


def test_centre_of_mass_is_the_emitter():
    # x = column: a swap of the axes fails here, on a frame that is not square.
    psf = smooth_psf()
    values = (np.array([12.4]), np.array([6.7]), np.array([0.0]), np.array([1.0]))
    picture = psf.render(*values, np.array([1]), 3, 15, 25)
    light = picture[1] / picture[1].sum()
    np.testing.assert_allclose(light.sum(0) @ np.arange(25), 12.4, atol=1e-9)
    np.testing.assert_allclose(light.sum(1) @ np.arange(15), 6.7, atol=1e-9)
    np.testing.assert_array_equal(picture[[0, 2]], 0)


def test_emitters_outside_send_light_into_the_frame():
    psf, frame = smooth_psf(), np.zeros(1, np.int64)
    z, n = np.zeros(1), np.full(1, 100.0)
    wide = psf.render(np.array([9.2]), np.array([10.0]), z, n, frame, 1, 20, 30)[0]
    cut = psf.render(np.array([-0.8]), np.array([10.0]), z, n, frame, 1, 20, 20)[0]
    assert cut.sum() > 1.0
    np.testing.assert_allclose(cut, wide[:, 10:], atol=1e-9)


@pytest.mark.parametrize(
    ("z", "same_as"),
    [pytest.param(200.0, 80.0, id="above"), pytest.param(-300.0, -120.0, id="below")],
)
def test_z_beyond_the_range_is_its_end(z, same_as):
    psf = smooth_psf()
    np.testing.assert_allclose(psf.z_range_nm, (-120, 80))
    rest = (np.array([5.5]), np.array([5.5]))
    one = np.ones(1)
    np.testing.assert_allclose(
        psf.roi(*rest, np.array([z]), one)[0],
        psf.roi(*rest, np.array([same_as]), one)[0],
    )


def test_no_emitters_and_foreign_frames():
    psf, none = smooth_psf(), np.zeros(0)
    picture = psf.render(none, none, none, none, np.zeros(0, np.int64), 2, 5, 7)
    np.testing.assert_array_equal(picture, np.zeros((2, 5, 7)))
    assert psf.derivatives(none, none, none, none).shape == (0, 5, 11, 11)
    assert crlb(np.zeros((0, 5, 3, 4)), np.ones((0, 3, 4))).shape == (0, 5)
    one = np.ones(2)
    foreign = psf.render(one, one, one, one, np.array([-1, 2]), 2, 5, 7)
    np.testing.assert_array_equal(foreign, np.zeros((2, 5, 7)))


@pytest.mark.parametrize(
    ("shape", "dz"),
    [
        pytest.param((3, 3, 3, 63), 50.0, id="not 64"),
        pytest.param((3, 3, 64), 50.0, id="three axes"),
        pytest.param((3, 3, 3, 64), 0.0, id="flat voxel"),
        pytest.param((3, 3, 3, 64), float("nan"), id="voxel unknown"),
    ],
)
def test_unusable_coefficients_are_refused(shape, dz):
    with pytest.raises(InputError, match="spline PSF"):
        SplinePsf(np.zeros(shape), (1, 1, 1), dz)


def camera(**facts):
    return Camera(CameraSettings(**facts))


@pytest.mark.parametrize(
    ("cam", "expected"),
    [
        pytest.param(None, 30.0, id="shot noise"),
        pytest.param(camera(kind="ideal", read_noise_e=9.0), 30.0, id="ideal"),
        pytest.param(camera(kind="scmos", read_noise_e=2.0), 34.0, id="scmos"),
        pytest.param(
            camera(kind="scmos", read_noise_e=2.0, quantum_efficiency=0.5),
            (15 + 4) / 0.25,
            id="quantum efficiency",
        ),
        pytest.param(
            camera(kind="emccd", em_gain=300, read_noise_e=60.0, spurious_e=0.5),
            2 * 30.5 + 0.04,
            id="emccd",
        ),
        pytest.param(
            camera(kind="emccd", em_gain=1, read_noise_e=2.0), 34.0, id="gain off"
        ),
    ],
)
def test_pixel_variance(cam, expected):
    model = np.full((3, 5), 30.0)
    np.testing.assert_allclose(pixel_variance(model, cam), np.full((3, 5), expected))


def test_excess_noise_doubles_the_bound():
    psf = smooth_psf()
    values = (np.array([5.5]), np.array([5.5]), np.array([20.0]), np.array([900.0]))
    derivatives, model = psf.derivatives(*values), psf.roi(*values)[0] + 5.0
    quiet = camera(kind="emccd", em_gain=300, read_noise_e=0.0)
    np.testing.assert_allclose(
        crlb(derivatives, model, camera=quiet),
        2 * crlb(derivatives, model),
        rtol=1e-9,
    )


def test_read_noise_map_counts_where_it_is():
    psf = smooth_psf()
    values = (np.array([5.5]), np.array([5.5]), np.array([20.0]), np.array([900.0]))
    derivatives, model = psf.derivatives(*values), psf.roi(*values)[0] + 5.0
    noise = np.zeros((11, 11))
    at = Camera(CameraSettings(kind="scmos"), read_noise_map_e=noise)
    np.testing.assert_allclose(
        crlb(derivatives, model, camera=at), crlb(derivatives, model)
    )
    noise[5, 5] = 1e6
    # A pixel so noisy that it says nothing: as if it were not there.
    derivatives_without = derivatives.copy()
    derivatives_without[:, :, 5, 5] = 0
    np.testing.assert_allclose(
        crlb(derivatives, model, camera=at),
        crlb(derivatives_without, model),
        rtol=1e-6,
    )


def test_bound_of_a_known_case():
    # m = n p + b with p = (1, 0), (0, 1) for two unknowns: variances are m.
    derivatives = np.zeros((2, 1, 2))
    derivatives[0, 0, 0] = derivatives[1, 0, 1] = 1.0
    np.testing.assert_allclose(crlb(derivatives, np.array([[7.0, 3.0]])), [7.0, 3.0])


def test_a_parameter_that_does_not_show_has_no_bound():
    derivatives = np.zeros((2, 1, 2))
    derivatives[0, 0] = 1.0
    np.testing.assert_allclose(crlb(derivatives, np.array([[4.0, 4.0]])), [2.0, np.inf])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_that_only_act_together_have_no_bound(dtype):
    # The second is a multiple of the first; the third stands alone.
    derivatives = np.array([[[1, 2, 0]], [[3, 6, 0]], [[0, 0, 5]]], dtype)
    bound = crlb(derivatives, np.full((1, 3), 7.0, dtype))
    np.testing.assert_allclose(bound, [np.inf, np.inf, 7 / 25], rtol=1e-5)
