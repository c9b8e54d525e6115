"""A measured PSF that lies beside its model file is compared with the data too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cards import make_card
from golden_psf import golden_calibration

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.psf_check import PsfCheck
from blinkloop.psf_file import write_psf
from blinkloop.schema import (
    LOCALIZATION_DTYPE,
    CameraSettings,
    GaussianPsfSettings,
    ModelCard,
)

CAMERA = CameraSettings(baseline_adu=100, e_per_adu=0.5, read_noise_e=1.5)


def _card(folder: Path) -> ModelCard:
    calibration = golden_calibration()
    write_psf(folder / "psf.h5", calibration)
    settings = calibration.settings(folder / "psf.h5")
    # A recipe names the file as seen from its own folder.
    psf = settings.model_copy(update={"file": "elsewhere/psf.h5"})
    return make_card().model_copy(update={"psf": psf})


@pytest.mark.parametrize("right", [True, False])
def test_spots_are_compared_with_the_measured_psf(tmp_path: Path, right: bool) -> None:
    check = PsfCheck.for_card(_card(tmp_path), CAMERA, model=tmp_path / "model.onnx")
    assert check is not None
    wide = GaussianPsfSettings(sigma0_px=2.2, astigmatism_nm=0)
    psf = golden_calibration().psf() if right else GaussianPsf(wide)
    rng = np.random.default_rng(7)
    for _ in range(15):
        x, y = rng.uniform(0, 84, 15), rng.uniform(0, 62, 15)
        z, n = rng.uniform(-300, 300, 15), rng.uniform(2000, 6000, 15)
        frame = psf.render(x, y, z, n, np.zeros(15, np.int64), 1, 63, 85)[0] + 20
        adu = Camera(CAMERA).forward(frame, rng)
        rows = np.zeros(15, LOCALIZATION_DTYPE)
        rows["x_px"], rows["y_px"], rows["z_nm"] = x, y, z
        rows["photons"], rows["prob"] = n, 0.9
        check.add(Camera(CAMERA).backward(adu), rows)
    found = check.result()
    if right:
        assert found.correlation == pytest.approx(1, abs=0.005)
    assert (found.warning is None) == right


def test_a_psf_that_is_not_there_or_another_one_is_not_used(tmp_path: Path) -> None:
    card = _card(tmp_path)
    assert PsfCheck.for_card(card, CAMERA) is None
    assert PsfCheck.for_card(card, CAMERA, model=tmp_path / "no" / "m.onnx") is None
    write_psf(tmp_path / "psf.h5", golden_calibration(2.0))
    assert PsfCheck.for_card(card, CAMERA, model=tmp_path / "m.onnx") is None
