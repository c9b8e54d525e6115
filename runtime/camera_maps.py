"""Camera facts as the two arrays the streaming graph takes.

photons = (ADU - offset_adu) * photons_per_adu, with (REFERENCE section 6)

    offset_adu = baseline + spurious_e * em_gain / e_per_adu
    photons_per_adu = e_per_adu / em_gain / quantum_efficiency
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.runtime.records import Roi
from blinkloop.schema import CameraSettings

__all__ = ["CameraMaps", "make_camera_maps"]


@dataclass(frozen=True, slots=True)
class CameraMaps:
    """Offset and gain of a camera, constant or per pixel.

    Parameters
    ----------
    offset_adu
        float32 (1, 1) or (H, W), ADU: baseline plus spurious charge.
    photons_per_adu
        float32 (1, 1) or (H, W), photons per ADU.
    area
        Region of the chip the per-pixel arrays cover; None when both are constant,
        which holds for any region.
    """

    offset_adu: npt.NDArray[np.float32]
    photons_per_adu: npt.NDArray[np.float32]
    area: Roi | None = None

    def crop(self, roi: Roi) -> CameraMaps:
        """Maps of one region of the chip.

        Parameters
        ----------
        roi
            Region of interest of the frames, chip coordinates.

        Raises
        ------
        InputError
            The region is not inside the area the maps cover.
        """
        area = self.area
        if area is None or area == roi:
            return self
        left, top = roi.x - area.x, roi.y - area.y
        inside = (
            left >= 0
            and top >= 0
            and left + roi.width <= area.width
            and top + roi.height <= area.height
        )
        if not inside:
            raise InputError(
                f"the camera maps cover {_describe(area)}, the frames are "
                f"{_describe(roi)}; give maps of the whole chip, or of this region"
            )
        rows, columns = slice(top, top + roi.height), slice(left, left + roi.width)

        def cut(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            if values.shape == (1, 1):
                return values
            return np.ascontiguousarray(values[rows, columns])

        return CameraMaps(cut(self.offset_adu), cut(self.photons_per_adu), roi)


def _describe(roi: Roi) -> str:
    return f"{roi.width} x {roi.height} px (width x height) from ({roi.x}, {roi.y})"


def _checked(
    name: str, values: npt.NDArray[np.floating] | None, *, positive: bool
) -> npt.NDArray[np.float64] | None:
    if values is None:
        return None
    array = np.asarray(values, np.float64)
    if array.ndim != 2 or array.size == 0:
        raise InputError(
            f"{name} must be a 2D array (height, width), got shape {array.shape}"
        )
    bad = ~np.isfinite(array)
    if positive:
        bad |= array <= 0
    if bad.any():
        row, column = (int(index) for index in np.argwhere(bad)[0])
        wanted = "finite and above 0" if positive else "finite"
        raise InputError(
            f"{name} must be {wanted} in every pixel, got {array[row, column]} at "
            f"column {column}, row {row} ({int(bad.sum())} such pixels); replace bad "
            f"pixels by the median of their neighbours"
        )
    return array


def make_camera_maps(
    camera: CameraSettings,
    *,
    baseline_adu_map: npt.NDArray[np.floating] | None = None,
    e_per_adu_map: npt.NDArray[np.floating] | None = None,
    area: Roi | None = None,
) -> CameraMaps:
    """Arrays of the graph from what is known of the camera.

    Parameters
    ----------
    camera
        Settings; used wherever no map is given.
    baseline_adu_map, e_per_adu_map
        Per-pixel offset in ADU and gain in electrons per ADU (an sCMOS calibration),
        (height, width); each replaces the setting of the same name.
    area
        Region of the chip the maps cover; default: from pixel (0, 0) on.

    Raises
    ------
    InputError
        A map is not 2D, holds unusable values, or does not have the area's size.
    """
    baseline = _checked("baseline_adu_map", baseline_adu_map, positive=False)
    e_per_adu = _checked("e_per_adu_map", e_per_adu_map, positive=True)
    given = [array for array in (baseline, e_per_adu) if array is not None]
    if given:
        height, width = given[0].shape
        area = area or Roi(0, 0, width, height)
        for array in given:
            if array.shape != (area.height, area.width):
                raise InputError(
                    f"a camera map is {array.shape[1]} x {array.shape[0]} px (width x "
                    f"height), expected {area.width} x {area.height}; all maps must "
                    f"cover the same region of the chip"
                )
    # Float64 until the end: baseline and spurious charge differ by orders of magnitude.
    gain = np.full((1, 1), camera.e_per_adu) if e_per_adu is None else e_per_adu
    base = np.full((1, 1), camera.baseline_adu) if baseline is None else baseline
    offset = base + camera.spurious_e * camera.em_gain / gain
    photons = gain / camera.em_gain / camera.quantum_efficiency
    return CameraMaps(
        np.ascontiguousarray(offset, np.float32),
        np.ascontiguousarray(photons, np.float32),
        area if given else None,
    )
