"""Pixel-integrated Gaussian PSF, 2D or astigmatic.

sigma_x(z) = s0 sqrt(1 + ((z + a)/d)^2), sigma_y(z) with z - a (REFERENCE section 5).
Photons in the pixel k of one axis: (erf((k + 1/2 - x)/(s sqrt 2)) - erf((k - 1/2 - x)
/(s sqrt 2)))/2. The light an emitter sends beyond the frame is lost; emitters beyond
the frame send light into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from blinkloop.optics._namespace import Array, array_namespace, erf, full_like_dtype
from blinkloop.schema import GaussianPsfSettings

__all__ = ["GaussianPsf", "group_by_frame"]


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
        up = (z_nm + s.astigmatism_nm) / s.depth_nm
        down = (z_nm - s.astigmatism_nm) / s.depth_nm
        if s.z_range_nm[0] == s.z_range_nm[1] and s.astigmatism_nm == 0:
            up = down = 0.0 * z_nm
        sigma_x = s.sigma0_px * (1 + up * up) ** 0.5
        return sigma_x, s.sigma0_px * (1 + down * down) ** 0.5

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
        xp = array_namespace(x_px)
        order, rank, largest = group_by_frame(frame, n_frames)
        at = frame[order]
        sigma_x, sigma_y = self.sigmas_px(z_nm[order])
        columns = _line(x_px[order], sigma_x, width)
        rows = _line(y_px[order], sigma_y, height) * photons[order][:, None]
        like = {"dtype": x_px.dtype}
        if xp.__name__ == "torch":
            like["device"] = x_px.device
        table_x = xp.zeros((n_frames, largest, width), **like)
        table_y = xp.zeros((n_frames, largest, height), **like)
        table_x[at, rank] = columns
        table_y[at, rank] = rows
        # A sum over emitters of outer products: one matrix product per frame.
        return xp.matmul(xp.swapaxes(table_y, 1, 2), table_x)


def _line(centre_px: Array, sigma_px: Array, size: int) -> Array:
    """(E, size): share of each emitter's light in each pixel along one axis."""
    xp = array_namespace(centre_px)
    edges = full_like_dtype(xp.arange(size + 1), centre_px) - 0.5
    width = math.sqrt(2.0) * sigma_px[:, None]
    scaled = (edges[None, :] - centre_px[:, None]) / width
    cumulative = 0.5 * erf(scaled)
    return cumulative[:, 1:] - cumulative[:, :-1]
