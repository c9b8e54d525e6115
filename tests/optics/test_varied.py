"""PSFs and cameras that differ between frames equal the fixed ones frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.varied import VariedCamera, VariedGaussianPsf
from blinkloop.schema import CameraSettings, GaussianPsfSettings

WIDTHS, SHIFTS, DEPTHS = (0.8, 1.4, 2.1), (0.0, 250.0, -300.0), (300.0, 280.0, 500.0)
VARIED = VariedGaussianPsf(*(np.array(v) for v in (WIDTHS, SHIFTS, DEPTHS)))


def emitters(count=30, frames=3):
    rng = np.random.default_rng(5)
    return (
        rng.uniform(-3, 19, count),
        rng.uniform(-3, 13, count),
        rng.uniform(-300, 300, count),
        rng.uniform(100, 2000, count),
        rng.integers(0, frames, count),
    )


def test_each_frame_is_drawn_with_its_own_psf():
    x, y, z, photons, frame = emitters()
    images = VARIED.render(x, y, z, photons, frame, 3, 11, 17)
    for index, facts in enumerate(zip(WIDTHS, SHIFTS, DEPTHS, strict=True)):
        sigma0, shift, depth = facts
        psf = GaussianPsf(
            GaussianPsfSettings(sigma0_px=sigma0, astigmatism_nm=shift, depth_nm=depth)
        )
        here = frame == index
        alone = psf.render(
            x[here], y[here], z[here], photons[here], 0 * frame[here], 1, 11, 17
        )
        np.testing.assert_allclose(images[index], alone[0], rtol=1e-9, atol=1e-9)


def test_a_part_is_that_part():
    x, y, z, photons, frame = emitters()
    whole = VARIED.render(x, y, z, photons, frame, 3, 11, 17)
    part = VARIED.for_frames(1, 3).render(x, y, z, photons, frame - 1, 2, 11, 17)
    np.testing.assert_allclose(part, whole[1:], atol=1e-9)


def test_torch_draws_the_same():
    torch = pytest.importorskip("torch")
    arrays = emitters()
    tensors = [torch.as_tensor(a) for a in arrays]
    ours = VARIED.render(*arrays, 3, 11, 17)
    theirs = VARIED.render(*tensors, 3, 11, 17)
    np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-6)


def column(*values):
    return np.array(values)[:, None, None]


def cameras(**other):
    """An ideal camera, an sCMOS and an EMCCD."""
    return VariedCamera(
        multiplied=np.array([False, False, True]),
        read_noise_e=column(0.0, 2.5, 0.25),
        spurious_e=column(0.0, 0.0, 0.02),
        e_per_adu=column(0.1, 0.5, 0.15),
        baseline_adu=column(100.0, 100.0, 100.0),
        **other,
    )


FIXED = (
    CameraSettings(kind="ideal", e_per_adu=0.1),
    CameraSettings(kind="scmos", e_per_adu=0.5, read_noise_e=2.5),
    CameraSettings(
        kind="emccd", em_gain=300, e_per_adu=45, read_noise_e=75, spurious_e=0.02
    ),
)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_statistics_are_those_of_the_fixed_cameras(library):
    expected = np.full((3, 300, 410), 20.0, np.float32)
    camera = cameras()
    if library == "numpy":
        adu = camera.forward(expected, np.random.default_rng(1))
        back = camera.backward(adu)
    else:
        torch = pytest.importorskip("torch")
        rng = torch.Generator().manual_seed(1)
        tensor = camera.forward(torch.from_numpy(expected), rng)
        adu, back = tensor.numpy(), camera.backward(tensor).numpy()
    np.testing.assert_array_equal(adu, np.floor(adu))
    for index, settings in enumerate(FIXED):
        one = Camera(settings)
        other = one.backward(one.forward(expected[0], np.random.default_rng(2)))
        error = 6 * back[index].std() / np.sqrt(expected[0].size)
        np.testing.assert_allclose(back[index].mean(), other.mean(), atol=error)
        np.testing.assert_allclose(back[index].var(), other.var(), rtol=0.04)
        np.testing.assert_allclose(back[index].mean(), 20.0, atol=error)


def test_saturated_pixels_are_clipped_and_come_back_too_dim():
    camera = cameras(saturation_adu=1023.0)
    adu = camera.forward(np.full((3, 5, 7), 1e5, np.float32), np.random.default_rng(0))
    np.testing.assert_array_equal(adu, 1023.0)
    back = camera.backward(adu)
    np.testing.assert_allclose(back[1], 923 * 0.5)


def test_quantum_efficiency_is_taken_back():
    camera = cameras(quantum_efficiency=0.5)
    light = np.full((3, 300, 410), 40.0, np.float32)
    back = camera.backward(camera.forward(light, np.random.default_rng(3)))
    np.testing.assert_allclose(back.mean(axis=(1, 2)), 40.0, rtol=0.005)
    # Half the photons lost: twice the relative shot noise variance.
    np.testing.assert_allclose(back[0].var(), 80.0, rtol=0.03)


def test_a_part_of_the_cameras():
    part = cameras().for_frames(2, 3)
    assert part.multiplied.tolist() == [True]
    adu = part.forward(np.zeros((1, 3, 4), np.float32), np.random.default_rng(0))
    assert adu.shape == (1, 3, 4)
