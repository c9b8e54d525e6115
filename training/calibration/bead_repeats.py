"""Several frames at each height of a bead stack.

Many programs take a burst at every position of the stage and save it as plain pages.
Frames of one height differ by noise, the first of the next height by the step, too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from blinkloop.training.calibration.bead_records import BeadStack

__all__ = ["averaged", "frames_per_height"]

_MOST, _FEWEST_HEIGHTS = 20, 5
_BRIGHT = 0.02
_LARGER, _SHARE = 2.0, 0.8


def frames_per_height(pixels_ZHW: npt.NDArray[np.floating | np.integer]) -> int:
    """Frames taken at each height; 1 when every frame has a height of its own.

    Parameters
    ----------
    pixels_ZHW
        (Z, H, W) of a stack.
    """
    depth = len(pixels_ZHW)
    flat = pixels_ZHW.reshape(depth, -1)
    lowest, highest = (np.asarray(f(flat, 0), np.float64) for f in (np.min, np.max))
    swing = highest - lowest
    count = max(25, int(_BRIGHT * swing.size))
    bright = flat[:, np.argsort(swing)[-count:]].astype(np.float64)
    change = np.mean(np.diff(bright, axis=0) ** 2, 1)
    for n in range(2, min(_MOST, depth // _FEWEST_HEIGHTS) + 1):
        if depth % n:
            continue
        # Row k: the n - 1 changes within height k, then that to the next one.
        rows = change[: depth - n].reshape(-1, n)
        larger = rows[:, -1] > _LARGER * rows[:, :-1].max(1)
        if larger.mean() >= _SHARE:
            return n
    return 1


def averaged(stack: BeadStack, n: int) -> BeadStack:
    """A stack with one frame, their mean, per height of `n` frames."""
    pixels = stack.pixels
    # A pixel that is full in one frame is full in the mean.
    groups = pixels.reshape(-1, n, *pixels.shape[1:]).astype(np.float32)
    mean = groups.mean(1)
    if stack.saturated_adu is not None:
        mean = np.where(groups.max(1) >= stack.saturated_adu, groups.max(1), mean)
    return replace(stack, pixels=mean)
