"""Super-resolution pictures of localizations.

x and y in nm, x to the right, y down; pixel (0, 0) of the picture starts at the low
corner of the extent. Every localization inside the extent adds exactly 1 (or its
weight) to the picture, also at the border; those outside add nothing.

Design notes: needs NumPy alone, so that the lean runtime can draw. Files are written by
`blinkloop.png` and colours made by `blinkloop.colour`; their two functions that every
picture needs are offered here as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.colour import to_rgb
from blinkloop.errors import InputError
from blinkloop.optics._namespace import erf
from blinkloop.png import write_png

__all__ = [
    "Extent",
    "render_gaussian",
    "render_histogram",
    "to_rgb",
    "write_png",
]

Floats = npt.NDArray[np.float64]

_REACH = 4.0
"""Half width of a drawn Gaussian in standard deviations; its sum is scaled to 1."""
_CELLS_AT_ONCE, _LEAST_CELLS = 4_000_000, 500_000
"""Cells of the drawn Gaussians at once: as many as the picture has, within limits, as
each time all of a small picture is added to."""
_MAX_PIXELS = 2**28
_USUAL_PIXEL_NM, _USUAL_PIXELS = 10.0, 2**27
"""Of a picture whose pixel nobody chose; the second bounds the first."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Field of a picture in nm: low <= x < high, and y likewise."""

    x_low_nm: float
    x_high_nm: float
    y_low_nm: float
    y_high_nm: float

    @classmethod
    def of_camera(
        cls,
        width_px: int,
        height_px: int,
        pixel_size_nm: float,
        x_px: int = 0,
        y_px: int = 0,
    ) -> Extent:
        """Extent of camera pixels whose first one is (x_px, y_px)."""
        return cls(
            (x_px - 0.5) * pixel_size_nm,
            (x_px + width_px - 0.5) * pixel_size_nm,
            (y_px - 0.5) * pixel_size_nm,
            (y_px + height_px - 0.5) * pixel_size_nm,
        )

    def usual_pixel_nm(self) -> float:
        """10 nm, or as much more as keeps the picture of a large field drawable."""
        sides = (self.y_high_nm - self.y_low_nm, self.x_high_nm - self.x_low_nm)
        least = math.sqrt(max(math.prod(sides), 0.0) / _USUAL_PIXELS)
        return max(_USUAL_PIXEL_NM, 5.0 * math.ceil(least / 5.0))

    def shape(self, pixel_nm: float) -> tuple[int, int]:
        """(rows, columns) of the picture; the last ones may reach beyond the extent."""
        sides = (self.y_high_nm - self.y_low_nm, self.x_high_nm - self.x_low_nm)
        if not (math.isfinite(pixel_nm) and pixel_nm > 0):
            raise InputError(f"render: the pixel must be positive, got {pixel_nm} nm")
        if not all(math.isfinite(side) and side > 0 for side in sides):
            raise InputError(f"render: the extent is empty or not finite: {self}")
        # The small tolerance keeps 6400.0000001 / 10 from adding a pixel.
        rows, columns = (max(1, math.ceil(side / pixel_nm - 1e-6)) for side in sides)
        if rows * columns > _MAX_PIXELS:
            raise InputError(
                f"render: {columns} x {rows} pixels are too many for one picture; "
                f"choose a larger pixel than {pixel_nm} nm or a smaller field"
            )
        return rows, columns


def render_histogram(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    *,
    pixel_nm: float,
    extent: Extent | None = None,
    weights: npt.ArrayLike | None = None,
) -> Floats:
    """Count localizations per pixel.

    Parameters
    ----------
    x_nm, y_nm
        (N,) positions; those that are not finite are left out.
    pixel_nm
        Pixel of the picture.
    extent
        Field; None: just around the data.
    weights
        (N,) what each adds; None: 1.

    Returns
    -------
    array
        (rows, columns) float64.

    Raises
    ------
    InputError
        When there is neither an extent nor a localization, or the picture is too large.
    """
    x, y, value, _, extent = _inside(x_nm, y_nm, weights, 0.0, pixel_nm, extent)
    rows, columns = extent.shape(pixel_nm)
    column = np.minimum(((x - extent.x_low_nm) / pixel_nm).astype(int), columns - 1)
    row = np.minimum(((y - extent.y_low_nm) / pixel_nm).astype(int), rows - 1)
    place = row * columns + column
    picture = np.bincount(place, value, minlength=rows * columns).astype(np.float64)
    return picture.reshape(rows, columns)


