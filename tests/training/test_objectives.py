"""Objectives with aberrations in the simulation of a training."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from blinkloop.optics.mixed import MixedPsf
from blinkloop.schema import ObjectiveSettings, VariedGaussianPsfSettings
from blinkloop.training.microscopes import draw_psf, footprint_px
from blinkloop.training.objectives import make_objectives


def settings(**changes):
    objectives = {"count": 3, **changes}
    return VariedGaussianPsfSettings(
        sigma0_px=(0.9, 2.0),
        emitter_z_range_nm=(-250.0, 350.0),
        objectives=ObjectiveSettings(**objectives),
    )


def test_without_the_section_there_are_none():
    assert make_objectives(VariedGaussianPsfSettings()) == ()


def test_the_same_seed_gives_the_same_objectives():
    first = make_objectives(settings())
    make_objectives.cache_clear()
    for a, b in zip(first, make_objectives(settings()), strict=True):
        np.testing.assert_array_equal(a.coefficients, b.coefficients)
    other = make_objectives(settings(seed=1))
    assert not np.array_equal(first[0].coefficients, other[0].coefficients)


def test_spots_are_as_wide_as_asked_and_hold_their_light():
    ideal = settings(aberration_waves=(0.0, 0.0), astigmatism_waves=(0.0, 0.0))
    ideal = ideal.model_copy(
        update={"objectives": ideal.objectives.model_copy(update={"focus_nm": (0, 0)})}
    )
    zero = np.zeros(1, np.float32)
    for psf in make_objectives(ideal):
        assert psf.z_range_nm == pytest.approx((-250.0, 350.0))
        image = psf.render(
            zero + 12, zero + 12, zero, zero + 1, np.zeros(1, int), 1, 25, 25
        )[0]
        assert image.sum() == pytest.approx(1.0, abs=0.01)
        np.testing.assert_array_equal(np.unravel_index(image.argmax(), (25, 25)), 12)
        spread = np.sqrt(1.0 / (4 * np.pi * (image**2).sum()))
        # The rings make the footprint larger than that of the core.
        assert 0.9 * 0.9 < spread < 1.5 * 2.0


def test_movies_get_gaussians_and_objectives():
    rng = np.random.default_rng(0)
    psf = draw_psf(settings(fraction=0.5), rng, 200, 3)
    assert isinstance(psf, MixedPsf)
    which = psf.which.reshape(200, 3)
    assert (which == which[:, :1]).all()
    assert 60 < (which[:, 0] >= 0).sum() < 140
    assert set(which[:, 0]) == {-1, 0, 1, 2}
    area = footprint_px(psf, 200)
    round_ = which[:, 0] < 0
    sigma0 = psf.gaussians.sigma0_px.reshape(200, 3)[:, 0]
    np.testing.assert_allclose(area[round_], 4 * np.pi * sigma0[round_] ** 2)
    for number in range(3):
        of_one = area[which[:, 0] == number]
        assert (of_one == of_one[0]).all()
        assert 5 < of_one[0] < 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"numerical_aperture": (1.4, 1.6)}, "numerical_aperture"),
        ({"aberration_waves": (0.2, 0.1)}, "aberration_waves"),
        ({"wavelength_nm": (0.0, 600.0)}, "wavelength_nm"),
        ({"fraction": 1.5}, "fraction"),
    ],
)
def test_what_is_no_objective_is_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        ObjectiveSettings(**changes)
