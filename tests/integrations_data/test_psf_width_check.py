"""Spots of a known width pass; wider, narrower and structured ones are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.psf_width_check import PsfWidthAgreement, PsfWidthCheck
from blinkloop.schema import (
    LOCALIZATION_DTYPE,
    CameraSettings,
    GaussianPsfSettings,
    VariedGaussianPsfSettings,
)

KNOWN = VariedGaussianPsfSettings()
CAMERA = CameraSettings()


class _Pairs:
    """Two spots 4 px apart: no Gaussian of any width."""

    def render(self, x_px: Any, *rest: Any) -> npt.NDArray[Any]:
        psf = GaussianPsf(_gaussian(0.9))
        left, right = psf.render(x_px - 2, *rest), psf.render(x_px + 2, *rest)
        return np.asarray(left + right) / 2


def _gaussian(sigma0_px: float, z_nm: float = 0.0) -> GaussianPsfSettings:
    return GaussianPsfSettings(
        sigma0_px=sigma0_px, astigmatism_nm=0.0, z_range_nm=(-z_nm, z_nm)
    )


def _agreement(psf: Any, *, z_nm: float = 0.0, frames: int = 12) -> PsfWidthAgreement:
    rng = np.random.default_rng(7)
    height, width = 63, 85
    check = PsfWidthCheck(KNOWN, CAMERA)
    for _ in range(frames):
        count = rng.poisson(0.3 * height * width * 0.01)
        x, y = rng.uniform(0, width - 1, count), rng.uniform(0, height - 1, count)
        z = rng.uniform(-z_nm, z_nm, count)
        n = 500 + rng.exponential(2000, count)
        zero = np.zeros(count, np.int64)
        image = psf.render(x, y, z, n, zero, 1, height, width)[0] + 20
        adu = Camera(CAMERA).forward(image, rng)
        rows = np.zeros(count, LOCALIZATION_DTYPE)
        rows["x_px"] = x + rng.normal(0, 0.15, count)
        rows["y_px"] = y + rng.normal(0, 0.15, count)
        rows["photons"], rows["prob"] = n, 0.9
        check.add(Camera(CAMERA).backward(adu), rows)
    return check.result()


@pytest.mark.parametrize("sigma", [0.8, 1.3, 2.1])
def test_known_widths_pass(sigma: float) -> None:
    found = _agreement(GaussianPsf(_gaussian(sigma)))
    assert found.warning is None
    # The nearest of nine widths between 0.47 and 4.4 px.
    assert found.sigma_px == pytest.approx(sigma, rel=0.2)


def test_depth_passes() -> None:
    assert _agreement(GaussianPsf(_gaussian(1.3, 400.0)), z_nm=400.0).warning is None


@pytest.mark.parametrize(
    ("sigma", "says"), [(4.0, "wider"), (0.45, "narrower")], ids=["wide", "narrow"]
)
def test_other_widths_are_named(sigma: float, says: str) -> None:
    warning = _agreement(GaussianPsf(_gaussian(sigma))).warning
    assert warning is not None
    assert says in warning
    assert "\n" not in warning


def test_other_shapes_are_named() -> None:
    warning = _agreement(_Pairs()).warning
    assert warning is not None


def test_nothing_to_compare_is_silent() -> None:
    assert _agreement(GaussianPsf(_gaussian(1.3)), frames=0).warning is None
