"""Hot pixels of a run: where they are, and how much of the density they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blinkloop.hot_pixels import LEAST_FRAMES, HotPixels, find_hot_pixels

if TYPE_CHECKING:
    from blinkloop.runtime import Roi

__all__ = ["HotPixelShare"]

_FRAMES, _BYTES = 16, 16 << 20
_NAMED, _LISTED = 5, 1000
_LEAST_SHARE = 0.01
"""Of the emitters. Dim hot pixels, of which any camera has some, are no emitters."""
_REACH_PX = 8
"""A bundled network explains a bright hot pixel by four emitters, mostly 4 px away."""
_LEFT_SHARE = 0.05
"""Of the frames; with less left, it does not tell the density of the sample."""


class HotPixelShare:
    """Hot pixels found in the first frames, and what a network makes of them.

    Parameters
    ----------
    pixel_size_nm
        For densities.
    """

    def __init__(self, pixel_size_nm: float) -> None:
        self._um2 = (pixel_size_nm / 1e3) ** 2
        self._hot: HotPixels | None = None
        self._near: npt.NDArray[np.bool_] = np.zeros((0, 0), bool)
        self._roi: Roi | None = None
        self._origin = (0, 0)
        self._at_hot = self._emitters = 0.0
        self._pixels = self._near_pixels = 0

    @property
    def known(self) -> bool:
        """Whether they were sought."""
        return self._hot is not None

    def enough(self, frames: Sequence[npt.NDArray[Any]]) -> bool:
        """Whether so many frames do; fewer of large ones."""
        most = min(_FRAMES, _BYTES // frames[0].nbytes)
        return len(frames) >= max(most, LEAST_FRAMES)

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
        self._near = self._hot.near(_REACH_PX)

    def repaired(self, pixels: npt.NDArray[Any], roi: Roi) -> npt.NDArray[Any]:
        """A frame without them."""
        hot = self._of(roi)
        return pixels if hot is None else hot.repaired(pixels)

    def touched(self, rows: npt.NDArray[np.void], roi: Roi) -> npt.NDArray[np.bool_]:
        """(n,) which localizations a hot pixel may have made."""
        found = np.zeros(len(rows), bool)
        if self._of(roi) is None:
            return found
        height, width = self._near.shape
        x, y = rows["x_px"] - self._origin[0], rows["y_px"] - self._origin[1]
        inside = (np.abs(x - (width - 1) / 2) < width / 2) & (
            np.abs(y - (height - 1) / 2) < height / 2
        )
        column, row = np.rint(x[inside]).astype(int), np.rint(y[inside]).astype(int)
        found[inside] = self._near[row, column]
        return found

    def count(
        self,
        rows: npt.NDArray[np.void],
        touched: npt.NDArray[np.bool_],
        roi: Roi,
        frames: int,
        emitters: float,
    ) -> float:
        """Count what lies at them in some frames; how many emitters are none.

        Parameters
        ----------
        rows, touched
            Localizations, and which of them lie at hot pixels.
        roi, frames
            Region and number of the frames.
        emitters
            Sum of p over the frames.
        """
        pixels = frames * roi.width * roi.height
        self._emitters += emitters
        self._pixels += pixels
        if self._of(roi) is None or not touched.any():
            return 0.0
        near = frames * int(np.count_nonzero(self._near))
        prob = np.nan_to_num(rows["prob"].astype(np.float64))
        # Some of the sum of p is in no localization.
        at_hot = emitters * float(prob[touched].sum() / max(prob.sum(), 1e-9))
        self._at_hot += at_hot
        self._near_pixels += near
        return _excess(at_hot, emitters, near, pixels)

    @property
    def density_per_um2(self) -> float:
        """What they add to the density, beyond the emitters that lie there too."""
        if not self._near_pixels:
            return 0.0
        excess = _excess(self._at_hot, self._emitters, self._near_pixels, self._pixels)
        return excess / (self._pixels * self._um2)

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
            f"by them ({added:.2g} of {found:.2g} emitters per um^2){held}; switch on "
            f"the pixel correction of the camera or of its software"
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

    def _of(self, roi: Roi) -> HotPixels | None:
        """Those of a region, if there are any."""
        known = self._hot is not None and len(self._hot) > 0 and roi == self._roi
        return self._hot if known else None


def _excess(at_hot: float, emitters: float, near: int, pixels: int) -> float:
    """Emitters at hot pixels beyond those as dense as elsewhere; not below 0."""
    left = pixels - near
    if left < _LEFT_SHARE * pixels:
        return at_hot
    return max(at_hot - (emitters - at_hot) * near / left, 0.0)
