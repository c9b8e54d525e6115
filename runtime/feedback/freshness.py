"""How long ago the frame was taken that the laser was last judged by."""

from __future__ import annotations

from collections.abc import Callable

from blinkloop.runtime.feedback.limits import LaserLimits

__all__ = ["Freshness"]


class Freshness:
    """First hold, then dark, when usable estimates of fresh frames stop coming.

    Parameters
    ----------
    limits
        `stale_s` and `dark_after_s`.
    clock
        Monotonic seconds.
    """

    def __init__(self, limits: LaserLimits, clock: Callable[[], float]) -> None:
        self._stale_s, self._dark_after_s = limits.stale_s, limits.dark_after_s
        self._clock = clock
        self._seen = clock()
        self.holding = False
        """True from `stale_s` on, until a fresh frame comes."""

    @property
    def age_s(self) -> float:
        """Age of the newest frame with a usable estimate."""
        return self._clock() - self._seen

    @property
    def since(self) -> str:
        """That age in words."""
        return f"no fresh estimate for {self.age_s:.1f} s"

    def dark(self, now: float) -> bool:
        """True when it is too old for the laser to stay on."""
        return now - self._seen > self._dark_after_s

    def restart(self) -> None:
        """Count from now on, as if a frame had come."""
        self._seen, self.holding = self._clock(), False

    def frame(self, age_s: float) -> None:
        """A usable estimate of a frame that was taken so long ago."""
        self._seen = max(self._seen, self._clock() - age_s)
        if age_s <= self._stale_s:
            self.holding = False

    def begins_to_hold(self, now: float) -> bool:
        """True once, when the newest frame has become stale."""
        if self.holding or now - self._seen <= self._stale_s:
            return False
        self.holding = True
        return True
