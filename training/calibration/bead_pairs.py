"""Two beads side by side that were taken for one, and one that was taken for two.

The lobes of an engineered PSF turn or move apart with height; two beads keep their
distance. So two spots with one displacement in many slices are two beads.

Lobes that hardly turn, as those of a double helix over a small part of its turn, look
like two beads, but every bead of the field shows them, with one displacement.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop import extras

__all__ = ["lobe_distance_px", "twin_distance_px"]

Floats = npt.NDArray[np.float64]

_SECOND = 0.35
"""Height of the second spot, relative to the first."""
_SAME_PX = 1.0
_SHARE = 0.35
"""Slices that show the same pair; a double helix of 180 degrees has 0.1 to 0.2."""

_FEWEST_PAIRS = 2
_PAIRED, _STRONG = 0.75, 0.25
"""Share of the spots this bright, relative to the brightest, that are in pairs."""
_LIKE_PX, _LIKE_SHARE, _LIKE_RESPONSE = 1.0, 0.1, 0.5
"""Displacements that differ by so many px and this share of them are one."""
_ALONE = 1.4
"""Distance of the third spot, relative to that of the pair."""


def lobe_distance_px(
    column: npt.NDArray[np.integer], row: npt.NDArray[np.integer], response: Floats
) -> float:
    """Distance of two lobes when the spots of a field are lobes; 0: they are beads.

    Pairs of equally bright spots with one displacement, each with no third spot near:
    in a grid of beads every spot has several neighbours at the same distance.

    Parameters
    ----------
    column, row
        (N,) places of the spots in px.
    response
        (N,) how bright each is.
    """
    strong = response > _STRONG * response.max(initial=0.0)
    at = np.stack([column[strong], row[strong]], 1).astype(np.float64)
    bright = response[strong]
    count = len(at)
    if count < 2 * _FEWEST_PAIRS:
        return 0.0
    away = np.linalg.norm(at[:, None] - at[None], axis=2)
    np.fill_diagonal(away, np.inf)
    nearest = away.argmin(1)
    alone = np.partition(away, 1, axis=1)[:, 1] >= _ALONE * away.min(1)
    vectors = []
    for one, other in enumerate(nearest):
        if one > other or nearest[other] != one or not (alone[one] and alone[other]):
            continue
        low, high = sorted((bright[one], bright[other]))
        if low >= _LIKE_RESPONSE * high:
            vectors.append(at[other] - at[one])
    if len(vectors) < _FEWEST_PAIRS:
        return 0.0
    apart = np.array(vectors)
    # A pair has no order: v and -v are one displacement.
    same, turned = (
        np.linalg.norm(apart[:, None] - sign * apart[None], axis=2) for sign in (1, -1)
    )
    length = np.linalg.norm(apart, axis=1)
    alike = np.minimum(same, turned) <= _LIKE_PX + _LIKE_SHARE * length
    most = alike[int(alike.sum(1).argmax())]
    if most.sum() < _FEWEST_PAIRS or 2 * most.sum() < _PAIRED * count:
        return 0.0
    return float(np.median(length[most]))


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
