"""Plays the faults that the settings name, frame by frame.

Design notes: the camera says which frame it is at; the laser only asks. Knows neither
core nor simulator.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from blinkloop.integrations.virtual.settings import FaultSettings

__all__ = ["FaultScript"]


class FaultScript:
    """What is wrong now.

    Parameters
    ----------
    faults
        Of the settings.
    """

    def __init__(self, faults: Sequence[FaultSettings]) -> None:
        self._faults = tuple(faults)
        self._frame = -1
        self._over = threading.Event()

    def begin(self) -> None:
        """A sequence starts: everything is whole again."""
        self._frame = -1
        self._over.clear()

    def at(self, frame: int) -> dict[str, FaultSettings]:
        """The camera comes to that frame; what happens to it, by kind."""
        self._frame = frame
        return {
            fault.kind: fault
            for fault in self._faults
            if fault.frame <= frame < fault.frame + fault.frames
        }

    def laser(self, kind: str) -> FaultSettings | None:
        """A fault of the laser, from its frame on until the next sequence."""
        for fault in self._faults:
            if fault.kind == kind and fault.frame <= self._frame:
                return fault
        return None

    def stall(self, fault: FaultSettings) -> bool:
        """Wait as long as a camera hangs, or until `end`; False after that."""
        return not self._over.wait(fault.seconds)

    def end(self) -> None:
        """Nothing hangs any longer."""
        self._over.set()
