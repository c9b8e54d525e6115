"""The ways a spline PSF is drawn give the same picture; gradients are derivatives."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from blinkloop.optics import SplinePsf
from blinkloop.optics._spline_draw import lay_out

torch = pytest.importorskip("torch")

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_spline.npz"
SHAPE = (3, 19, 27)
"""Frames, height, width: not square, odd."""


def random_psf(dtype=np.float64, shape=(6, 5, 12)):
    """Not smooth, not square: any mistake in an index shows."""
    a = np.random.default_rng(8).random((*shape, 64)).astype(dtype)
    return SplinePsf(a, (2.5, 2.0, 3.0), 50.0)


def emitters(count=60, *, z_nm=(-440.0, 140.0), dtype=np.float64):
    rng = np.random.default_rng(count)
    return [
        rng.uniform(*limits, count).astype(dtype)
        for limits in ((-6, 32), (-6, 24), z_nm, (100, 900))
    ], rng.integers(-1, 4, count)


def by_hand(psf, values, frame):
    """Every pixel of every emitter from the formula of the module's docstring."""
    picture = np.zeros(SHAPE)
    a = np.asarray(psf.coefficients)
    for x, y, z, n, f in zip(*values, frame, strict=True):
        for r, c in np.ndindex(SHAPE[1:]):
            u, v = c - x + psf.reference[0], r - y + psf.reference[1]
            w = np.clip(psf.reference[2] - z / psf.dz_nm, 0, a.shape[2])
            if not (0 <= u <= a.shape[0] - 1 and 0 <= v <= a.shape[1] - 1):
                continue
            if not 0 <= f < SHAPE[0]:
                continue
            i, j, k = int(u), int(v), min(int(w), a.shape[2] - 1)
            powers = [t ** np.arange(4) for t in (w - k, v - j, u - i)]
            value = np.einsum("zyx,z,y,x", a[i, j, k].reshape(4, 4, 4), *powers)
            picture[f, r, c] += n * value
    return picture


def test_render_is_the_formula():
    values, frame = emitters(30)
    psf = random_psf()
    np.testing.assert_allclose(
        psf.render(*values, frame, *SHAPE), by_hand(psf, values, frame), rtol=1e-9
    )


@pytest.mark.parametrize(
    "z_nm",
    [
        pytest.param((-440, 140), id="all slices"),
        pytest.param((10, 11), id="one slice"),
        pytest.param((900, 901), id="beyond"),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 60])
def test_tensors_with_and_without_gradient_are_drawn_alike(count, z_nm):
    psf = random_psf()
    values, frame = emitters(count, z_nm=z_nm)
    expected = psf.render(*values, frame, *SHAPE)
    tensors = [torch.from_numpy(value) for value in values]
    plain = psf.render(*tensors, torch.from_numpy(frame), *SHAPE)
    np.testing.assert_array_equal(plain.numpy(), expected)
    tensors[0].requires_grad_()
    traced = psf.render(*tensors, torch.from_numpy(frame), *SHAPE)
    assert traced.requires_grad
    np.testing.assert_allclose(traced.detach().numpy(), expected, rtol=1e-9)
    with torch.no_grad():
        quiet = psf.render(*tensors, torch.from_numpy(frame), *SHAPE)
    np.testing.assert_array_equal(quiet.numpy(), expected)


@pytest.mark.parametrize("z_nm", [(-440, 140), (10, 11)], ids=["spread", "one slice"])
def test_gradients_are_the_derivatives(z_nm):
    psf = random_psf()
    values, _ = emitters(25, z_nm=z_nm)
    expected = psf.derivatives(*values)
    tensors = [torch.from_numpy(value).requires_grad_() for value in values]
    windows, _, _ = psf.roi(*tensors)
    weights = torch.from_numpy(np.random.default_rng(1).random(windows.shape))
    (windows * weights).sum().backward()
    for number, tensor in enumerate(tensors):
        by_weights = np.sum(expected[:, number] * weights.numpy(), axis=(1, 2))
        np.testing.assert_allclose(tensor.grad.numpy(), by_weights, rtol=1e-9)
    torch_derivatives = psf.derivatives(*(tensor.detach() for tensor in tensors))
    np.testing.assert_allclose(torch_derivatives.numpy(), expected, rtol=1e-9)


def test_gradients_of_frames_are_the_derivatives():
    psf = random_psf()
    values, frame = emitters(40)
    tensors = [torch.from_numpy(value).requires_grad_() for value in values]
    picture = psf.render(*tensors, torch.from_numpy(frame), *SHAPE)
    weights = np.random.default_rng(2).random(SHAPE)
    (picture * torch.from_numpy(weights)).sum().backward()
    derivatives = psf.derivatives(*values)
    _, column, row = psf.roi(*values)
    padded = np.pad(weights, ((0, 0), (9, 9), (9, 9)))
    for number, tensor in enumerate(tensors):
        expected = [
            np.sum(d * padded[f, r + 9 : r + 14, c + 9 : c + 15])
            if 0 <= f < 3 and -9 <= r < 23 and -9 <= c < 31
            else 0.0
            for d, f, r, c in zip(
                derivatives[:, number], frame, row, column, strict=True
            )
        ]
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-8, atol=1e-9)


