"""Where in an image detections lie, for what learns of the sample from them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.records import Roi

__all__ = ["on_image", "spread_over"]

_Floats = npt.NDArray[np.float64]


def on_image(roi: Roi, x_px: _Floats, y_px: _Floats) -> tuple[_Floats, _Floats]:
    """Positions from the image's corner, px: their whole part is column and row.

    Parameters
    ----------
    roi
        The image.
    x_px, y_px
        (n,) in pixels of the chip; those off the image, or not finite, are left out.
    """
    x, y = np.asarray(x_px) - roi.x + 0.5, np.asarray(y_px) - roi.y + 0.5
    on = (x >= 0) & (x < roi.width) & (y >= 0) & (y < roi.height)
    return x[on], y[on]


def spread_over(n: int, most: int) -> slice | npt.NDArray[np.intp]:
    """All of n, or so many of them, evenly spread."""
    return slice(n) if n <= most else np.linspace(0, n - 1, most).astype(np.intp)
