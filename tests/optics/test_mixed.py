"""Frames of Gaussians and of splines in one stack equal each drawn alone."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.optics import SplinePsf
from blinkloop.optics.mixed import MixedPsf
from blinkloop.optics.reach import reach_px
from blinkloop.optics.varied import VariedGaussianPsf, VariedPsf

HEIGHT, WIDTH, FRAMES = 15, 22, 5


def spline(seed, columns, rows):
    rng = np.random.default_rng(seed)
    coefficients = 0.01 * rng.normal(size=(columns, rows, 4, 64))
    middle = ((columns - 1) / 2, (rows - 1) / 2, 2.0)
    return SplinePsf(coefficients, middle, 150.0)


def mixed(which=(1, -1, 0, 0, -1)):
    gaussians = VariedGaussianPsf(
        np.array([1.0, 1.3, 0.8, 2.0, 1.7]),
        np.array([0.0, 200.0, -150.0, 0.0, -250.0]),
        np.full(FRAMES, 400.0),
    )
    return MixedPsf(gaussians, (spline(0, 7, 9), spline(1, 8, 5)), np.array(which))


def emitters(count=60, frames=FRAMES):
    rng = np.random.default_rng(3)
    return (
        rng.uniform(-4, WIDTH + 3, count),
        rng.uniform(-4, HEIGHT + 3, count),
        rng.uniform(-250, 250, count),
        rng.uniform(100, 2000, count),
        rng.integers(-1, frames + 1, count),  # some beyond the stack
    )


def alone(psf, index):
    number = psf.which[index]
    if number >= 0:
        return psf.splines[number]
    return psf.gaussians.for_frames(index, index + 1)


def test_it_is_a_psf_that_varies():
    assert isinstance(mixed(), VariedPsf)
    assert not isinstance(spline(0, 7, 9), VariedPsf)


@pytest.mark.parametrize("which", [(1, -1, 0, 0, -1), (-1,) * 5, (0, 1, 0, 1, 1)])
def test_each_frame_is_drawn_with_its_own_psf(which):
    psf, (x, y, z, photons, frame) = mixed(which), emitters()
    stack = psf.render(x, y, z, photons, frame, FRAMES, HEIGHT, WIDTH)
    for index in range(FRAMES):
        here = frame == index
        one = alone(psf, index).render(
            x[here], y[here], z[here], photons[here], 0 * frame[here], 1, HEIGHT, WIDTH
        )
        np.testing.assert_allclose(stack[index], one[0], atol=1e-9)
        assert np.abs(one).max() > 1.0


def test_a_part_is_that_part():
    psf, (x, y, z, photons, frame) = mixed(), emitters()
    whole = psf.render(x, y, z, photons, frame, FRAMES, HEIGHT, WIDTH)
    part = psf.for_frames(1, 4).render(x, y, z, photons, frame - 1, 3, HEIGHT, WIDTH)
    np.testing.assert_allclose(part, whole[1:4], atol=1e-9)


def test_no_emitter_is_no_light():
    none = [np.zeros(0)] * 4
    stack = mixed().render(*none, np.zeros(0, int), FRAMES, HEIGHT, WIDTH)
    assert stack.shape == (FRAMES, HEIGHT, WIDTH)
    assert not stack.any()


def test_torch_draws_the_same():
    torch = pytest.importorskip("torch")
    arrays = emitters()
    tensors = [torch.as_tensor(a) for a in arrays]
    size = (FRAMES, HEIGHT, WIDTH)
    psf = mixed()
    theirs = psf.render(*tensors, *size).numpy()
    np.testing.assert_allclose(theirs, psf.render(*arrays, *size), atol=1e-6)
    inside = (arrays[4] >= 0) & (arrays[4] < FRAMES)
    own = psf.for_emitters(arrays[4][inside])
    ours = own.derivatives(*(a[inside] for a in arrays[:4]))
    found = own.derivatives(*(t[torch.as_tensor(inside)] for t in tensors[:4]))
    np.testing.assert_allclose(found.numpy(), ours, atol=1e-6)


def test_windows_and_derivatives_are_those_of_each_emitters_psf():
    psf, (x, y, z, photons, frame) = mixed(), emitters()
    inside = (frame >= 0) & (frame < FRAMES)
    x, y, z, photons, frame = (v[inside] for v in (x, y, z, photons, frame))
    own = psf.for_emitters(frame)
    windows, columns, rows = own.roi(x, y, z, photons)
    slopes = own.derivatives(x, y, z, photons)
    assert slopes.shape == (len(x), 5, *windows.shape[1:])
    for number in (-1, 0, 1):
        at = np.flatnonzero(psf.which[frame] == number)
        assert at.size > 3
        one = psf.gaussians.for_emitters(frame[at])
        one = psf.splines[number] if number >= 0 else one
        values = x[at], y[at], z[at], photons[at]
        lone, column, row = one.roi(*values)
        np.testing.assert_array_equal(columns[at], column)
        np.testing.assert_array_equal(rows[at], row)
        tall, wide = lone.shape[1:]
        np.testing.assert_allclose(windows[at][:, :tall, :wide], lone)
        np.testing.assert_allclose(
            slopes[at][:, :, :tall, :wide], one.derivatives(*values)
        )
        assert not windows[at][:, tall:].any()
        assert not slopes[at][..., wide:].any()


def test_reach_is_that_of_each_movie():
    psf = mixed((1, 1, -1, -1, -1)).for_frames(0, 4)
    reach = reach_px(psf, (-250.0, 250.0), 2)
    assert reach[0] == 4  # half of 8 columns
    assert reach[1] == reach_px(psf.gaussians, (-250.0, 250.0), 2)[1]
