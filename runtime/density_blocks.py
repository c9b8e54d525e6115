"""Blocks of pixels whose sums of p the network gives, along one axis of an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_PX", "block_sizes", "covered_px"]

BLOCK_PX = 8
"""Side of the blocks of `FrameResult.block_mean`, px (the last ones are partial)."""


def block_sizes(length: int) -> npt.NDArray[np.float64]:
    """Pixels of each block along an axis of `length` pixels."""
    start = np.arange(0, length, BLOCK_PX)
    return np.minimum(BLOCK_PX, length - start).astype(np.float64)


def covered_px(
    first: int, length: int, region_first: int, region_length: int
) -> npt.NDArray[np.float64]:
    """Pixels of each block that lie in the region, along one axis."""
    start = first + np.arange(0, length, BLOCK_PX)
    stop = np.minimum(start + BLOCK_PX, first + length)
    low = np.maximum(start, region_first)
    high = np.minimum(stop, region_first + region_length)
    inside: npt.NDArray[np.float64] = np.maximum(high - low, 0).astype(np.float64)
    return inside
