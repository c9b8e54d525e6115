"""The guard's hands: write, read back, compare. Used by `LaserGuard` alone."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Protocol

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.feedback.limits import LaserLimits
from blinkloop.runtime.protocols import Laser

__all__ = ["DoseMeter", "LaserPort", "Switch", "Watchdog"]

_ATTEMPTS = 4
_PAUSE_S = 0.05


class Switch(Protocol):
    """A dead man: makes the laser safe when this process no longer can.

    Nothing here raises, blocks, or minds being called twice or in a signal handler.
    """

    @property
    def problem(self) -> str | None:
        """Why nobody watches any more; None = somebody does."""
        ...

    def arm(self) -> None: ...
    def beat(self) -> None: ...
    def disarm(self) -> None: ...
    def close(self) -> None: ...


class LaserPort:
    """A laser (None = there is none) whose answers are not trusted.

    Raises
    ------
    InputError
        The limits are not within those of the device.
    DeviceError
        The device does not tell its limits.
    """

    def __init__(
        self, laser: Laser | None, limits: LaserLimits, sleep: Callable[[float], None]
    ) -> None:
        self._laser, self._limits, self._sleep = laser, limits, sleep
        self.writes = 0
        # Asked for once: a dying device must not spoil the message about its death.
        self.label = "laser" if laser is None else f"laser {laser.label}"

    def check_limits(self) -> None:
        """Refuse to control no laser, or with limits the device does not have."""
        if self._laser is None:
            raise InputError(
                "feedback mode control needs a laser, none is given; name its device "
                "and property, or use advise"
            )
        try:
            low, high = map(float, self._laser.limits)
        except Exception as error:
            raise DeviceError(
                f"{self.label}: its limits cannot be read ({error}); check the device"
            ) from error
        for name in ("min_value", "max_value", "safe_value"):
            value = getattr(self._limits, name)
            if not low <= value <= high:
                raise InputError(
                    f"{self.label}: {name} {value:g} is outside what the device takes "
                    f"({low:g} .. {high:g}); it could never be written; change it"
                )

    def read(self) -> float:
        """What the laser reports; NaN when it does not answer."""
        if self._laser is None:
            return math.nan
        try:
            return float(self._laser.read())
        except Exception:  # asking is a courtesy here, never a reason to fail
            return math.nan

    def write(self, value: float) -> tuple[str | None, float]:
        """Write and read back: what went wrong (None = nothing), and the reading."""
        if self._laser is None:
            return "is not there", math.nan
        try:
            self._laser.write(value)
            self.writes += 1
            if not self._limits.read_back:
                return None, math.nan
            read = float(self._laser.read())
        except Exception as error:
            return f"refuses {value:g} ({type(error).__name__}: {error})", math.nan
        if not self._limits.matches(value, read):
            return f"reports {read:g} after {value:g} was written", read
        return None, read

    def verify(self, value: float) -> str | None:
        """Whether it is still where it was put; what is wrong (None = nothing)."""
        if self._laser is None or not (self._limits.read_back and math.isfinite(value)):
            return None
        read = self.read()
        if self._limits.matches(value, read):
            return None
        return f"reports {read:g}, not the {value:g} written (used by something else?)"

    def insist(self, value: float) -> tuple[str | None, float]:
        """Like `write`, several attempts; nothing whatsoever is raised."""
        error: str | None = None
        read = math.nan
        for attempt in range(_ATTEMPTS):
            try:
                error, read = self.write(value)
                if error is None:
                    return None, read
                if attempt + 1 < _ATTEMPTS:
                    self._sleep(_PAUSE_S)
            except BaseException as caught:  # Ctrl-C must not leave the laser on
                error = f"interrupted ({type(caught).__name__})"
        return f"{_ATTEMPTS} attempts; the last one: {error}", read


class DoseMeter:
    """Integral of a value that stays constant between calls, value x s."""

    def __init__(self, limit: float | None) -> None:
        self.total = 0.0
        self._limit = limit
        self._since: float | None = None

    def count(self, value: float, now: float) -> None:
        """The value was applied since the last call (or since `start`)."""
        if self._since is None:
            return
        if math.isfinite(value):
            self.total += value * max(now - self._since, 0.0)
        self._since = now

    @property
    def used_up(self) -> bool:
        """True when the limit is reached."""
        return self._limit is not None and self.total >= self._limit

    @property
    def reason(self) -> str:
        """Why the laser goes dark when it is used up."""
        return f"dose limit reached ({self.total:g})"

    def start(self, now: float) -> None:
        """Begin to count."""
        self._since = now

    def stop(self) -> None:
        """Count no more."""
        self._since = None


class Watchdog:
    """Calls `check` every `period_s` on a daemon thread until stopped."""

    def __init__(self, check: Callable[[], None], period_s: float) -> None:
        self._check, self._period_s = check, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="laser-guard", daemon=True
        )
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._period_s):
            self._check()

    def stop(self, timeout_s: float) -> None:
        """End the thread (from any thread, itself included)."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
