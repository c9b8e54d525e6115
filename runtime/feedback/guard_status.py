"""What a guard tells of itself; nothing is decided here."""

from __future__ import annotations

from typing import Literal

from blinkloop.runtime.feedback.freshness import Freshness
from blinkloop.runtime.feedback.lifelines import Lifelines
from blinkloop.runtime.feedback.limits import LaserLimits
from blinkloop.runtime.feedback.port import DoseMeter, LaserPort

__all__ = ["GuardStatus"]


class GuardStatus:
    """Read-only side of `LaserGuard`, which sets what is read here."""

    _port: LaserPort
    _lines: Lifelines
    _dose: DoseMeter
    _fresh: Freshness
    _fault: str | None
    _reason: str
    _value: float
    _armed: bool
    _safe: bool

    @property
    def limits(self) -> LaserLimits:
        """As given; once armed, with what was found out."""
        return self._port.limits

    @property
    def state(self) -> Literal["idle", "armed", "safe", "failed"]:
        """See the module's diagram."""
        if self._fault is not None:
            return "failed"
        if self._armed:
            return "armed"
        return "safe" if self._safe else "idle"

    @property
    def holding(self) -> bool:
        """True while estimates are overdue but the laser is not yet dark."""
        return self._fresh.holding

    @property
    def reason(self) -> str:
        """Why commands are not taken (when not armed)."""
        return self._reason

    @property
    def fault(self) -> str | None:
        """Set when the laser could not be brought to its safe value."""
        return self._fault

    @property
    def value(self) -> float:
        """Last value applied; NaN when nothing was written."""
        return self._value

    @property
    def deadman_problem(self) -> str | None:
        """Why the dead man does not watch; None = it does, or there is none."""
        return self._lines.deadman_problem

    @property
    def dose(self) -> float:
        """Integral of the value over time while armed, value x s."""
        return self._dose.total

    @property
    def writes(self) -> int:
        """Values the laser has taken, safe values included."""
        return self._port.writes

    def read(self) -> float:
        """What the laser reports; NaN without a laser or when it does not answer."""
        return self._port.read()
