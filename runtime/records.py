"""Records that travel along the way of a frame, with stated units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "FrameResult", "Gap", "Roi"]

_Table = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Roi:
    """Region of the camera chip: column and row of its first pixel, and its size."""

    x: int
    y: int
    width: int
    height: int

    def common(self, other: Roi) -> Roi | None:
        """The pixels of both; None when there are none."""
        x, y = max(self.x, other.x), max(self.y, other.y)
        width = min(self.x + self.width, other.x + other.width) - x
        height = min(self.y + self.height, other.y + other.height) - y
        return Roi(x, y, width, height) if width > 0 and height > 0 else None


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


class FrameResult:
    """What the network saw in one frame. Not to be changed.

    Parameters
    ----------
    index, timestamp_s, roi
        Of the frame.
    segment
        Number of the unbroken run of frames it belongs to.
    localizations
        (n,) of `LOCALIZATION_DTYPE`, chip coordinates (ROI offset added); or what makes
        them, called when they are first asked for: the laser is set without them.
    table_full
        True when the graph's detection table overflowed: some are missing.
    count_mean, count_variance
        Sum of p and of p (1 - score) over the frame: number of emitters and its
        variance.
    block_mean
        (Hb, Wb) sum of p in blocks of 8 x 8 px.
    """

    __slots__ = (
        "_table",
        "block_mean",
        "count_mean",
        "count_variance",
        "index",
        "roi",
        "segment",
        "table_full",
        "timestamp_s",
    )

    def __init__(
        self,
        index: int,
        timestamp_s: float,
        roi: Roi,
        segment: int,
        localizations: _Table | Callable[[], _Table],
        table_full: bool,
        count_mean: float,
        count_variance: float,
        block_mean: npt.NDArray[np.float32],
    ) -> None:
        self.index, self.timestamp_s, self.roi = index, timestamp_s, roi
        self.segment = segment
        self._table = localizations
        self.table_full = table_full
        self.count_mean, self.count_variance = count_mean, count_variance
        self.block_mean = block_mean

    @property
    def localizations(self) -> _Table:
        """(n,) of `LOCALIZATION_DTYPE`."""
        table = self._table
        if callable(table):
            # Two threads that ask at once both make them, and they are the same.
            table = self._table = table()
        return table
