"""Pixels beside pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["grown"]


def grown(found: npt.NDArray[np.bool_], reach_px: int) -> npt.NDArray[np.bool_]:
    """Pixels with a found one at most `reach_px` rows and columns away.

    Parameters
    ----------
    found
        (H, W).
    reach_px
        0 gives `found` itself.
    """
    height, width = found.shape
    padded = np.pad(found, reach_px)
    near = np.zeros_like(found)
    for down in range(2 * reach_px + 1):
        for right in range(2 * reach_px + 1):
            near |= padded[down : down + height, right : right + width]
    return near
