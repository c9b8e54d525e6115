"""A recipe makes room for a PSF wider than the bundled ones, and only then."""

from __future__ import annotations

import math

import pytest

from blinkloop.optics import GaussianPsf
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training.recipes import load_recipe
from blinkloop.training.wide_psf import PsfExtent, extent_of, suited

ASTIGMATIC = load_recipe("astigmatic")


def round_psf(sigma_px: float) -> GaussianPsf:
    flat = {"astigmatism_nm": 0.0, "z_range_nm": (0.0, 0.0)}
    return GaussianPsf(GaussianPsfSettings(sigma0_px=sigma_px, **flat))


@pytest.mark.parametrize("sigma_px", [1.5, 4.0, 11.0])
def test_extent_of_a_gaussian(sigma_px: float) -> None:
    extent = extent_of(round_psf(sigma_px), (0.0, 0.0))
    # 1.95 SDs to each side hold sqrt(0.9) along one axis; pixels are half a one wide.
    assert extent.reach_px == math.ceil(1.949 * sigma_px - 0.5)
    assert extent.area_px == pytest.approx(4 * math.pi * sigma_px**2, rel=0.05)


def test_the_widest_spot_counts_and_the_mean_area() -> None:
    psf = GaussianPsf(GaussianPsfSettings())
    near, far = extent_of(psf, (-100.0, 100.0)), extent_of(psf, (-900.0, 100.0))
    assert far.reach_px > near.reach_px
    assert far.area_px > near.area_px
    assert far == extent_of(psf, (100.0, -900.0))


@pytest.mark.parametrize("name", ["astigmatic", "astigmatic-scmos", "astigmatic-small"])
def test_usual_psfs_change_nothing(name: str) -> None:
    recipe = load_recipe(name)
    psf = GaussianPsf(GaussianPsfSettings(sigma0_px=1.3, z_range_nm=(-600.0, 600.0)))
    same, said = suited(recipe, extent_of(psf, (-600.0, 600.0)))
    assert said == []
    assert same == recipe


@pytest.mark.parametrize(("reach_px", "margin_px"), [(10, 10), (11, None)])
def test_light_comes_from_as_far_as_the_psf_reaches(
    reach_px: int, margin_px: int | None
) -> None:
    made, said = suited(ASTIGMATIC, PsfExtent(reach_px, 30.0))
    assert made.sample.margin_px == margin_px
    assert made.sample.density_per_um2 == ASTIGMATIC.sample.density_per_um2
    assert len(said) == (margin_px is None)
    if margin_px is None:  # as far as any PSF reaches
        assert suited(made, PsfExtent(99, 30.0)) == (made, [])


def test_a_large_spot_is_trained_at_lower_densities() -> None:
    made, said = suited(ASTIGMATIC, PsfExtent(10, 500.0))
    # 500 px of 0.01 um^2: five on each other are one per um^2.
    assert made.sample.density_per_um2 == (0.03, 1.0)
    assert "up to 1 emitters per um^2: 5 of this PSF lie on each other" in said[0]
    assert made.model_dump(exclude={"sample"}) == ASTIGMATIC.model_dump(
        exclude={"sample"}
    )
    # Larger than any: the range does not turn round.
    assert suited(ASTIGMATIC, PsfExtent(10, 1e6))[0].sample.density_per_um2 == (
        0.03,
        0.03,
    )
