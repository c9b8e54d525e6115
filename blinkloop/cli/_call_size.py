"""How many frames go to the network at once: enough to keep it busy, no more.

On a processor that is few: more pixels per call gain nothing, and what a call needs
(its frames as float32, its results) grows with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blinkloop.runtime import Backend

__all__ = ["MOST_FRAMES", "call_frames", "on_cpu"]

MOST_FRAMES = 64
_CPU_FILL_PX = 2**18
"""A CPU gains nothing from more pixels per call; the memory for them is better free."""
_DEVICE_FILL_PX = 2**24
_ON_CPU = ("onnxruntime-cpu", "openvino")


def on_cpu(backend: Backend) -> bool:
    """Whether a backend computes on the processor."""
    return backend.name.partition(":")[0] in _ON_CPU


def call_frames(backend: Backend, frame_px: int, most_px: int | None = None) -> int:
    """Frames of that many pixels for one call, 1 to 64.

    Parameters
    ----------
    backend
        What runs the network.
    frame_px
        Pixels of a frame.
    most_px
        Pixels there is memory for; None = no matter.
    """
    fill_px = _CPU_FILL_PX if on_cpu(backend) else _DEVICE_FILL_PX
    if most_px is not None:
        fill_px = min(fill_px, most_px)
    return max(1, min(fill_px // frame_px, MOST_FRAMES))
