"""Camera: statistics of the noise, range of the ADC, way back to photons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.optics import Camera
from blinkloop.schema import CameraSettings

PIXELS = 200_000
IDEAL = {"kind": "ideal", "e_per_adu": 1.0, "baseline_adu": 0.0}
SCMOS = {"kind": "scmos", "e_per_adu": 0.25, "read_noise_e": 2.5}
EMCCD = {
    "kind": "emccd",
    "em_gain": 300.0,
    "e_per_adu": 45.0,
    "read_noise_e": 74.4,
    "spurious_e": 0.002,
    "quantum_efficiency": 0.9,
}


LIBRARIES = ["numpy", "torch"]


def expose(camera, photons, library, seed=3):
    """`forward` in either library; the result is a NumPy array."""
    if library == "numpy":
        return camera.forward(photons, np.random.default_rng(seed))
    torch = pytest.importorskip("torch")
    rng = torch.Generator().manual_seed(seed)
    return camera.forward(torch.from_numpy(photons), rng).numpy()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("level", [1.5, 40.0])
@pytest.mark.parametrize(
    ("facts", "excess"),
    [
        pytest.param(IDEAL, 1, id="ideal"),
        pytest.param(SCMOS, 1, id="scmos"),
        pytest.param(EMCCD, 2, id="emccd"),
    ],
)
def test_mean_and_variance(facts, excess, level, library):
    settings = CameraSettings(**facts)
    camera = Camera(settings)
    adu = expose(camera, np.full((400, 500), level), library)
    gain = settings.em_gain
    electrons = settings.quantum_efficiency * level + settings.spurious_e
    read = 0.0 if settings.kind == "ideal" else settings.read_noise_e
    mean = electrons * gain / settings.e_per_adu + settings.baseline_adu
    variance = (excess * electrons * gain**2 + read**2) / settings.e_per_adu**2
    # Rounding adds 1/12, except to whole electrons at 1 e per ADU.
    variance += 0.0 if settings.kind == "ideal" else 1 / 12
    np.testing.assert_allclose(adu.mean(), mean, atol=5 * np.sqrt(variance / PIXELS))
    np.testing.assert_allclose(adu.var(), variance, rtol=0.03)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("facts", [SCMOS, EMCCD], ids=["scmos", "emccd"])
def test_back_is_unbiased(facts, library):
    settings = CameraSettings(**facts)
    camera = Camera(settings)
    back = camera.backward(expose(camera, np.full((400, 500), 25.0), library))
    error = 5 * back.std() / np.sqrt(PIXELS)
    np.testing.assert_allclose(back.mean(), 25.0, atol=error)


@pytest.mark.parametrize("library", LIBRARIES)
def test_mean_of_dark_frames_is_the_baseline(library):
    camera = Camera(
        CameraSettings(kind="scmos", e_per_adu=2.0, read_noise_e=3.0, baseline_adu=99.7)
    )
    dark = expose(camera, np.zeros((400, 500)), library)
    np.testing.assert_allclose(dark.mean(), 99.7, atol=5 * 1.5 / np.sqrt(PIXELS))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_saturation_clips_at_the_range_of_the_adc(bits, library):
    camera = Camera(CameraSettings(**SCMOS, bit_depth=bits))
    adu = expose(camera, np.full((5, 7), 1e6), library)
    np.testing.assert_array_equal(adu, np.full((5, 7), 2**bits - 1))


@pytest.mark.parametrize("library", LIBRARIES)
def test_dark_pixels_do_not_go_below_zero(library):
    camera = Camera(CameraSettings(kind="scmos", baseline_adu=1.0, read_noise_e=20.0))
    adu = expose(camera, np.zeros((50, 70)), library)
    assert adu.min() == 0.0
    np.testing.assert_array_equal(adu, np.floor(adu))


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_light_gives_the_baseline(library):
    camera = Camera(CameraSettings(kind="emccd", em_gain=300, read_noise_e=0.0))
    adu = expose(camera, np.zeros((9, 11), np.float32), library)
    np.testing.assert_array_equal(adu, np.full((9, 11), 100.0))
    assert adu.dtype == np.float32


@pytest.mark.parametrize("library", LIBRARIES)
def test_maps_stand_for_the_numbers(library):
    shape = (3, 5)
    pixel = np.arange(15.0).reshape(shape)
    camera = Camera(
        CameraSettings(kind="scmos"),
        offset_map_adu=100 + 10 * pixel,
        e_per_adu_map=0.5 + 0.1 * pixel,
        read_noise_map_e=1 + pixel,
    )
    adu = expose(camera, np.full((20_000, *shape), 30.0), library)
    per_adu = 0.5 + 0.1 * pixel
    variance = (30.0 + (1 + pixel) ** 2) / per_adu**2 + 1 / 12
    mean = 30.0 / per_adu + 100 + 10 * pixel
    np.testing.assert_allclose(
        adu.mean(0), mean, atol=6 * np.sqrt(variance.max() / 2e4)
    )
    np.testing.assert_allclose(adu.var(0), variance, rtol=0.07)
    back = camera.backward(adu).mean(0)
    np.testing.assert_allclose(back, 30.0, atol=0.7)


@pytest.mark.parametrize("kind", ["ideal", "scmos", "emccd"])
def test_back_is_the_same_in_torch(kind):
    torch = pytest.importorskip("torch")
    camera = Camera(CameraSettings(kind=kind, em_gain=50, spurious_e=0.1))
    adu = np.linspace(0, 65535, 35, dtype=np.float32).reshape(5, 7)
    np.testing.assert_allclose(
        camera.backward(torch.from_numpy(adu)).numpy(), camera.backward(adu), rtol=1e-6
    )


@given(
    photons=st.floats(-100, 1e5),
    gain=st.floats(1, 1000),
    qe=st.floats(0.05, 1),
    per_adu=st.floats(0.05, 50),
)
def test_back_inverts_the_mean_signal(photons, gain, qe, per_adu):
    settings = CameraSettings(
        kind="emccd",
        em_gain=gain,
        quantum_efficiency=qe,
        e_per_adu=per_adu,
        spurious_e=0.3,
    )
    signal = (qe * photons + 0.3) * gain / per_adu + settings.baseline_adu
    back = Camera(settings).backward(np.array([[signal]]))
    np.testing.assert_allclose(back, [[photons]], atol=1e-6)


def test_same_seed_same_frames():
    camera = Camera(CameraSettings(**EMCCD))
    photons = np.full((4, 6), 12.0)
    first = expose(camera, photons, "numpy", seed=1)
    np.testing.assert_array_equal(first, expose(camera, photons, "numpy", seed=1))
    assert np.any(first != expose(camera, photons, "numpy", seed=2))
