"""Two beads side by side that were taken for one.

The lobes of an engineered PSF turn or move apart with height; two beads keep their
distance. So two spots with one displacement in many slices are two beads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop import extras

__all__ = ["twin_distance_px"]

Floats = npt.NDArray[np.float64]

_SECOND = 0.35
"""Height of the second spot, relative to the first."""
_SAME_PX = 1.0
_SHARE = 0.35
"""Slices that show the same pair; a double helix of 180 degrees has 0.1 to 0.2."""


def twin_distance_px(light: Floats) -> float:
    """Distance of two spots that keep it through the stack; 0: there is one spot.

    Parameters
    ----------
    light
        (Z, h, w) of a PSF without background.
    """
    ndimage = extras.require("scipy.ndimage", "Looking for two beads", "train")
    smooth = ndimage.gaussian_filter(light, (0.7, 0.7, 0.7))
    top = smooth == ndimage.maximum_filter(smooth, (0, 5, 5))
    pairs = []
    for image, maxima in zip(smooth, top, strict=True):
        rows, columns = np.nonzero(maxima & (image > _SECOND * image.max()))
        if len(rows) != 2:
            continue
        apart = np.array([columns[1] - columns[0], rows[1] - rows[0]], np.float64)
        pairs.append(apart if apart[0] >= 0 else -apart)
    if len(pairs) < _SHARE * len(light):
        return 0.0
    found = np.array(pairs)
    # The displacement that most slices share.
    away = np.linalg.norm(found[:, None] - found[None], axis=2) <= _SAME_PX + 1e-9
    alike = away[int(away.sum(1).argmax())]
    if alike.sum() < _SHARE * len(light):
        return 0.0
    return float(np.linalg.norm(found[alike].mean(0)))
