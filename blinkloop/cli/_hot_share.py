"""Hot pixels of a run: where they are, and how much of the density they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blinkloop.hot_pixels import HotPixels, find_hot_pixels, frames_wanted

if TYPE_CHECKING:
    from blinkloop.runtime import Roi

__all__ = ["HotPixelShare"]

_NEAR, _RING = 1, 2
_NAMED, _LISTED = 5, 1000
_LEAST_SHARE = 0.05
"""Of the emitters. Dim hot pixels, of which any camera has some, are no emitters."""
_REACH_PX = 8
"""A bundled network explains a bright hot pixel by four emitters, mostly 4 px away."""
_RING_PX = 14
"""Beyond the reach and up to here is the density that the sample has there."""


class HotPixelShare:
    """Hot pixels found in the first frames, and what a network makes of them.

    Parameters
    ----------
    pixel_size_nm
        For densities.
    """

    def __init__(self, pixel_size_nm: float) -> None:
        self._um2 = (pixel_size_nm / 1e3) ** 2
        # NumPy imports what the search needs at its first call: 40 ms, not in a run.
        find_hot_pixels([])
        self._hot: HotPixels | None = None
        self._zone: npt.NDArray[np.int8] = np.zeros((0, 0), np.int8)
        self._roi: Roi | None = None
        self._origin = (0, 0)
        self._excess = self._emitters = 0.0
        self._pixels = 0

    @property
    def known(self) -> bool:
        """Whether they were sought."""
        return self._hot is not None

    def enough(self, frames: Sequence[npt.NDArray[Any]]) -> bool:
        """Whether so many frames do; fewer of large ones."""
        return len(frames) >= frames_wanted(frames[0].nbytes)

    def seek(
        self,
        frames: Sequence[npt.NDArray[Any]],
        origin: tuple[int, int],
        roi: Roi | None,
    ) -> None:
        """Find them.

        Parameters
        ----------
        frames
            (H, W) each, ADU; too few of them, and there are none.
        origin
            Chip column and row of their first pixel.
        roi
            Region they are of; what comes from another one is left alone.
        """
        self._hot, self._origin, self._roi = find_hot_pixels(frames), origin, roi
        near, wide = self._hot.near(_REACH_PX), self._hot.near(_RING_PX)
        self._zone = np.where(near, _NEAR, np.where(wide, _RING, 0)).astype(np.int8)

    def repaired(self, pixels: npt.NDArray[Any], roi: Roi) -> npt.NDArray[Any]:
        """A frame without them."""
        hot = self._of(roi)
        return pixels if hot is None else hot.repaired(pixels)

    def touched(self, rows: npt.NDArray[np.void], roi: Roi) -> npt.NDArray[np.bool_]:
        """(n,) which localizations a hot pixel may have made."""
        return np.equal(self._zones(rows, roi), _NEAR)

    def count(
        self, rows: npt.NDArray[np.void], roi: Roi, frames: int, emitters: float
    ) -> float:
        """Count what lies at them in some frames; how many emitters are none.

        Parameters
        ----------
        rows
            All localizations of the frames.
        roi, frames
            Region and number of the frames.
        emitters
            Sum of p over the frames.
        """
        self._emitters += emitters
        self._pixels += frames * roi.width * roi.height
        zones = self._zones(rows, roi)
        if not (zones == _NEAR).any():
            return 0.0
        prob = np.nan_to_num(rows["prob"].astype(np.float64))
        # Some of the sum of p is in no localization.
        prob *= emitters / max(float(prob.sum()), 1e-9)
        areas = np.bincount(self._zone.ravel(), minlength=3)
        # Where no ring is left, the rest of the frame tells what is usual.
        usual = _RING if areas[_RING] else 0
        density = float(prob[zones == usual].sum()) / max(int(areas[usual]), 1)
        excess = float(prob[zones == _NEAR].sum()) - density * int(areas[_NEAR])
        self._excess += excess
        return max(excess, 0.0)

    @property
    def density_per_um2(self) -> float:
        """What they add to the density, beyond the emitters that lie there too."""
        area_um2 = self._pixels * self._um2
        return max(self._excess, 0.0) / area_um2 if area_um2 else 0.0

    def warning(self, *, feedback: bool) -> str | None:
        """One line when they count as emitters, else None.

        Parameters
        ----------
        feedback
            Whether somebody holds the density by this run.
        """
        places, area_um2 = self._places(), self._pixels * self._um2
        found = self._emitters / area_um2 if area_um2 else 0.0
        added = self.density_per_um2
        if not places or added <= _LEAST_SHARE * found:
            return None
        named = ", ".join(f"({x}, {y})" for x, y in places[:_NAMED])
        more = ", ..." if len(places) > _NAMED else ""
        held = ", so the feedback holds too few emitters" if feedback else ""
        return (
            f"{len(places)} hot pixel{'s' if len(places) > 1 else ''} of the camera, "
            f"bright all the time, at (x, y) = {named}{more}: the density is too high "
            f"by them ({added:.2g} of {found:.2g} emitters per um^2){held}; give "
            f"--mask-hot-pixels, or switch on the camera's pixel correction"
        )

    def facts(self) -> dict[str, Any]:
        """Number, positions on the chip and density, for the JSON."""
        places = self._places()
        return {
            "hot_pixels": len(places) if self.known else None,
            "hot_pixels_px": places[:_LISTED],
            "hot_pixels_density_per_um2": self.density_per_um2,
        }

    def _places(self) -> list[tuple[int, int]]:
        if self._hot is None:
            return []
        x, y = self._hot.x_px + self._origin[0], self._hot.y_px + self._origin[1]
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def _zones(self, rows: npt.NDArray[np.void], roi: Roi) -> npt.NDArray[np.int8]:
        """(n,) 1 = at a hot pixel, 2 = in the ring around, else 0."""
        zones = np.zeros(len(rows), np.int8)
        if self._of(roi) is None:
            return zones
        height, width = self._zone.shape
        x, y = rows["x_px"] - self._origin[0], rows["y_px"] - self._origin[1]
        inside = (np.abs(x - (width - 1) / 2) < width / 2) & (
            np.abs(y - (height - 1) / 2) < height / 2
        )
        column, row = np.rint(x[inside]).astype(int), np.rint(y[inside]).astype(int)
        zones[inside] = self._zone[row, column]
        return zones

    def _of(self, roi: Roi) -> HotPixels | None:
        """Those of a region, if there are any."""
        known = self._hot is not None and len(self._hot) > 0 and roi == self._roi
        return self._hot if known else None
