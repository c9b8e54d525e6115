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

Floats = npt.NDArray[np.float64]

_MOST, _FEWEST_HEIGHTS = 20, 5
_BRIGHT = 0.02
_CLEARLY = 6.0
"""Standard errors by which heights differ more than frames of one height."""
_FARTHER = 1.7
"""Frames of neighbouring heights differ alike, whichever are taken: 1; of a stack
without repeats the farther ones differ more: 2 or above."""


def frames_per_height(pixels_ZHW: npt.NDArray[np.floating | np.integer]) -> int:
    """Frames taken at each height; 1 when every frame has a height of its own.

    Parameters
    ----------
    pixels_ZHW
        (Z, H, W) of a stack.
    """
    depth = len(pixels_ZHW)
    bright = _bright(pixels_ZHW)
    fitting = [
        n
        for n in range(2, min(_MOST, depth // _FEWEST_HEIGHTS) + 1)
        if depth % n == 0 and _repeats(bright, n)
    ]
    # Frames in groups of 6 are in groups of 2 and of 3, too.
    return max(fitting, default=1)


def _bright(pixels_ZHW: npt.NDArray[np.floating | np.integer]) -> Floats:
    """(Z, B) the pixels that change most, each the mean of 3 x 3."""
    depth, height, width = pixels_ZHW.shape
    flat = pixels_ZHW.reshape(depth, -1)
    lowest, highest = (np.asarray(f(flat, 0), np.float64) for f in (np.min, np.max))
    swing = highest - lowest
    count = max(25, int(_BRIGHT * swing.size))
    at = np.argsort(swing, kind="stable")[-count:]
    rows, columns = np.divmod(at, width)
    mean = np.zeros((depth, len(at)))
    for y in (-1, 0, 1):
        for x in (-1, 0, 1):
            inside = (rows + y).clip(0, height - 1), (columns + x).clip(0, width - 1)
            mean += pixels_ZHW[:, inside[0], inside[1]]
    return mean / 9


def _repeats(bright_ZB: Floats, n: int) -> bool:
    """Whether frames come in groups of `n` that differ by noise only.

    The last frame of a height and the first of the next are one step apart; so are the
    first and the last, when these are repeats.
    """
    heights = bright_ZB.reshape(-1, n, bright_ZB.shape[1])
    within = _change(heights[:, 1:], heights[:, :-1])
    close = _change(heights[1:, 0], heights[:-1, -1])
    far = _change(heights[1:, -1], heights[:-1, 0])
    # Each step against the frames before and after it: light changes along the stack.
    usual = within.mean(1)
    more = close - (usual[1:] + usual[:-1]) / 2
    spread = float(np.std(within)) * np.sqrt((1 + 1 / (n - 1)) / len(close))
    step = float(more.mean())
    # A spread from few heights is itself not known well.
    if step <= _CLEARLY * (1 + 8 / len(close)) * spread:
        return False
    farther = float((far - (usual[1:] + usual[:-1]) / 2).mean())
    return farther < _FARTHER * step


def _change(one: Floats, other: Floats) -> Floats:
    change: Floats = ((one - other) ** 2).mean(-1)
    return change


def averaged(stack: BeadStack, n: int) -> BeadStack:
    """A stack with one frame, their mean, per height of `n` frames."""
    pixels = stack.pixels
    # A pixel that is full in one frame is full in the mean.
    groups = pixels.reshape(-1, n, *pixels.shape[1:]).astype(np.float32)
    mean = groups.mean(1)
    if stack.saturated_adu is not None:
        mean = np.where(groups.max(1) >= stack.saturated_adu, groups.max(1), mean)
    return replace(stack, pixels=mean)
