"""Pixel-integrated Gaussian PSF, 2D or astigmatic.

sigma_x(z) = s0 sqrt(1 + ((z + a)/d)^2), sigma_y(z) with z - a (REFERENCE section 5).
Photons in the pixel k of one axis: (erf((k + 1/2 - x)/(s sqrt 2)) - erf((k - 1/2 - x)
/(s sqrt 2)))/2. The light an emitter sends beyond the frame is lost; emitters beyond
the frame send light into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from blinkloop.optics._namespace import (
    Array,
    array_namespace,
    erf,
    full_like_dtype,
    is_torch,
)
from blinkloop.schema import GaussianPsfSettings

__all__ = [
    "REACH",
    "GaussianPsf",
    "astigmatic_sigmas",
    "astigmatic_slopes",
    "gaussian_derivatives",
    "gaussian_lines",
    "gaussian_shares",
    "gaussian_windows",
    "group_by_frame",
    "render_gaussians",
    "window_corner",
]

REACH = 4.0
"""Half a window holds so many standard deviations: 6e-5 of the light is outside."""


def group_by_frame(frame: Array, n_frames: int) -> tuple[Array, Array, int]:
    """Place of each emitter in a table (frame, rank within the frame).

    Parameters
    ----------
    frame
        (E,) integer frame of each emitter; values outside 0 .. n_frames - 1 are
        dropped.
    n_frames
        Number of frames.

    Returns
    -------
    tuple
        `order` (K,) indices of the kept emitters sorted by frame, `rank` (K,) of each
        within its frame, and the largest number of emitters in a frame.
    """
    xp = array_namespace(frame)
    kept = xp.where((frame >= 0) & (frame < n_frames))[0]
    order = kept[xp.argsort(frame[kept], stable=True)]
    sorted_frame = frame[order]
    first = xp.searchsorted(sorted_frame, sorted_frame)
    ones = xp.ones_like(sorted_frame)
    rank = xp.cumsum(ones, 0) - 1 - first
    largest = int(rank.max()) + 1 if order.shape[0] else 0
    return order, rank, largest


@dataclass(frozen=True, slots=True)
class GaussianPsf:
    """Gaussian PSF as an image former.

    Parameters
    ----------
    settings
        Width in focus, astigmatism, depth and range of z.
    """

    settings: GaussianPsfSettings

    def sigmas_px(self, z_nm: Array) -> tuple[Array, Array]:
        """Standard deviations along x and y, in px, at z in nm; same shape as z."""
        s = self.settings
        z_nm = 0.0 * z_nm if self._flat else z_nm
        return astigmatic_sigmas(z_nm, s.sigma0_px, s.astigmatism_nm, s.depth_nm)

    @property
    def _flat(self) -> bool:
        """One width, whatever z is."""
        s = self.settings
        return s.z_range_nm[0] == s.z_range_nm[1] and s.astigmatism_nm == 0

    @property
    def z_range_nm(self) -> tuple[float, float]:
        """Lowest and highest z that the settings describe, nm."""
        return self.settings.z_range_nm

    @property
    def reach_px(self) -> int:
        """Pixels from the centre of a window to its edge that hold all light in z."""
        low, high = self.settings.z_range_nm
        widest: float = max(s for z in (low, high) for s in self.sigmas_px(z))
        return math.ceil(REACH * widest)

    def roi(
        self,
        x_px: Array,
        y_px: Array,
        z_nm: Array,
        photons: Array,
        *,
        half_px: int | None = None,
    ) -> tuple[Array, Array, Array]:
        """Image of each emitter in a window around it.

        Parameters
        ----------
        x_px, y_px, z_nm, photons
            (E,) floats of one library.
        half_px
            The window has 2 half_px + 1 rows and columns, the emitter in its central
            pixel; None: `reach_px`, four standard deviations.

        Returns
        -------
        tuple
            Windows (E, rows, columns) in photons, and column (E,) and row (E,) of each
            window's first pixel, int64.
        """
        half = self.reach_px if half_px is None else half_px
        return gaussian_windows(x_px, y_px, photons, self.sigmas_px(z_nm), half)

    def derivatives(
        self,
        x_px: Array,
        y_px: Array,
        z_nm: Array,
        photons: Array,
        *,
        half_px: int | None = None,
    ) -> Array:
        """Derivatives of photons x PSF + background, in the windows of `roi`.

        Returns
        -------
        array
            (E, 5, rows, columns): by x (per px), y (per px), z (per nm), photons, and
            background (1 everywhere). That by z is 0 where the PSF is 2D.
        """
        half = self.reach_px if half_px is None else half_px
        shape = (2 * half + 1, 2 * half + 1)
        first = window_corner(x_px, y_px, half)
        return self.derivatives_in(x_px, y_px, z_nm, photons, *first, shape)

    def derivatives_in(
        self,
        x_px: Array,
        y_px: Array,
        z_nm: Array,
        photons: Array,
        column: Array,
        row: Array,
        shape: tuple[int, int],
    ) -> Array:
        """`derivatives`, in windows that stay where they are.

        Parameters
        ----------
        x_px, y_px, z_nm, photons
            (E,) floats.
        column, row
            (E,) first column and row of each window.
        shape
            Rows and columns of all windows.
        """
        s, sigmas = self.settings, self.sigmas_px(z_nm)
        if self._flat:
            slopes = (0.0 * z_nm, 0.0 * z_nm)
        else:
            facts = (s.sigma0_px, s.astigmatism_nm, s.depth_nm)
            slopes = astigmatic_slopes(z_nm, *facts, sigmas)
        return gaussian_derivatives(
            x_px, y_px, photons, sigmas, slopes, (column, row), shape
        )

    def render(
        self,
        x_px: Array,
        y_px: Array,
        z_nm: Array,
        photons: Array,
        frame: Array,
        n_frames: int,
        height: int,
        width: int,
    ) -> Array:
        """Expected photons of emitters in a stack of frames, without background.

        Parameters
        ----------
        x_px, y_px, z_nm, photons
            (E,) floats; x = column, origin at the centre of pixel (0, 0).
        frame
            (E,) integers; emitters of other frames than 0 .. n_frames - 1 are ignored.

        Returns
        -------
        array
            (n_frames, height, width) photons, dtype and device of `x_px`.
        """
        sigma_x, sigma_y = self.sigmas_px(z_nm)
        return render_gaussians(
            x_px, y_px, sigma_x, sigma_y, photons, frame, n_frames, height, width
        )


def render_gaussians(
    x_px: Array,
    y_px: Array,
    sigma_x_px: Array,
    sigma_y_px: Array,
    photons: Array,
    frame: Array,
    n_frames: int,
    height: int,
    width: int,
) -> Array:
    """`GaussianPsf.render` with the two standard deviations (E,) given, in px."""
    xp = array_namespace(x_px)
    order, rank, largest = group_by_frame(frame, n_frames)
    at = frame[order]
    columns = gaussian_shares(x_px[order], sigma_x_px[order], width)
    rows = gaussian_shares(y_px[order], sigma_y_px[order], height)
    rows = rows * photons[order][:, None]
    like = {"dtype": x_px.dtype}
    if xp.__name__ == "torch":
        like["device"] = x_px.device
    table_x = xp.zeros((n_frames, largest, width), **like)
    table_y = xp.zeros((n_frames, largest, height), **like)
    table_x[at, rank] = columns
    table_y[at, rank] = rows
    # A sum over emitters of outer products: one matrix product per frame.
    return xp.matmul(xp.swapaxes(table_y, 1, 2), table_x)


def astigmatic_sigmas(
    z_nm: Array, sigma0_px: Array, astigmatism_nm: Array, depth_nm: Array
) -> tuple[Array, Array]:
    """Standard deviations along x and y, px, of Gaussians at z.

    Parameters
    ----------
    z_nm
        (E,) floats.
    sigma0_px, astigmatism_nm, depth_nm
        One number each, or (E,).
    """
    up = (z_nm + astigmatism_nm) / depth_nm
    down = (z_nm - astigmatism_nm) / depth_nm
    return sigma0_px * (1 + up * up) ** 0.5, sigma0_px * (1 + down * down) ** 0.5


def astigmatic_slopes(
    z_nm: Array,
    sigma0_px: Array,
    astigmatism_nm: Array,
    depth_nm: Array,
    sigmas_px: tuple[Array, Array],
) -> tuple[Array, Array]:
    """Derivatives of `astigmatic_sigmas`, which are `sigmas_px`, by z; px per nm."""
    scale = (sigma0_px / depth_nm) ** 2
    return (
        scale * (z_nm + astigmatism_nm) / sigmas_px[0],
        scale * (z_nm - astigmatism_nm) / sigmas_px[1],
    )


def window_corner(x_px: Array, y_px: Array, half_px: int) -> tuple[Array, Array]:
    """First column and row (E,), as floats, of windows with the emitter's pixel amid.

    Parameters
    ----------
    x_px, y_px
        (E,) positions.
    half_px
        Windows have 2 half_px + 1 rows and columns.
    """
    xp = array_namespace(x_px)
    return xp.floor(x_px + 0.5) - half_px, xp.floor(y_px + 0.5) - half_px


def gaussian_windows(
    x_px: Array,
    y_px: Array,
    photons: Array,
    sigmas_px: tuple[Array, Array],
    half_px: int,
) -> tuple[Array, Array, Array]:
    """`GaussianPsf.roi` with the two standard deviations (E,) given, in px."""
    column, row = window_corner(x_px, y_px, half_px)
    size = 2 * half_px + 1
    across = gaussian_lines(x_px, sigmas_px[0], column, size)[0]
    down = gaussian_lines(y_px, sigmas_px[1], row, size)[0]
    images = (photons[:, None] * down)[:, :, None] * across[:, None, :]
    return images, _integers(column), _integers(row)


def gaussian_derivatives(
    x_px: Array,
    y_px: Array,
    photons: Array,
    sigmas_px: tuple[Array, Array],
    slopes: tuple[Array, Array],
    first: tuple[Array, Array],
    shape: tuple[int, int],
) -> Array:
    """`GaussianPsf.derivatives_in` with widths and their slopes given.

    Parameters
    ----------
    x_px, y_px, photons
        (E,) floats.
    sigmas_px, slopes
        Standard deviations along x and y (E,), px, and their derivatives by z, px/nm.
    first
        First column and row (E,) of each window.
    shape
        Rows and columns of all windows.
    """
    xp = array_namespace(x_px)
    across, across_x, across_s = gaussian_lines(x_px, sigmas_px[0], first[0], shape[1])
    down, down_y, down_s = gaussian_lines(y_px, sigmas_px[1], first[1], shape[0])
    n = photons[:, None]
    lines_x = xp.stack([across_x, across, slopes[0][:, None] * across_s, across], 1)
    lines_y = xp.stack([n * down, n * down_y, n * down, down], 1)
    images = lines_y[:, :, :, None] * lines_x[:, :, None, :]
    # The width along y changes with z as well.
    moved = (n * slopes[1][:, None] * down_s)[:, :, None] * across[:, None, :]
    by_z = images[:, 2] + moved
    ones = xp.ones_like(by_z)
    return xp.stack([images[:, 0], images[:, 1], by_z, images[:, 3], ones], 1)


def gaussian_lines(
    centre_px: Array, sigma_px: Array, first: Array, size: int
) -> tuple[Array, Array, Array]:
    """Light of each emitter in the pixels of one axis, and its slopes.

    Parameters
    ----------
    centre_px, sigma_px
        (E,) position and standard deviation along the axis.
    first
        (E,) first pixel of each line.
    size
        Pixels of every line.

    Returns
    -------
    tuple
        Share of the light, its derivative by the centre, and by sigma; (E, size) each.
    """
    xp = array_namespace(centre_px)
    edges = full_like_dtype(xp.arange(size + 1), centre_px) - 0.5
    sigma = sigma_px[:, None]
    away = (edges + full_like_dtype(first, centre_px)[:, None]) - centre_px[:, None]
    scaled = away / (math.sqrt(2.0) * sigma)
    cumulative = 0.5 * erf(scaled)
    height = xp.exp(-scaled * scaled) / (math.sqrt(2.0 * math.pi) * sigma)
    spread = height * away / sigma
    return (
        cumulative[:, 1:] - cumulative[:, :-1],
        height[:, :-1] - height[:, 1:],
        spread[:, :-1] - spread[:, 1:],
    )


def _integers(value: Array) -> Array:
    return value.long() if is_torch(value) else value.astype("int64")


def gaussian_shares(centre_px: Array, sigma_px: Array, size: int) -> Array:
    """(E, size): share of each emitter's light in pixels 0 .. size - 1 of one axis.

    Parameters
    ----------
    centre_px, sigma_px
        (E,) position and standard deviation along the axis.
    size
        Pixels.
    """
    xp = array_namespace(centre_px)
    edges = full_like_dtype(xp.arange(size + 1), centre_px) - 0.5
    width = math.sqrt(2.0) * sigma_px[:, None]
    scaled = (edges[None, :] - centre_px[:, None]) / width
    cumulative = 0.5 * erf(scaled)
    return cumulative[:, 1:] - cumulative[:, :-1]
