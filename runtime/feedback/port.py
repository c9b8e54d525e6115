"""The guard's hands: write, read back, compare. Used by `LaserGuard` alone."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.feedback.limits import LaserLimits
from blinkloop.runtime.protocols import Laser

__all__ = ["DoseMeter", "LaserPort", "Switch", "Watchdog"]

_ATTEMPTS = 4
_PAUSE_S = 0.05
_OPTIONS = {
    "min_value": "it",
    "max_value": "it (--max-power)",
    "safe_value": "it (--safe-power) to the one that does no harm",
}


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

    A laser that reports late (`LaserLimits.settle_s`) is not waited for: until then it
    may report any value that was in force within that time, or what lies between, and
    nothing else. Only the safe value is waited for.

    Attributes
    ----------
    limits
        Replaced by what is found out when the laser is armed.

    Raises
    ------
    InputError
        The limits are not within those of the device.
    DeviceError
        The device does not tell its limits.
    """

    def __init__(
        self,
        laser: Laser | None,
        limits: LaserLimits,
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self._laser, self.limits = laser, limits
        self.sleep, self.clock = sleep, clock
        self.writes = 0
        self._last = math.nan
        # (until when it may still be reported, value), oldest first.
        self._before: deque[tuple[float, float]] = deque(maxlen=1000)
        self._unconfirmed_s: float | None = None
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
        for name, option in _OPTIONS.items():
            value = getattr(self.limits, name)
            if not low <= value <= high:
                raise InputError(
                    f"{self.label}: {name} {value:g} is outside what the device takes "
                    f"({low:g} .. {high:g}); it could never be written; change {option}"
                )

    def read(self) -> float:
        """What the laser reports; NaN when it does not answer."""
        if self._laser is None:
            return math.nan
        try:
            return float(self._laser.read())
        except Exception:  # asking is a courtesy here, never a reason to fail
            return math.nan

    def read_within(self) -> float:
        """What it reports, when that is a value within the limits, or about 0.

        Raises
        ------
        DeviceError
            It is not.
        """
        now, highest = self.read(), self.limits.max_value
        if not (0 <= now <= highest or self.limits.matches(0.0, now)):
            raise DeviceError(
                f"{self.label}: reports {now:g}, not a value within 0 .. "
                f"{highest:g}; set it by hand or give a start value"
            )
        return now

    def write(self, value: float) -> tuple[str | None, float]:
        """Write and read back: what went wrong (None = nothing), and the reading.

        A late laser's reading may be that of a value before; `unconfirmed` then says
        when it is to be looked at again.
        """
        error, read = self.put(value)
        if error is None and self.limits.read_back and not self._plausible(value, read):
            error = f"reports {read:g} after {value:g} was written"
        return error, read

    def put(self, value: float) -> tuple[str | None, float]:
        """Write and read, without judging what was read."""
        if self._laser is None:
            return "is not there", math.nan
        try:
            before = self._last
            if self.limits.settle_s > 0 and not math.isfinite(before):
                before = self.read()
            self._laser.write(value)
            self.writes += 1
            if self.limits.settle_s > 0 and math.isfinite(before):
                self._before.append((self.clock() + self.limits.settle_s, before))
            self._last = value
            if not self.limits.read_back:
                return None, math.nan
            return None, float(self._laser.read())
        except Exception as error:
            return f"refuses {value:g} ({type(error).__name__}: {error})", math.nan

    def verify(self, value: float) -> str | None:
        """Whether it is still where it was put; what is wrong (None = nothing)."""
        if self._laser is None or not (self.limits.read_back and math.isfinite(value)):
            return None
        read = self.read()
        if self._plausible(value, read):
            return None
        return f"reports {read:g}, not the {value:g} written (used by something else?)"

    def unconfirmed(self, now: float) -> bool:
        """True when a late laser has had its time and is to be looked at again."""
        return self._unconfirmed_s is not None and now > self._unconfirmed_s

    def highest(self, value: float) -> float:
        """The largest that may shine: the value, or one that is not over yet."""
        return max([value, *self._recent()])

    def insist(self, value: float) -> tuple[str | None, float]:
        """Like `write`, several attempts, until confirmed; nothing is raised."""
        error: str | None = None
        read = math.nan
        for attempt in range(_ATTEMPTS):
            try:
                error, read = self.put(value)
                if error is None:
                    error, read = self._wait_for(value, read)
                if error is None:
                    return None, read
                if attempt + 1 < _ATTEMPTS:
                    self.sleep(_PAUSE_S)
            except BaseException as caught:  # Ctrl-C must not leave the laser on
                error = f"interrupted ({type(caught).__name__})"
        return f"{_ATTEMPTS} attempts; the last one: {error}", read

    def _wait_for(self, value: float, read: float) -> tuple[str | None, float]:
        """Until it reports the value itself; at once when it does, or is never late."""
        if not self.limits.read_back:
            return None, read
        for _ in range(math.ceil(self.limits.settle_s / _PAUSE_S)):
            if self.limits.confirms(value, read):
                break
            self.sleep(_PAUSE_S)
            read = self.read()
        if not self.limits.confirms(value, read):
            return f"reports {read:g} after {value:g} was written", read
        self._before.clear()
        self._unconfirmed_s = None
        return None, read

    def forget(self) -> None:
        """What was written before is over."""
        self._before.clear()

    def _recent(self) -> list[float]:
        """Values before that may still be reported."""
        now = self.clock()
        while self._before and self._before[0][0] < now:
            self._before.popleft()
        return [value for _, value in tuple(self._before)]

    def _plausible(self, value: float, read: float) -> bool:
        """Whether that may be read now; remembers whether it is to be looked at."""
        recent = self._recent()
        if self.limits.matches(value, read):
            self._unconfirmed_s = None
            return True
        self._unconfirmed_s = self.clock() + self.limits.settle_s
        everything = [value, *recent]
        return self.limits.between(min(everything), max(everything), read)


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
