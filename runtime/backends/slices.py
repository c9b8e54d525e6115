"""Cut a call of many large frames into several: on a CPU only memory would grow.

A call needs memory in proportion to its pixels, about 0.3 kB for each with the bundled
model, while the time per frame stops falling long before this size. How a segment is
cut into calls does not change what comes out (docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.protocols import BackendOutput

__all__ = ["PIXELS_PER_SLICE", "step_in_slices"]

PIXELS_PER_SLICE = 2**18
"""One frame of 512 x 512 px, sixteen of 128 x 128."""

_Step = Callable[[npt.NDArray[np.float32], bool], BackendOutput]


def step_in_slices(
    step: _Step, frames: npt.NDArray[np.float32], segment_start: bool
) -> BackendOutput:
    """Call `step` on a few frames at a time and join what it returns.

    Parameters
    ----------
    step
        Takes frames (T, H, W) and whether they start a segment.
    frames
        All of them; what is wrong with them `step` shall say.
    segment_start
        Of the first.
    """
    pixels = frames[0].size if frames.ndim == 3 and len(frames) else 0
    most = max(1, PIXELS_PER_SLICE // pixels) if pixels else 1
    if not pixels or len(frames) <= most:
        return step(frames, segment_start)
    parts = [
        step(frames[first : first + most], segment_start and first == 0)
        for first in range(0, len(frames), most)
    ]
    rows = max(part.detections.shape[1] for part in parts)
    parts = [replace(p, detections=_longer(p.detections, rows)) for p in parts]
    names = [field.name for field in fields(BackendOutput)]
    return BackendOutput(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    )


def _longer(table: npt.NDArray[np.float32], rows: int) -> npt.NDArray[np.float32]:
    """Tables (T, K, 11) with empty rows behind those they have."""
    return np.pad(table, ((0, 0), (0, rows - table.shape[1]), (0, 0)))
