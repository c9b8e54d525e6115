"""When to ask a camera's ring for the next frame.

Design notes: knows times only; no core, no frames. Each question wakes a thread and
takes Python's lock, so few are asked while nothing can have come, and more when the
frame is due. It trusts a camera's rhythm only after some regular frames; before, and as
soon as one frame comes at another time, it asks every 0.5 ms.

    asking every 0.5 ms --8 regular frames--> in step --irregular, backlog--> asking ...
"""

from __future__ import annotations

__all__ = ["FrameClock"]

_STEADY_S = 0.0005
_DUE_S = 0.0002
"""Between questions around the time when a frame is due."""
_MARGIN_S = 0.001
"""So long before it is due questions begin, and so long they are many; of short periods
a tenth."""
_LONGEST_S = 0.01
"""A stop is noticed within this time, however long the exposures."""
_REGULAR = 8
_IRREGULAR = 0.1
"""Share of the period by which a frame may be off."""


class FrameClock:
    """Learns the period of frames that were waited for; tells how long to sleep."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._period_s = 0.0
        self._regular = 0

    @property
    def in_step(self) -> bool:
        """True while the next frame's time is believed to be known."""
        return self._regular >= _REGULAR

    def pause_s(self, now_s: float) -> float:
        """How long to sleep before asking again, in s."""
        if not self.in_step or self._last_s is None:
            return _STEADY_S
        due_s = self._last_s + self._period_s
        margin_s = min(_MARGIN_S, _IRREGULAR * self._period_s)
        early_s = due_s - margin_s - now_s
        if early_s > _STEADY_S:
            return min(early_s, _LONGEST_S)
        return _DUE_S if now_s < due_s + margin_s else _STEADY_S

    def came(self, now_s: float, *, waited: bool) -> None:
        """A frame was there; `waited` when it was not at the first question."""
        last_s, self._last_s = self._last_s, now_s
        if not waited or last_s is None:
            self._regular = 0  # the time at which it came is not known
            return
        interval_s = now_s - last_s
        off_s = interval_s - self._period_s
        if abs(off_s) > max(_IRREGULAR * self._period_s, _STEADY_S):
            self._period_s, self._regular = interval_s, 0
            return
        self._period_s += 0.1 * off_s
        self._regular += 1