def test_second_drawing_uses_the_coefficients_laid_out_before(monkeypatch):
    psf = random_psf()
    values, frame = emitters(5)
    tensors = [torch.from_numpy(value).requires_grad_() for value in values]
    calls = []
    monkeypatch.setattr(
        "blinkloop.optics.spline.lay_out",
        lambda *arguments: calls.append(1) or lay_out(*arguments),
    )
    for _ in range(3):
        psf.render(*values, frame, *SHAPE)
        psf.render(*tensors, torch.from_numpy(frame), *SHAPE)
    # NumPy, torch's CPU; once each.
    assert len(calls) == 2


def test_a_copy_draws_the_same():
    psf = random_psf()
    values, frame = emitters(9)
    expected = psf.render(*values, frame, *SHAPE)
    before = len(pickle.dumps(random_psf()))
    assert len(pickle.dumps(psf)) == before  # not the layout
    for twin in (pickle.loads(pickle.dumps(psf)), copy.deepcopy(psf)):
        np.testing.assert_array_equal(twin.render(*values, frame, *SHAPE), expected)


def test_windows_that_hit_the_edge_of_the_support():
    # A whole pixel: the last row and column of the window have light.
    psf, frame = random_psf(), np.zeros(3, np.int64)
    values = [
        np.array([8.5, 8.3, 9.1]),
        np.array([7.0, 7.4, 8.0]),
        np.array([3.0, 4.0, -200.0]),
        np.array([100.0, 200.0, 300.0]),
    ]
    np.testing.assert_allclose(
        psf.render(*values, frame, *SHAPE), by_hand(psf, values, frame), rtol=1e-9
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 2), (2, 1, 2)])
def test_smallest_psfs(shape):
    psf = SplinePsf(random_psf(shape=shape).coefficients, (0.0, 0.0, 0.0), 50.0)
    values = [np.array([4.0, 5.5]), np.array([3.0, 2.5]), np.zeros(2), np.ones(2)]
    frame = np.array([0, 2])
    np.testing.assert_allclose(
        psf.render(*values, frame, *SHAPE), by_hand(psf, values, frame), atol=1e-12
    )
    off_grid = [value + 0.25 for value in values]
    np.testing.assert_allclose(
        psf.render(*off_grid, frame, *SHAPE), by_hand(psf, off_grid, frame), atol=1e-12
    )


@pytest.mark.parametrize("own", [np.float32, np.float64])
@pytest.mark.parametrize("asked", [np.float32, np.float64])
def test_precision_is_the_coefficients_and_type_the_positions(own, asked):
    psf, exact = random_psf(own), random_psf()
    values, frame = emitters(20, dtype=asked)
    picture = psf.render(*values, frame, *SHAPE)
    assert picture.dtype == asked
    reference = exact.render(*(v.astype(np.float64) for v in values), frame, *SHAPE)
    # Positions in float32 are off by 1e-6 px where a random PSF is steep.
    both = own == asked == np.float64
    np.testing.assert_allclose(
        picture, reference, rtol=1e-9 if both else 2e-4, atol=0 if both else 1.0
    )


def test_coefficients_may_be_a_tensor():
    psf = random_psf()
    other = SplinePsf(torch.from_numpy(psf.coefficients), psf.reference, psf.dz_nm)
    values, frame = emitters(9)
    np.testing.assert_array_equal(
        other.render(*values, frame, *SHAPE), psf.render(*values, frame, *SHAPE)
    )


def test_vanishing_coefficients_are_left_out():
    # Products with denormal numbers take ten times as long.
    a = np.full((2, 2, 2, 64), 1e-30, np.float32)
    a[0, 0, 0, 0] = 1.0
    np.testing.assert_array_equal(np.unique(lay_out(a, a)), [0, 1])
    tiny = np.full((2, 2, 2, 64), 1e-30, np.float32)
    np.testing.assert_array_equal(lay_out(tiny, tiny), tiny.reshape(2, 64, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_draws_the_same():
    with np.load(GOLDEN) as golden:
        psf = SplinePsf(golden["coeff"], tuple(golden["ref0"]), 50.0)
        x, y, z = golden["xyz"].T
        values = [torch.from_numpy(v).cuda() for v in (x, y, z, golden["phot"])]
        frame = torch.from_numpy(golden["frame"]).cuda()
        frames = psf.render(*values, frame, 3, 32, 32).cpu().numpy()
        np.testing.assert_allclose(frames, golden["frames"].swapaxes(1, 2), atol=5e-4)
