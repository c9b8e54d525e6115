"""Bead stacks in files of more dimensions: repeats in time, colours, positions.

A movie reader gives pages in their order; which of them are slices of one stack is
said by the axes that ImageJ, OME and tifffile write.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import installed

__all__ = ["split_stacks"]


def split_stacks(
    path: Path, pixels: npt.NDArray[Any]
) -> tuple[list[npt.NDArray[Any]], str | None]:
    """The z-stacks of a file, and a line when there are several.

    Parameters
    ----------
    path
        Where the pixels are from.
    pixels
        (N, H, W), all pages in their order.

    Raises
    ------
    InputError
        When the file holds several colours, or does not say which pages are slices.
    """
    axes = _axes(path)
    several = [(axis, n) for axis, n in axes if n > 1]
    if len(several) < 2 or math.prod(n for _, n in axes) != len(pixels):
        return [pixels], None
    names = [axis for axis, _ in several]
    sizes = [n for _, n in several]
    if "C" in names:
        raise InputError(
            f"{path}: holds {sizes[names.index('C')]} colour channels, and a PSF is of "
            f"one; save one channel as a file of its own (ImageJ: Image > Color > "
            f"Split Channels)"
        )
    if names.count("Z") != 1:
        raise InputError(
            f"{path}: holds {' x '.join(map(str, sizes))} pages and does not say which "
            f"of them are the slices of one stack; save every stack as a file of its "
            f"own and give them all"
        )
    at = names.index("Z")
    order = np.arange(len(pixels)).reshape(sizes)
    order = np.moveaxis(order, at, -1).reshape(-1, sizes[at])
    said = f"{len(order)} stacks of {sizes[at]} slices, one after the other"
    return [pixels[part] for part in order], said


def _axes(path: Path) -> list[tuple[str, int]]:
    """Axis and size of what a TIFF file says of its pages, slowest first."""
    if path.is_dir() or path.suffix.lower() not in (".tif", ".tiff"):
        return []
    if not installed("tifffile"):
        return []
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            named = zip(series.axes, series.shape, strict=True)
            return [(axis, int(n)) for axis, n in named if axis not in "YX"]
    except (OSError, ValueError, IndexError, KeyError, tifffile.TiffFileError):
        return []
