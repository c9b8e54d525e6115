"""A PSF a little too wide or narrow is named; the right one is not, however dim."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.psf_check import PsfAgreement
from blinkloop.psf_scale_check import PsfScaleCheck
from blinkloop.schema import LOCALIZATION_DTYPE, CameraSettings, GaussianPsfSettings

OURS = GaussianPsfSettings(sigma0_px=1.1)
CAMERA = CameraSettings(baseline_adu=100, e_per_adu=0.5, read_noise_e=1.5)


def _found(
    scale: float, photons: float, density_per_um2: float, frames: int
) -> PsfAgreement:
    rng = np.random.default_rng(11)
    truth = GaussianPsf(GaussianPsfSettings(sigma0_px=1.1 * scale))
    check = PsfScaleCheck(OURS, CAMERA)
    height, width = 63, 85
    for _ in range(frames):
        count = rng.poisson(density_per_um2 * height * width * 0.01)
        x, y = rng.uniform(0, width - 1, count), rng.uniform(0, height - 1, count)
        z, n = rng.uniform(-500, 500, count), 50 + rng.exponential(photons, count)
        image = truth.render(x, y, z, n, np.zeros(count, int), 1, height, width)[0]
        adu = Camera(CAMERA).forward(image + 20, rng)
        rows = np.zeros(count, LOCALIZATION_DTYPE)
        rows["x_px"] = x + rng.normal(0, 0.15, count)
        rows["y_px"] = y + rng.normal(0, 0.15, count)
        rows["z_nm"] = z + rng.normal(0, 30, count)
        rows["photons"], rows["prob"] = n, 0.9
        check.add(Camera(CAMERA).backward(adu), rows[rng.random(count) > 0.2])
    return check.result()


@pytest.mark.parametrize(
    ("photons", "density", "frames"),
    [(3000, 0.4, 12), (500, 0.5, 20), (1500, 2.0, 8), (3000, 0.1, 40)],
    ids=["bright", "dim", "crowded", "sparse"],
)
def test_the_own_psf_passes(photons: float, density: float, frames: int) -> None:
    found = _found(1.0, photons, density, frames)
    assert found.patches >= 30
    assert found.better_scale == 1.0
    assert found.warning is None


@pytest.mark.parametrize(
    ("scale", "word"), [(1.15, "wider"), (0.85, "narrower")], ids=["wide", "narrow"]
)
@pytest.mark.parametrize("density", [0.1, 0.4])
def test_another_width_is_named(scale: float, word: str, density: float) -> None:
    said = _found(scale, 3000, density, int(25 / density**0.5)).warning
    assert said is not None
    assert f"10 % {word}" in said


def test_nothing_found_is_no_warning() -> None:
    check = PsfScaleCheck(OURS, CAMERA)
    assert check.result().warning is None
    check.add(np.zeros((31, 43)), np.zeros(0, LOCALIZATION_DTYPE))
    assert check.result().warning is None
