"""Finds out that somebody changed the camera's settings while it runs.

Design notes
------------
Cores accept a new ROI or exposure during a sequence and say nothing. What comes then is
another movie: other positions, other photons, other on-times in frames. The size of
a frame, its ROI tags and, where somebody wrote it down, its exposure are looked at for
every frame (`frame`, which asks nobody); for the rest the core is asked now and then
(`look`, on a thread that may wait for it).
"""

from __future__ import annotations

import time
from typing import Any

from blinkloop.errors import DeviceError
from blinkloop.integrations.micromanager.ring import image_format
from blinkloop.runtime.records import Roi

__all__ = ["SettingsWatch"]

_EVERY_S = 0.5
_SAME = 0.01
_ROI_TAGS = ("ROI-X-start", "ROI-Y-start")


class SettingsWatch:
    """For one camera and one run.

    Parameters
    ----------
    core
        Asked for the exposure.
    camera
        Label, for messages.
    roi
        Of every frame.
    """

    def __init__(self, core: Any, camera: str, roi: Roi) -> None:
        self._core, self._camera = core, camera
        self._roi = roi
        self._shape = (roi.height, roi.width)
        self._corner: tuple[Any, ...] | None = None
        # That of the running camera: some round it when they are started.
        self._exposure_ms: float | None = None
        self._look_s = 0.0

    def frame(
        self, shape: tuple[int, ...], tags: Any, exposure_ms: float | None = None
    ) -> None:
        """Look at a frame and what is written on it.

        Parameters
        ----------
        shape
            Of its pixels.
        tags
            Of the core.
        exposure_ms
            Of this frame, where it is known; None = `look` must do.

        Raises
        ------
        DeviceError
            Its size, place or exposure is not that of the frames before.
        """
        if shape != self._shape:
            raise self._changed(
                "image", str(self._shape), str(shape), "ROI and binning"
            )
        corner = tuple(tags.get(name) for name in _ROI_TAGS)
        if self._corner is None:
            self._corner = corner
        elif corner != self._corner:
            was, now = (f"({', '.join(map(str, c))})" for c in (self._corner, corner))
            raise self._changed("ROI's corner", was, now, "ROI and binning")
        if exposure_ms is not None:
            self._compare_exposure(exposure_ms)

    def look(self) -> None:
        """Ask the core, every half a second.

        Raises
        ------
        DeviceError
            Exposure or ROI are not what they were.
        """
        if time.monotonic() < self._look_s:
            return
        self._look_s = time.monotonic() + _EVERY_S
        try:
            exposure_ms = float(self._core.getExposure())
        except Exception:  # a camera that has gone: its frames will tell
            return
        self._compare_exposure(exposure_ms)
        changed = self.ended()
        if changed is not None:
            raise changed

    def ended(self) -> DeviceError | None:
        """Why the camera may have ended its sequence: some do at another ROI."""
        try:
            now = image_format(self._core, self._camera)[0]
        except Exception:  # a camera that has gone, or takes colour pictures now
            return None
        if now == self._roi:
            return None
        was, new = (
            f"{roi.width} x {roi.height} px at ({roi.x}, {roi.y})"
            for roi in (self._roi, now)
        )
        return self._changed("ROI", was, new, "ROI and binning")

    def _compare_exposure(self, now: float) -> None:
        if self._exposure_ms is None:
            self._exposure_ms = now
        was = self._exposure_ms
        if abs(now - was) > _SAME * was:
            raise self._changed("exposure", f"{was:g} ms", f"{now:g} ms", "it")

    def _changed(self, what: str, was: str, now: str, leave: str) -> DeviceError:
        return DeviceError(
            f"camera {self._camera!r} changed its {what} from {was} to {now} during "
            f"the run; leave {leave} alone while it runs"
        )
