"""Vectorial pupils: their light, their width, and what aberrations do."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.optics import GaussianPsf
from blinkloop.optics.pupil import ZERNIKE_TERMS, Pupil
from blinkloop.schema import GaussianPsfSettings


def waves(**amounts):
    names = ("oblique", "straight", "coma_y", "coma_x", "trefoil_y", "trefoil_x")
    found = [0.0] * ZERNIKE_TERMS
    for name, amount in amounts.items():
        found[[*names, "spherical"].index(name)] = amount
    return tuple(found)


def moments(image):
    """Mean x and y from the middle, and the SD along each, in px."""
    places = np.arange(len(image)) - len(image) // 2
    across, down = image.sum(0) / image.sum(), image.sum(1) / image.sum()
    x, y = across @ places, down @ places
    return x, y, np.sqrt(across @ (places - x) ** 2), np.sqrt(down @ (places - y) ** 2)


def test_a_large_window_holds_nearly_all_light():
    small, large = (Pupil(1.4, 680.0).samples([0.0], 100.0, n)[0] for n in (6, 30))
    assert 0.85 < small.sum() < large.sum() < 1.0
    assert large.sum() > 0.97


def test_focus_is_the_gaussian_it_is_said_to_be():
    for na, wavelength_nm in ((1.1, 520.0), (1.4, 680.0)):
        pupil = Pupil(na, wavelength_nm)
        image = pupil.samples([0.0], 80.0, 12)[0]
        errors = []
        for factor in (0.85, 1.0, 1.15):
            psf = GaussianPsf(
                GaussianPsfSettings(
                    sigma0_px=factor * pupil.sigma_nm / 80.0, astigmatism_nm=0.0
                )
            )
            at = np.array([12.0])
            spot = psf.render(at, at, 0 * at, 0 * at + 1, np.zeros(1, int), 1, 25, 25)[
                0
            ]
            share = (spot * image).sum() / (spot**2).sum()
            errors.append(((image - share * spot) ** 2).sum())
        assert errors[1] < min(errors[0], errors[2])


def test_without_aberrations_it_is_symmetric_in_x_y_and_z():
    up, focus, down = Pupil(1.4, 680.0).samples([250.0, 0.0, -250.0], 100.0, 10)
    np.testing.assert_allclose(up, down, atol=1e-9)
    np.testing.assert_allclose(focus, focus.T, atol=1e-9)
    np.testing.assert_allclose(focus, focus[:, ::-1], atol=1e-9)
    assert up.max() < 0.7 * focus.max()


def test_astigmatism_makes_it_wide_along_one_axis_and_then_the_other():
    pupil = Pupil(1.4, 680.0, waves(straight=0.12))
    up, down = pupil.samples([300.0, -300.0], 100.0, 8)
    wide, narrow = moments(up)[2:]
    assert abs(wide - narrow) > 0.3
    np.testing.assert_allclose(up, down.T, atol=1e-9)
    oblique = Pupil(1.4, 680.0, waves(oblique=0.12)).samples([300.0], 100.0, 8)[0]
    assert moments(oblique)[2] == pytest.approx(moments(oblique)[3])


@pytest.mark.parametrize("name", ["coma_x", "coma_y"])
def test_the_core_stays_in_the_middle_of_a_lopsided_spot(name):
    pupil = Pupil(1.4, 680.0, waves(**{name: 0.09, "spherical": 0.06}))
    for image in pupil.samples([-300.0, 0.0, 300.0], 100.0, 10):
        row, column = np.unravel_index(image.argmax(), image.shape)
        assert max(abs(row - 10), abs(column - 10)) <= 1
        away = np.hypot(*np.meshgrid(np.arange(-10, 11), np.arange(-10, 11)))
        core = image * np.exp(-0.5 * (away / 2.0) ** 2)
        assert max(abs(value) for value in moments(core)[:2]) < 0.1
        # The tail is still there.
        assert max(abs(value) for value in moments(image)[:2]) > 0.02


def test_spherical_aberration_tells_above_from_below():
    up, down = Pupil(1.4, 680.0, waves(spherical=0.1)).samples([300, -300], 100.0, 8)
    assert up.max() > 1.2 * down.max() or down.max() > 1.2 * up.max()
