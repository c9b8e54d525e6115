"""From counts to colours that a printer and a colour-blind eye still order.

The colour map is a cubehelix (Green 2011, Bull. Astron. Soc. India 39, 289,
arXiv:1108.5083): perceived brightness rises steadily from black to white while the hue
turns, here from violet over red to yellow.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError

__all__ = ["cubehelix", "to_depth_rgb", "to_rgb", "to_unit"]

_START = 0.25
_ROTATIONS = 0.45
_HUE = 2.6


def cubehelix(levels: int = 256) -> npt.NDArray[np.uint8]:
    """(levels, 3) RGB from black to white; brightness never falls."""
    if levels < 2:
        raise InputError(f"colour map: needs at least 2 levels, got {levels}")
    level = np.linspace(0.0, 1.0, levels)
    angle = 2.0 * np.pi * (_START / 3.0 + 1.0 + _ROTATIONS * level)
    amplitude = _HUE * level * (1.0 - level) / 2.0
    turn = np.stack([np.cos(angle), np.sin(angle)])
    plane = np.array(
        [[-0.14861, 1.78277], [-0.29227, -0.90649], [1.97294, 0.0]], np.float64
    )
    rgb = level[:, None] + amplitude[:, None] * (plane @ turn).T
    colours: npt.NDArray[np.uint8] = np.rint(255.0 * np.clip(rgb, 0.0, 1.0)).astype(
        np.uint8
    )
    return colours


def to_unit(
    picture: npt.ArrayLike, *, quantile: float = 0.999, gamma: float = 1.0
) -> npt.NDArray[np.float64]:
    """Scale counts to 0 .. 1 for display.

    Parameters
    ----------
    picture
        Counts of any shape, not negative; what is not finite becomes 0.
    quantile
        Of the pixels that hold something; it and all above become 1.
    gamma
        Exponent after scaling; below 1 lifts dim structures.
    """
    if not (0.0 < quantile <= 1.0 and gamma > 0.0):
        raise InputError(
            f"display: quantile must be in (0, 1] and gamma positive, got {quantile} "
            f"and {gamma}"
        )
    # In place: a picture of a whole chip has a hundred million pixels.
    counts = np.array(picture, np.float64)
    counts[~np.isfinite(counts)] = 0.0
    np.maximum(counts, 0.0, out=counts)
    lit = counts[counts > 0]
    if not lit.size:
        return counts
    counts /= np.quantile(lit, quantile)
    np.minimum(counts, 1.0, out=counts)
    counts **= gamma
    return counts


def to_rgb(
    picture: npt.ArrayLike, *, quantile: float = 0.999, gamma: float = 1.0
) -> npt.NDArray[np.uint8]:
    """Counts (H, W) to a picture (H, W, 3) in the colour map; see `to_unit`."""
    colours = cubehelix()
    unit = to_unit(picture, quantile=quantile, gamma=gamma)
    unit *= len(colours) - 1
    return colours[np.rint(unit, out=unit).astype(np.uint8)]


def to_depth_rgb(
    picture: npt.ArrayLike,
    depth: npt.ArrayLike,
    low: float,
    high: float,
    *,
    quantile: float = 0.999,
    gamma: float = 1.0,
) -> npt.NDArray[np.uint8]:
    """Counts (H, W) as brightness and depth (H, W) as hue, blue to red: (H, W, 3).

    Parameters
    ----------
    picture, quantile, gamma
        See `to_unit`.
    depth
        Anything where nothing is counted; beyond `low` and `high` as at these.
    low, high
        Depth that is blue, and red; over cyan, green and yellow.

    Raises
    ------
    InputError
        When `high` is not above `low`.
    """
    if not low < high:
        raise InputError(f"depth colours: {low} to {high} is no range")
    unit = to_unit(picture, quantile=quantile, gamma=gamma)
    share = (np.asarray(depth, np.float64) - low) / (high - low)
    share = np.clip(np.where(np.isfinite(share), share, 0.0), 0.0, 1.0)
    # Four ramps of a hue circle without its purple part.
    at = np.arange(5) / 4
    rgb = np.stack(
        [
            np.interp(share, at, channel)
            for channel in ([0, 0, 0, 1, 1], [0, 1, 1, 1, 0], [1, 1, 0, 0, 0])
        ],
        axis=-1,
    )
    # Pure blue is dark: a third of white makes every hue visible.
    rgb = (rgb + 0.5) / 1.5
    colours: npt.NDArray[np.uint8] = np.rint(255 * rgb * unit[..., None]).astype(
        np.uint8
    )
    return colours
