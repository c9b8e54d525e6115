"""Light that is there all the time: how much a pixel has above a smooth background.

A filament that autofluoresces, a fiducial or the sharp edge of a cell look like
emitters in every frame, and a network that sees three frames cannot tell. Many frames
can: where light is always there, also the darkest of them have it.

Of each pixel the first decile of some frames is taken, which emitters do not reach
unless they are on nearly always, and raised by the noise to what a dark pixel's median
would be. What this level has above (or below) its own smooth version is static light; a
smooth background is no business of this file, as networks know it.

What it gives and costs: `benchmarks/static_light.py`, docs/fit.md.

Shapes: T frames of H x W px.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.neighbours import grown
from blinkloop.optics import Camera, pixel_variance

__all__ = ["LEAST_FRAMES", "frames_wanted", "static_light"]

LEAST_FRAMES = 16
"""With fewer, what is found is more noise than light."""

_FRAMES, _BYTES = 64, 64 << 20
_DARK_SD = 1.2816
"""How far the lowest tenth of a normal variable lies below its median, in SD."""
_DARK_ERROR = 1.71
"""SD of the first decile of T normal numbers, times sqrt(T) (asymptotic)."""
_SIGNIFICANT = 4.5
"""Of the mean of 3 x 3 px, in its SD: 0.00001 of the pixels without static light."""
_NOTICED = 0.5
"""Of the same, in SD of the noise of one frame: no network takes less for an emitter,
and blinking alone leaves more than nothing."""
_GROWN_PX = 2
"""Pixels near to one that was found count, too: the feet of a spot."""
_GRID_PX, _WINDOW_PX, _WINDOW_STEP = 8, 25, 2
_ROWS_AT_ONCE_BYTES = 8 << 20

Floats = npt.NDArray[np.float32]


def frames_wanted(frame_bytes: int) -> int:
    """How many frames of this size tell the static light, at a bounded memory."""
    return int(np.clip(_BYTES // max(frame_bytes, 1), LEAST_FRAMES, _FRAMES))


def static_light(
    frames: npt.NDArray[np.generic], camera: Camera, *, everywhere: bool = False
) -> Floats:
    """What every frame holds above a smooth background.

    Parameters
    ----------
    frames
        (T, H, W) in ADU, spread over a stretch of time that is long against the
        on-time of an emitter; at least `LEAST_FRAMES`.
    camera
        Makes photons of ADU, and tells the noise.
    everywhere
        Also where it is not distinguishable from noise; else it is 0 there, so that
        frames without static light stay as they are.

    Returns
    -------
    light
        (H, W) in ADU; negative where it is darker than the smooth background.

    Raises
    ------
    ValueError
        Too few frames.
    """
    if len(frames) < LEAST_FRAMES:
        raise ValueError(f"need {LEAST_FRAMES} frames, got {len(frames)}")
    decile = camera.backward(_decile(frames))
    noise = np.sqrt(np.maximum(pixel_variance(np.maximum(decile, 0), camera), 1e-6))
    level = decile + np.float32(_DARK_SD) * noise
    light = np.asarray(level - _smooth(level), np.float32)
    dark, one = camera.backward(np.array([[[0]], [[1]]], np.float32))
    light_adu = np.asarray(light / (one - dark), np.float32)
    if everywhere:
        return light_adu
    # Nine pixels are averaged: their noise is a third.
    error = _DARK_ERROR * noise / np.sqrt(len(frames)) / 3
    least = np.maximum(_SIGNIFICANT * error, _NOTICED * noise)
    found = np.abs(_mean_of_nine(light)) > least
    light_adu[~grown(found, _GROWN_PX)] = 0
    return light_adu


def _decile(frames: npt.NDArray[np.generic]) -> Floats:
    """(H, W) first decile of each pixel, a few rows at a time."""
    count, height, width = frames.shape
    order = (count - 1) // 10
    rows = max(_ROWS_AT_ONCE_BYTES // (count * width * frames.itemsize), 1)
    decile = np.empty((height, width), np.float32)
    for top in range(0, height, rows):
        slab = np.moveaxis(frames[:, top : top + rows], 0, -1).copy()
        slab.partition(order, axis=-1)  # sorts in memory of its own
        decile[top : top + rows] = slab[..., order]
    return decile


def _smooth(level: Floats) -> npt.NDArray[np.float64]:
    """(H, W) level around each pixel, without what fills less than half of a window."""
    height, width = level.shape
    rows, columns = _grid(height), _grid(width)
    half = _WINDOW_PX // 2
    around = np.pad(level, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(
        around, (_WINDOW_PX, _WINDOW_PX)
    )[:, :, ::_WINDOW_STEP, ::_WINDOW_STEP]
    coarse = np.stack(
        [np.median(windows[row][columns].reshape(len(columns), -1), -1) for row in rows]
    )
    coarse = _softened(_softened(coarse).T).T
    wide = np.stack([np.interp(np.arange(width), columns, line) for line in coarse])
    return np.stack([np.interp(np.arange(height), rows, line) for line in wide.T], 1)


def _grid(size: int) -> npt.NDArray[np.intp]:
    """Every eighth pixel, and the last."""
    return np.unique(np.append(np.arange(0, size, _GRID_PX), size - 1))


def _softened(lines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Along the first axis by a binomial of 5: an SD of one point of the grid."""
    padded = np.pad(lines, ((2, 2), (0, 0)), mode="edge")
    parts = [padded[shift : shift + len(lines)] for shift in range(5)]
    return (parts[0] + 4 * parts[1] + 6 * parts[2] + 4 * parts[3] + parts[4]) / 16


def _mean_of_nine(values: Floats) -> Floats:
    """Of each pixel and the eight beside it."""
    height, width = values.shape
    padded = np.pad(values, 1, mode="edge")
    total: Floats = np.zeros_like(values)
    for down in range(3):
        for right in range(3):
            total += padded[down : down + height, right : right + width]
    total /= 9
    return total
