"""The right PSF passes at any density; wrong ones are named."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.psf_check import PsfAgreement, PsfCheck
from blinkloop.schema import (
    LOCALIZATION_DTYPE,
    CameraSettings,
    GaussianPsfSettings,
)

RIGHT = GaussianPsfSettings()
CAMERA = CameraSettings(baseline_adu=100, e_per_adu=0.5, read_noise_e=1.5)


def _agreement(
    truth: GaussianPsfSettings,
    *,
    density_per_um2: float,
    photons: float,
    missed: float = 0.2,
    camera: CameraSettings = CAMERA,
    frames: int = 12,
    origin: tuple[int, int] = (0, 0),
) -> PsfAgreement:
    """Frames of `truth`, compared with `RIGHT` at errors as a network makes them."""
    rng = np.random.default_rng(7)
    height, width = 63, 85
    check = PsfCheck(GaussianPsf(RIGHT), camera)
    for _ in range(frames):
        count = rng.poisson(density_per_um2 * height * width * 0.01)
        x, y = rng.uniform(0, width - 1, count), rng.uniform(0, height - 1, count)
        z = rng.uniform(-500, 500, count)
        n = 50 + rng.exponential(photons, count)
        zero = np.zeros(count, np.int64)
        image = GaussianPsf(truth).render(x, y, z, n, zero, 1, height, width)[0] + 20
        adu = Camera(camera).forward(image, rng)
        rows = np.zeros(count, LOCALIZATION_DTYPE)
        rows["x_px"] = x + rng.normal(0, 0.15, count) + origin[0]
        rows["y_px"] = y + rng.normal(0, 0.15, count) + origin[1]
        rows["z_nm"] = z + rng.normal(0, 30, count)
        rows["photons"] = n * rng.normal(1, 0.1, count)
        rows["prob"] = 0.9
        found = rows[rng.random(count) >= missed]
        check.add(Camera(camera).backward(adu), found, origin=origin)
    return check.result()


@pytest.mark.parametrize(
    ("density", "photons", "missed"),
    [(0.1, 3000, 0.0), (0.5, 3000, 0.3), (0.5, 500, 0.4), (2.0, 1500, 0.5)],
    ids=["sparse", "dense", "dim", "crowded"],
)
def test_right_psf_passes(density: float, photons: float, missed: float) -> None:
    found = _agreement(
        RIGHT,
        density_per_um2=density,
        photons=photons,
        missed=missed,
        frames=max(15, int(6 / density)),
    )
    assert found.correlation == pytest.approx(1, abs=0.02)
    assert found.warning is None
    assert found.patches >= 30


def test_right_psf_passes_with_an_emccd_and_a_region_of_the_chip() -> None:
    camera = CameraSettings(
        kind="emccd", em_gain=300, e_per_adu=45, read_noise_e=74, quantum_efficiency=0.9
    )
    found = _agreement(
        RIGHT, density_per_um2=0.4, photons=3000, camera=camera, origin=(512, 40)
    )
    assert found.correlation == pytest.approx(1, abs=0.02)
    assert found.warning is None


@pytest.mark.parametrize(
    "truth",
    [
        GaussianPsfSettings(astigmatism_nm=-250),
        GaussianPsfSettings(astigmatism_nm=0, sigma0_px=2.5),
        GaussianPsfSettings(sigma0_px=2.0),
        GaussianPsfSettings(sigma0_px=0.7),
    ],
    ids=["exchanged_axes", "wide_2d", "wide", "narrow"],
)
def test_wrong_psf_is_named(truth: GaussianPsfSettings) -> None:
    found = _agreement(truth, density_per_um2=0.4, photons=3000)
    assert found.correlation < 0.95
    assert found.warning is not None
    assert "does not look like" in found.warning


def test_chi2_is_one_when_all_is_found() -> None:
    rng = np.random.default_rng(3)
    check = PsfCheck(GaussianPsf(RIGHT), CAMERA)
    for _ in range(40):
        rows = np.zeros(1, LOCALIZATION_DTYPE)
        rows["x_px"], rows["y_px"], rows["photons"] = 20.3, 15.1, 1500
        rows["prob"] = 1
        x, y = rows["x_px"], rows["y_px"]
        n = rows["photons"].astype(float)
        image = GaussianPsf(RIGHT).render(
            x, y, 0 * n, n, np.zeros(1, np.int64), 1, 31, 43
        )[0]
        check.add(
            Camera(CAMERA).backward(Camera(CAMERA).forward(image + 10, rng)), rows
        )
    assert check.result().chi2 == pytest.approx(1, abs=0.1)


def test_noise_alone_and_nothing_draw_no_warning() -> None:
    rng = np.random.default_rng(5)
    check = PsfCheck(GaussianPsf(RIGHT), CAMERA)
    rows = np.zeros(30, LOCALIZATION_DTYPE)
    for _ in range(10):
        rows["x_px"], rows["y_px"] = rng.uniform(0, 50, 30), rng.uniform(0, 30, 30)
        rows["photons"], rows["prob"] = 200, 0.9
        check.add(rng.poisson(20, (31, 51)).astype(float), rows)
        check.add(rng.poisson(20, (31, 51)).astype(float), rows[:0])
    assert check.result().patches >= 30
    nothing = PsfCheck(GaussianPsf(RIGHT), CAMERA).result()
    assert (nothing.patches, nothing.warning) == (0, None)
    assert np.isnan(nothing.correlation)
