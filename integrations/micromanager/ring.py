"""The core's image format and the size of its ring, in whole frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.runtime.records import Roi

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["image_format", "ring_size", "set_ring"]

MIN_RING_FRAMES = 16
_MIB = 2**20


def image_format(core: CMMCorePlus, camera: str) -> tuple[Roi, np.dtype[Any]]:
    """ROI and pixel type; `InputError` for images the runtime cannot use."""
    components = core.getNumberOfComponents()
    channels = core.getNumberOfCameraChannels()
    if channels != 1:
        raise InputError(
            f"camera {camera!r} joins {channels} cameras or channels; name one of them "
            "(--device) instead"
        )
    if components != 1:
        raise InputError(
            f"camera {camera!r} gives images of {components} colour components; set "
            "PixelType to 8 or 16 bit grey scale"
        )
    size = int(core.getBytesPerPixel())
    if size not in (1, 2):
        raise InputError(
            f"camera {camera!r} gives {8 * size} bit pixels; set PixelType to 8 or "
            "16 bit grey scale"
        )
    x, y, _, _ = core.getROI()
    roi = Roi(int(x), int(y), int(core.getImageWidth()), int(core.getImageHeight()))
    return roi, np.dtype(np.uint8 if size == 1 else np.uint16)


def ring_size(
    frames: int | None,
    seconds: float,
    max_mb: float,
    period_ms: float,
    frame_bytes: int,
) -> int:
    """Frames in the ring, at least `MIN_RING_FRAMES` unless asked otherwise."""
    if frames is not None:
        if frames < 2:
            raise InputError(f"the ring needs at least 2 frames, got {frames}")
        return frames
    wanted = max(MIN_RING_FRAMES, math.ceil(1000 * seconds / period_ms))
    return max(2, min(wanted, int(max_mb * _MIB) // frame_bytes))


def set_ring(core: CMMCorePlus, camera: str, frames: int, frame_bytes: int) -> int:
    """Give the core's ring room for so many frames; what it then holds.

    Never while the camera runs: cores accept that silently.
    """
    megabytes = frames * frame_bytes / _MIB
    is_python = getattr(core, "isPyDevice", None)
    if is_python is not None and is_python(camera):
        # The Python ring loses frames at every wrap unless it is a whole number of
        # frames; it accepts a fraction of a MiB, and this one is exact.
        core.setCircularBufferMemoryFootprint(megabytes)  # type: ignore[arg-type]
    else:
        core.setCircularBufferMemoryFootprint(math.ceil(megabytes))
    return int(core.getBufferTotalCapacity())