def render_gaussian(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    *,
    pixel_nm: float,
    sigma_nm: npt.ArrayLike,
    extent: Extent | None = None,
    weights: npt.ArrayLike | None = None,
) -> Floats:
    """Draw each localization as a pixel-integrated Gaussian of mass 1.

    Parameters
    ----------
    x_nm, y_nm, pixel_nm, extent, weights
        As for `render_histogram`.
    sigma_nm
        Standard deviation, one for all or (N,), usually the localization precision.
        Localizations whose sigma is not finite are left out.

    Returns
    -------
    array
        (rows, columns) float64. A Gaussian cut by the border keeps its mass: what would
        fall outside is spread over its part inside.
    """
    x, y, value, sigma, extent = _inside(
        x_nm, y_nm, weights, sigma_nm, pixel_nm, extent
    )
    rows, columns = extent.shape(pixel_nm)
    picture = np.zeros(rows * columns)
    # In units of picture pixels; far narrower than a pixel equals a histogram.
    sigma = np.maximum(sigma / pixel_nm, 1e-6)
    u, v = (x - extent.x_low_nm) / pixel_nm, (y - extent.y_low_nm) / pixel_nm
    order = np.argsort(sigma, kind="stable")
    start = 0
    cells = min(max(rows * columns, _LEAST_CELLS), _CELLS_AT_ONCE)
    while start < len(order):
        # Sorted by sigma: the windows of a part have nearly one size.
        first = math.ceil(_REACH * sigma[order[start]]) + 1
        part = order[start : start + max(1, cells // (2 * first + 1) ** 2)]
        limit = sigma[part] <= max(1.5 * sigma[part[0]], 0.25)
        part = part[limit]
        start += len(part)
        half = math.ceil(_REACH * sigma[part[-1]]) + 1
        along_x, column = _profile(u[part], sigma[part], half, columns)
        along_y, row = _profile(v[part], sigma[part], half, rows)
        along_y *= value[part][:, None]
        mass = along_y[:, :, None] * along_x[:, None, :]
        place = row[:, :, None] * columns + column[:, None, :]
        if place.size < picture.size:
            # Not all of a large picture for each of many parts.
            np.add.at(picture, place.ravel(), mass.ravel())
        else:
            picture += np.bincount(place.ravel(), mass.ravel(), minlength=picture.size)
    return picture.reshape(rows, columns)


def _inside(
    x_nm: npt.ArrayLike,
    y_nm: npt.ArrayLike,
    weights: npt.ArrayLike | None,
    sigma_nm: npt.ArrayLike,
    pixel_nm: float,
    extent: Extent | None,
) -> tuple[Floats, Floats, Floats, Floats, Extent]:
    """Finite localizations within the extent, and the extent."""
    x, y = np.asarray(x_nm, np.float64), np.asarray(y_nm, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise InputError(
            f"render: x and y must be lists of one length, got {x.shape} and {y.shape}"
        )
    try:
        value = np.broadcast_to(
            np.asarray(1.0 if weights is None else weights, np.float64), x.shape
        )
        sigma = np.broadcast_to(np.asarray(sigma_nm, np.float64), x.shape)
    except ValueError as error:
        raise InputError(
            f"render: weights and sigma must be one number or one per localization "
            f"({len(x)})"
        ) from error
    if (sigma < 0).any():
        raise InputError("render: sigma must not be negative")
    keep = np.isfinite(x) & np.isfinite(y) & np.isfinite(value) & np.isfinite(sigma)
    x, y, value, sigma = x[keep], y[keep], value[keep], sigma[keep]
    if extent is None:
        if not len(x):
            raise InputError(
                "render: no localization to draw; give the extent for an empty picture"
            )
        # Half a pixel around the data keeps the outermost ones inside.
        half = 0.5 * pixel_nm
        extent = Extent(
            float(x.min()) - half,
            float(x.max()) + half,
            float(y.min()) - half,
            float(y.max()) + half,
        )
    inside = (x >= extent.x_low_nm) & (x < extent.x_high_nm)
    inside &= (y >= extent.y_low_nm) & (y < extent.y_high_nm)
    return x[inside], y[inside], value[inside], sigma[inside], extent


def _profile(
    centre: Floats, sigma: Floats, half: int, size: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """(n, 2 half + 1) shares along one axis, summing to 1, and their pixels.

    `centre` counts from the low edge of pixel 0. Pixels outside the picture get no
    share and the number of the nearest one inside.
    """
    pixel = np.floor(centre).astype(np.int64)[:, None] + np.arange(-half, half + 1)
    edges = np.concatenate([pixel, pixel[:, -1:] + 1], axis=1)
    scaled = (edges - centre[:, None]) / (math.sqrt(2.0) * sigma[:, None])
    share = np.diff(0.5 * np.asarray(erf(scaled), np.float64), axis=1)
    share[(pixel < 0) | (pixel >= size)] = 0.0
    share /= share.sum(axis=1, keepdims=True)
    return share, np.clip(pixel, 0, size - 1)
