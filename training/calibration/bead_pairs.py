"""Two beads side by side that were taken for one, and one that was taken for two.

The lobes of an engineered PSF turn or move apart with height; two beads keep their
distance. So two spots with one displacement in many slices are two beads.

Lobes that hardly turn, as those of a double helix over a small part of its turn, look
like two beads, but every bead of the field shows them, with one displacement. Of a
single bead they turn about the point between them, which two beads do not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop import extras

__all__ = ["lobe_distance_px", "turning_distance_px", "twin_distance_px"]

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
_TURN_PX, _UNEVEN = 1.0, 0.3
"""Way of each of two lobes across their axis; how unlike the two ways may be."""
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


def turning_distance_px(
    photons_ZHW: npt.NDArray[np.floating],
    column: npt.NDArray[np.integer],
    row: npt.NDArray[np.integer],
    response: Floats,
) -> float:
    """Distance of the only two spots when they turn about their middle; else 0.

    The brightest point on either side is followed over z. Beads move together, if at
    all; of two beads one of which is loose, one stays.

    Parameters
    ----------
    photons_ZHW
        (Z, H, W) photons; a constant offset does no harm.
    column, row, response
        (N,) places of the spots in px, and how bright each is.
    """
    ndimage = extras.require("scipy.ndimage", "Following two lobes", "train")
    strong = np.flatnonzero(response > _STRONG * response.max(initial=0.0))
    if len(strong) != 2 or response[strong].min() < _LIKE_RESPONSE * response.max():
        return 0.0
    x, y = column[strong].astype(np.float64), row[strong].astype(np.float64)
    axis = np.array([x[1] - x[0], y[1] - y[0]])
    length = float(np.linalg.norm(axis))
    axis /= length
    height, width = photons_ZHW.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    away_x, away_y = columns - x.mean(), rows - y.mean()
    along = away_x * axis[0] + away_y * axis[1]
    across = away_y * axis[0] - away_x * axis[1]
    near = np.hypot(away_x, away_y) < length
    ways = []
    for side in (near & (along > 0), near & (along < 0)):
        places = [
            across[side][int(np.argmax(image[side]))]
            for image in (ndimage.gaussian_filter(one, 1.0) for one in photons_ZHW)
        ]
        at = np.linspace(-0.5, 0.5, len(places))
        ways.append(float(np.polyfit(at, places, 1)[0]))
    one, other = ways
    against = one * other < 0 and abs(one + other) < _UNEVEN * abs(one - other)
    return length if against and min(abs(one), abs(other)) > _TURN_PX else 0.0


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
    pairs, slices = [], []
    for number, (image, maxima) in enumerate(zip(smooth, top, strict=True)):
        rows, columns = np.nonzero(maxima & (image > _SECOND * image.max()))
        if len(rows) != 2:
            continue
        apart = np.array([columns[1] - columns[0], rows[1] - rows[0]], np.float64)
        pairs.append(apart if apart[0] >= 0 else -apart)
        slices.append(number)
    if len(pairs) < _SHARE * len(light):
        return 0.0
    found = np.array(pairs)
    # The displacement that most slices share.
    away = np.linalg.norm(found[:, None] - found[None], axis=2) <= _SAME_PX + 1e-9
    alike = away[int(away.sum(1).argmax())]
    if alike.sum() < _SHARE * len(light):
        return 0.0
    usual = found[alike].mean(0)
    length = float(np.linalg.norm(usual))
    # Lobes that turn slowly are one bead: each end goes its way.
    across = (found[:, 1] * usual[0] - found[:, 0] * usual[1]) / length
    turned = np.polyfit(slices, across, 1)[0] * (len(light) - 1)
    return 0.0 if abs(turned) > 2 * _TURN_PX else length
