"""Cramer-Rao bounds of emitters at their true parameters, under a condition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.evaluation.condition import Condition
from blinkloop.optics import crlb

__all__ = ["bounds_nm2", "reach_px"]

Table = npt.NDArray[np.void]

_AT_ONCE = 500
"""Emitters drawn at a time; bounds the memory of the windows."""


def bounds_nm2(
    truth: Table, condition: Condition, *, three_dimensional: bool
) -> npt.NDArray[np.float64]:
    """Lower bounds of the variances of x, y and, in 3D, z of single emitters.

    Position, photons and background are unknown; in 2D the width of the PSF is taken to
    be known, so z is not among the unknowns. Other emitters do not exist, and one frame
    is all there is. The noise is that of the camera: EM excess noise and read noise
    included.

    Parameters
    ----------
    truth
        (N,) of `EMITTER_DTYPE` with positive photons and background.

    Returns
    -------
    array
        (N, 3 or 2) in nm^2; infinite where a parameter does not show.
    """
    wanted = [0, 1, 2, 3, 4] if three_dimensional else [0, 1, 3, 4]
    axes = 3 if three_dimensional else 2
    scale = np.array([condition.pixel_size_nm**2] * 2 + [1.0])[:axes]
    parts = [np.zeros((0, axes))]
    for first in range(0, len(truth), _AT_ONCE):
        rows = truth[first : first + _AT_ONCE]
        place = [
            rows[name].astype(np.float64)
            for name in ("x_px", "y_px", "z_nm", "photons")
        ]
        images, _, _ = condition.psf.roi(*place)
        slopes = condition.psf.derivatives(*place)[:, wanted]
        background = rows["background_photons"].astype(np.float64)
        model = np.maximum(images, 0.0) + background[:, None, None]
        bound = crlb(slopes, model, camera=condition.noise)
        parts.append(bound[:, :axes] * scale)
    return np.concatenate(parts)


def reach_px(condition: Condition) -> int:
    """Half the side of the window that holds an emitter's light anywhere in z."""
    ends = np.array(condition.z_range_nm, np.float64)
    images, _, _ = condition.psf.roi(0 * ends, 0 * ends, ends, 0 * ends + 1)
    return int(max(images.shape[1:]) // 2)
