"""A recipe for a PSF much wider than those of the bundled recipes.

A tetrapod of 5 um of depth spreads over 50 pixels. Emitters that far outside of a patch
send light into it, and at 6 emitters per um^2 forty of them lie on each other. Coarse
levels and larger patches, with which the network sees all of such a PSF, were tried and
are no better for the same minutes (docs/training-experiments.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blinkloop.optics.scene import Psf
from blinkloop.training.recipe import Recipe

__all__ = ["PsfExtent", "extent_of", "suited"]

_PLANES = 15
_SHARE = 0.9
"""Of the light. More is noise of the beads as often as light of the emitter."""

_OVERLAP = 5.0
"""At most so many emitters on the area of one; `astigmatic` is trained up to 2."""


@dataclass(frozen=True, slots=True)
class PsfExtent:
    """How wide a PSF is.

    Parameters
    ----------
    reach_px
        Half the side of the square with 90 % of the light, where the PSF is widest.
    area_px
        (sum h)^2 / sum h^2, pixels: of the spots of a range of z, the mean.
    """

    reach_px: int
    area_px: float


def extent_of(psf: Psf, z_range_nm: tuple[float, float]) -> PsfExtent:
    """How wide a PSF is within a range of z."""
    z = np.linspace(*z_range_nm, _PLANES)
    nothing = np.zeros(_PLANES)
    windows, column, row = psf.roi(nothing, nothing, z, nothing + 1.0)
    images = np.maximum(np.asarray(windows, np.float64), 0.0)
    rows, columns = images.shape[1:]
    reaches, areas = [], []
    for image, first_x, first_y in zip(images, column, row, strict=True):
        x, y = np.abs(first_x + np.arange(columns)), np.abs(first_y + np.arange(rows))
        distance = np.maximum(y[:, None], x[None, :])
        light = np.bincount(distance.ravel(), weights=image.ravel())
        whole = np.cumsum(light) / light.sum()
        reaches.append(int(np.searchsorted(whole, _SHARE)))
        areas.append(image.sum() ** 2 / np.square(image).sum())
    return PsfExtent(max(reaches), float(np.mean(areas)))


def suited(recipe: Recipe, extent: PsfExtent) -> tuple[Recipe, list[str]]:
    """The recipe with room for such a PSF, and a line per change.

    What is large enough stays as it is, so recipes of usual PSFs do not change.
    """
    said = list[str]()
    sample = recipe.sample
    margin = sample.margin_px
    if margin is not None and margin < extent.reach_px:
        sample = sample.model_copy(update={"margin_px": None})
        said.append(
            f"the PSF reaches {extent.reach_px} px: emitters send light into the "
            f"field from as far outside, not only from {margin} px"
        )
    pixel_um = recipe.camera.pixel_size_nm / 1000.0
    least, most = sample.density_per_um2
    densest = _OVERLAP / (extent.area_px * pixel_um**2)
    if densest < most:
        most = max(float(f"{densest:.2g}"), least)
        sample = sample.model_copy(update={"density_per_um2": (least, most)})
        said.append(
            f"trained up to {most:g} emitters per um^2: {_OVERLAP:g} of this PSF lie "
            f"on each other then"
        )
    return recipe.model_copy(update={"sample": sample}), said
