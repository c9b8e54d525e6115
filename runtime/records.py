"""Records that travel along the way of a frame. Frozen, with stated units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "FrameResult", "Gap", "Roi"]


@dataclass(frozen=True, slots=True)
class Roi:
    """Region of the camera chip: column and row of its first pixel, and its size."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One camera frame.

    Parameters
    ----------
    index
        Number given by the camera, from 0; a jump means frames are missing.
    timestamp_s
        Seconds since the start of the acquisition (monotonic).
    pixels
        (height, width) in ADU, uint8, uint16 or float32.
    roi
        Where on the chip the pixels lie.
    """

    index: int
    timestamp_s: float
    pixels: npt.NDArray[np.generic]
    roi: Roi


@dataclass(frozen=True, slots=True)
class Gap:
    """Frames that never reached the analysis: `first .. first + count - 1`."""

    first: int
    count: int
    reason: str


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What the network saw in one frame.

    Parameters
    ----------
    index, timestamp_s, roi
        Of the frame.
    segment
        Number of the unbroken run of frames it belongs to.
    localizations
        (n,) of `LOCALIZATION_DTYPE`, chip coordinates (ROI offset added).
    table_full
        True when the graph's detection table overflowed: some are missing.
    count_mean, count_variance
        Sum of p and of p (1 - score) over the frame: number of emitters and its
        variance.
    block_mean
        (Hb, Wb) sum of p in blocks of 8 x 8 px.
    """

    index: int
    timestamp_s: float
    roi: Roi
    segment: int
    localizations: npt.NDArray[np.void]
    table_full: bool
    count_mean: float
    count_variance: float
    block_mean: npt.NDArray[np.float32]
