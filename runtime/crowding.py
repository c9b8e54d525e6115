"""The densest place of the image: sums of p over blocks, averaged over the frames kept.

Design notes
------------
Knows blocks, no frame numbers: whoever counts frames says when one enters and when the
oldest goes. Blocks are rows of a table, flat, used over and over; their sum is kept, as
the span may be long and the image large.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.density_blocks import BLOCK_PX, block_sizes, covered_px
from blinkloop.runtime.records import Roi

__all__ = ["Crowding"]

_Blocks = npt.NDArray[np.float64]
_ZERO = np.zeros(())


class Crowding:
    """Blocks of the frames kept.

    Parameters
    ----------
    pixel_um2
        Area of a pixel.
    p_floor
        Probability the network never falls below; subtracted per pixel.
    roi
        The image.
    region
        Part of the chip to look at; blocks partly inside count by their share of area.

    Attributes
    ----------
    shape
        Blocks of an image, (rows, columns).
    area_px
        Pixels of the image that lie in the region.
    """

    def __init__(
        self, pixel_um2: float, p_floor: float, roi: Roi, region: Roi | None
    ) -> None:
        region = roi if region is None else region
        rows = covered_px(roi.y, roi.height, region.y, region.height)
        columns = covered_px(roi.x, roi.width, region.x, region.width)
        block_px = np.outer(block_sizes(roi.height), block_sizes(roi.width))
        inside = np.outer(rows, columns)
        self.shape: tuple[int, int] = (rows.size, columns.size)
        self.area_px = float(inside.sum())
        self._weight: _Blocks = (inside / block_px).reshape(-1)
        self._floor: _Blocks = (p_floor * block_px).reshape(-1)
        seen = self._weight > 0
        self._inside = None if seen.all() else np.flatnonzero(seen)
        # A partial block counts as a whole one: one emitter in a sliver of pixels is
        # no crowd.
        self._um2 = min(float(BLOCK_PX**2), float(block_px.sum())) * pixel_um2
        self._kept: deque[_Blocks] = deque()
        self._spare: list[_Blocks] = []
        self._sum: _Blocks = np.zeros(block_px.size)

    def above_floor(self, block_mean: npt.NDArray[np.floating]) -> _Blocks:
        """(Hb, Wb) of a frame without the floor, flat; for `part` and `add`."""
        blocks = self._spare.pop() if self._spare else np.empty(self._sum.shape)
        np.subtract(block_mean.reshape(-1), self._floor, out=blocks)
        return blocks

    def part(self, blocks: _Blocks) -> float:
        """Emitters in the region."""
        return float(blocks.dot(self._weight))

    def add(self, blocks: _Blocks) -> None:
        """Keep a frame's."""
        np.maximum(blocks, _ZERO, out=blocks)
        self._kept.append(blocks)
        np.add(self._sum, blocks, out=self._sum)

    def drop(self, blocks: _Blocks) -> None:
        """They are not needed after all."""
        self._spare.append(blocks)

    def forget_oldest(self) -> None:
        """The frame kept longest goes."""
        blocks = self._kept.popleft()
        self._spare.append(blocks)
        if self._kept:
            np.subtract(self._sum, blocks, out=self._sum)
        else:
            self._sum.fill(0.0)  # no rounding errors are left

    def forget(self) -> None:
        """All go."""
        self._spare.extend(self._kept)
        self._kept.clear()
        self._sum.fill(0.0)

    def per_um2(self) -> float:
        """Largest mean density of a block; NaN when no frame is kept."""
        if not (self._kept and self.area_px > 0):
            return math.nan
        inside = self._sum if self._inside is None else self._sum.take(self._inside)
        # What was added and taken away again leaves rounding errors.
        most = max(float(np.maximum.reduce(inside)), 0.0) / len(self._kept)
        return most / self._um2
