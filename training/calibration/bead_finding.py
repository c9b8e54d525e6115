"""Find beads in a z-stack, whatever the shape of the PSF.

The mean over z holds all light of a bead near its centre: a spot, a cross, a ring. It
is seen through Laplacians of Gaussians of growing width (scale space, Lindeberg 1998,
doi:10.1023/A:1008045108935); the width with the strongest response is the size of the
PSF in this stack, and the maxima at that width are the beads.

Design notes: knows nothing of z, of the PSF or of other stacks. Which beads can be used
is decided by `bead_selection`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras

__all__ = ["Sighting", "find_beads", "light_radius", "projection"]

Floats = npt.NDArray[np.float64]

_SCALES_PX = 1.0 * 1.35 ** np.arange(11)
"""SD of the Gaussians: 1 to 20 px."""

_NOISE_LIMIT = 8.0
_CLUTTER_LIMIT = 5.0
_SATELLITE_SCALES = 3.0
_SATELLITE_RESPONSE = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """Beads of one stack: (N,) column, row, response, strongest first; and a scale."""

    column: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    response: Floats
    scale_px: float

    def __len__(self) -> int:
        return int(self.column.shape[0])


def projection(photons_ZHW: npt.NDArray[np.floating]) -> Floats:
    """(H, W) mean over z without single hot pixels, and without a sloping background.

    A pixel is replaced by the median of its 3 x 3 neighbourhood when it stands out of
    it more than an optical image can.
    """
    ndimage = extras.require("scipy.ndimage", "Finding beads", "train")
    mean: Floats = photons_ZHW.mean(0, dtype=np.float64)
    around = ndimage.median_filter(mean, size=3, mode="nearest")
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    beside = ndimage.maximum_filter(mean, footprint=ring, mode="nearest")
    level = float(np.median(mean))
    hot = mean - level > 4.0 * np.maximum(beside - level, _noise(mean))
    return np.where(hot, around, mean)


def find_beads(
    photons_ZHW: npt.NDArray[np.floating], *, scale_px: float | None = None
) -> Sighting:
    """Beads of a stack; none when nothing stands out of the noise.

    Parameters
    ----------
    photons_ZHW
        (Z, H, W) photons; a constant offset does no harm.
    scale_px
        Size of the PSF (SD of the Gaussian); None: found.
    """
    ndimage = extras.require("scipy.ndimage", "Finding beads", "train")
    image = projection(photons_ZHW)
    # Sampled filters do not quite sum to 0: a high level must not show through them.
    image = image - float(np.median(image))
    noise = _noise(image)
    scales = _SCALES_PX[max(min(image.shape), 7) >= _SCALES_PX * 6]
    if scale_px is not None:
        scales = np.array([scale_px])
    best: tuple[float, float, Floats] | None = None
    for scale in scales:
        response = -(scale**2) * ndimage.gaussian_laplace(image, scale)
        # Noise of white pixels seen through this filter: scale^2 |LoG| = 0.4 / scale.
        limit = _NOISE_LIMIT * 0.4 * noise / scale
        strongest = float(response.max())
        # Favours wide filters, which see the lobes of one PSF as one: beads that are
        # closer than that could not be used anyway.
        worth = strongest * float(scale)
        if strongest > limit and (best is None or worth > best[0]):
            best = (worth, float(scale), response)
    if best is None:
        return _sighting([], 0.0)
    _, scale, response = best
    spread = 1.4826 * float(np.median(np.abs(response - np.median(response))))
    limit = max(_NOISE_LIMIT * 0.4 * noise / scale, _CLUTTER_LIMIT * spread)
    size = 2 * int(np.ceil(scale)) + 1
    peaks = response == ndimage.maximum_filter(response, size=size, mode="nearest")
    rows, columns = np.nonzero(peaks & (response > limit))
    values = response[rows, columns]
    order = np.argsort(-values, kind="stable")
    kept: list[tuple[int, int, float]] = []
    for at in order:
        x, y, value = int(columns[at]), int(rows[at]), float(values[at])
        near = [
            v
            for (i, j, v) in kept
            if np.hypot(i - x, j - y) < _SATELLITE_SCALES * scale
        ]
        # Arms and rings of a strong bead are maxima too.
        if any(value < _SATELLITE_RESPONSE * v for v in near):
            continue
        kept.append((x, y, value))
    return _sighting(kept, scale)


def light_radius(image: Floats, column: int, row: int, share: float, most: int) -> int:
    """Radius in px around a bead that holds a share of its light within `most` px.

    The level outside is that of the outer quarter.
    """
    height, width = image.shape
    most = min(most, max(column, width - 1 - column), max(row, height - 1 - row))
    y, x = np.mgrid[:height, :width]
    away = np.hypot(x - column, y - row)
    rings = np.clip(np.rint(away), 0, most + 1).astype(np.int64).ravel()
    count = np.bincount(rings, minlength=most + 2)[: most + 1]
    total = np.bincount(rings, weights=image.ravel(), minlength=most + 2)[: most + 1]
    mean = total / np.maximum(count, 1)
    outer = slice(-max(most // 4, 1), None)
    level = float(total[outer].sum() / max(int(count[outer].sum()), 1))
    # Rings cut by the border count as if they were whole. Noise of both signs cancels.
    whole = 2 * np.pi * np.maximum(np.arange(most + 1), 0.16)
    light = np.cumsum((mean - level) * whole)
    if light.max() <= 0:
        return most
    return int(np.argmax(light >= share * light.max()))


def _noise(image: Floats) -> float:
    """SD of the pixel noise, from differences of neighbours."""
    across = np.diff(image, axis=1).ravel()
    down = np.diff(image, axis=0).ravel()
    steps = np.concatenate([across, down])
    return float(1.4826 * np.median(np.abs(steps)) / np.sqrt(2.0))


def _sighting(kept: list[tuple[int, int, float]], scale: float) -> Sighting:
    columns, rows, values = ([k[i] for k in kept] for i in range(3))
    return Sighting(
        np.array(columns, np.int64),
        np.array(rows, np.int64),
        np.array(values, np.float64),
        scale,
    )
