r"""The only object that writes to a laser.

States::

    idle --arm--> armed --make_safe--> safe --arm--> armed
                                 \--> failed (the laser refuses the safe value)

Design notes
------------
The guard knows no density law. It trusts nobody: not the controller (hard limits and
step limit of its own), not the laser (reads back, and finds out when somebody else
writes to it), not the run (a watchdog thread brings the laser to its safe value when
fresh estimates stop), not the interpreter (`atexit`, a closed Windows console).
Signals belong to the command line: `make_safe` may be called from a handler or any
thread, at any time. What it cannot do: act after SIGKILL, `os._exit` or power loss; the
dead man it reports to may (`runtime.deadman`), a hardware interlock always does.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, NoReturn, get_args

from blinkloop.errors import DeviceError, DisarmedError, InputError
from blinkloop.runtime.density_estimate import DensityEstimate
from blinkloop.runtime.feedback.book import CommandBook
from blinkloop.runtime.feedback.found_out import find_out, patient
from blinkloop.runtime.feedback.freshness import Freshness
from blinkloop.runtime.feedback.guard_status import GuardStatus
from blinkloop.runtime.feedback.lifelines import Lifelines
from blinkloop.runtime.feedback.limits import LaserLimits
from blinkloop.runtime.feedback.log import CommandLog, LaserCommand
from blinkloop.runtime.feedback.port import DoseMeter, LaserPort, Switch, Watchdog
from blinkloop.runtime.protocols import Laser

__all__ = ["FeedbackMode", "LaserGuard"]

FeedbackMode = Literal["off", "advise", "control"]
"""off: no advice; advise: say what one would do; control: write to the laser."""

_LOCK_TIMEOUT_S = 1.0


class LaserGuard(GuardStatus):
    """Stands between everything and the laser. Thread-safe.

    Parameters
    ----------
    laser
        The laser; None = none there (not in control mode).
    limits
        Hard limits.
    mode
        Only `control` ever writes.
    log
        Takes a row per command; by default one in memory.
    clock, sleep
        Monotonic seconds, and pausing between attempts (replaced in tests).
    watchdog
        False = no thread; somebody calls `check` (tests).
    on_fault
        Told in one line when the laser cannot be brought to its safe value.
    deadman
        Told when it has to watch; acts when this process cannot. Closed with the guard.
    learn
        The first arming with a start value finds out how late and how rounded the
        laser reports (`find_out`); it also writes values below the start value.

    Attributes
    ----------
    mode, log, clock
        As given; not to be changed.

    Raises
    ------
    InputError
        Control without a laser, or limits the device does not have.
    DeviceError
        The laser does not tell its limits.
    """

    def __init__(
        self,
        laser: Laser | None,
        limits: LaserLimits,
        *,
        mode: FeedbackMode = "advise",
        log: CommandLog | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        watchdog: bool = True,
        on_fault: Callable[[str], None] | None = None,
        deadman: Switch | None = None,
        learn: bool = False,
    ) -> None:
        if mode not in get_args(FeedbackMode):
            raise InputError(f"feedback mode {mode!r}: use off, advise or control")
        self._given = limits
        self._port = LaserPort(
            laser, patient(limits) if learn else limits, sleep, clock
        )
        self.mode, self.clock, self._learn = mode, clock, learn
        self.log = log if log is not None else CommandLog()
        self._on_fault = on_fault
        self._lock, self._watchdog_wanted = threading.RLock(), watchdog
        self._watchdog: Watchdog | None = None
        self._armed = self._safe = self._closed = False
        self._reason = "not armed"
        self._fault: str | None = None
        self._mismatch: str | None = None
        self._value = math.nan
        self._dose = DoseMeter(limits.max_dose)
        self._fresh, self._retry_at = Freshness(limits, clock), clock()
        self._book = CommandBook(self.log, mode, clock, self._dose)
        self._record = self._book.record
        self._lines = Lifelines(
            self.make_safe, lambda text: self._record(reason=text), deadman
        )
        if mode == "control":
            self._port.check_limits()

    def arm(self, start_value: float | None = None) -> None:
        """Take charge of the laser (control mode; nothing happens in the others).

        Parameters
        ----------
        start_value
            Written at once, free of the step limit; None leaves the laser as it is.

        Raises
        ------
        DeviceError
            The laser does not answer, is off the limits, or the dose is used up.
        """
        if self.mode != "control":
            return
        with self._lock:
            if self._closed:
                raise DeviceError("laser: the guard is closed; make a new one")
            if self._dose.used_up:
                raise DeviceError(
                    f"laser: the dose limit of {self.limits.max_dose:g} is used up "
                    f"({self.dose:g}); raise max_dose or stop"
                )
            now = self.read() if start_value is not None else self._port.read_within()
            self._value = now if math.isfinite(now) else 0.0
            self._fresh.restart()
            self._dose.start(self.clock())
            self._safe, self._fault, self._mismatch = False, None, None
            self._armed, self._reason = True, ""
            self._lines.arm()
            if self._watchdog is None and self._watchdog_wanted:
                period_s = min(self.limits.stale_s / 4.0, 0.25)
                self._watchdog = Watchdog(self.check, period_s)
            if start_value is not None:
                if self._learn:
                    self._find_out(start_value)
                value = self._checked(lambda: self.limits.clamp(start_value))
                self._send(float(start_value), value, None, math.nan, "start")

    def command(
        self,
        value: float,
        *,
        estimate: DensityEstimate | None = None,
        target_per_um2: float = math.nan,
        reason: str = "",
    ) -> LaserCommand:
        """Apply a value (control) or only log it (advise, off).

        Raises
        ------
        InputError
            Not a finite number (the laser is made safe before).
        DeviceError
            Not armed, or the laser refuses or reports another value (it is made safe
            before).
        """
        if self.mode != "control":
            self.limits.clamp(value)
            read = self.read() if self.mode == "advise" else math.nan
            return self._record(
                float(value), math.nan, read, estimate, target_per_um2, reason
            )
        with self._lock:
            self._refuse_unless_armed()
            self._verify()
            allowed = self._checked(lambda: self.limits.allow(value, self._value))
            return self._send(float(value), allowed, estimate, target_per_um2, reason)

    def note(
        self,
        estimate: DensityEstimate,
        *,
        target_per_um2: float = math.nan,
        reason: str = "",
    ) -> LaserCommand:
        """Log that the laser is left as it is, and why.

        Raises
        ------
        DeviceError
            The laser reports another value than the one written (it is made safe).
        """
        if self._armed:
            with self._lock:
                self._verify()
        return self._record(estimate=estimate, target=target_per_um2, reason=reason)

    def alive(self, age_s: float = 0.0) -> None:
        """A usable estimate came in, of a frame that old: the watchdog counts anew."""
        self._fresh.frame(age_s)

    def check(self) -> None:
        """One look of the watchdog: dose, age, a refused safe value. Never raises."""
        self._lines.beat()
        self.log.write_out()
        now = self.clock()
        if self._fault is not None and now >= self._retry_at:
            self.make_safe("trying again")
        if not self._armed:
            return
        if self._lock.acquire(blocking=False):  # a stuck writer must not stop us
            try:
                self._count()
                if self._port.unconfirmed(now):
                    self._mismatch = self._port.verify(self._value)
            finally:
                self._lock.release()
        if self._mismatch is not None:
            self.make_safe(self._mismatch)
        elif self._dose.used_up:
            self.make_safe(self._dose.reason)
        elif self._fresh.dark(now):
            self.make_safe(self._fresh.since)
        elif self._fresh.begins_to_hold(now):
            self._record(reason=f"hold: {self._fresh.since}")

    def stalled(self, seconds: float) -> None:
        """The camera has delivered nothing for that long. Never raises."""
        if self._armed and seconds > self.limits.dark_after_s:
            self.make_safe(f"the camera stalled for {seconds:.1f} s")
        self.check()

    def make_safe(self, reason: str) -> bool:
        """Bring the laser to its safe value; no commands until armed again.

        Idempotent; never raises; may be called from a signal handler or any thread.
        Another thread stuck inside the device is waited for 1 s, then ignored: it
        writes the safe value itself when it comes back.

        Returns
        -------
        bool
            False when the laser refuses (`fault` says how).
        """
        self._armed = False
        if self.mode != "control":
            return True
        held = self._lock.acquire(timeout=_LOCK_TIMEOUT_S)
        try:
            if self._safe:
                return True
            self._count()
            self._reason = reason
            safe = self.limits.safe_value
            error, read = self._port.insist(safe)
            if error is None:
                self._value, self._safe, self._fault = safe, True, None
                self._dose.stop()
        finally:
            if held:
                self._lock.release()
        if error is None:
            self._lines.disarm()
            self._record(safe, safe, read, reason=f"safe: {reason}")
            return True
        first = self._fault is None
        self._retry_at = self.clock() + self.limits.stale_s
        self._fault = (
            f"{self._port.label}: the safe value {safe:g} was refused ({error}); "
            f"the laser may be on: switch it off by hand"
        )
        self._record(safe, math.nan, read, reason=f"NOT SAFE: {reason}: {error}")
        if first and self._on_fault is not None:
            with suppress(Exception):
                self._on_fault(self._fault)
        return False

    def close(self) -> bool:
        """Safe value, watchdog ended, log closed. Idempotent; never raises.

        Returns
        -------
        bool
            False when the laser refuses its safe value.
        """
        self._closed = True
        safe = self.make_safe("end of the run")
        if self._watchdog is not None:
            self._watchdog.stop(2 * _LOCK_TIMEOUT_S)
        self._lines.close(safe)
        self.log.close()
        return safe

    def complain(self) -> None:
        """Raise, once, what `check` found out about the laser (`DeviceError`)."""
        error, self._mismatch = self._mismatch, None
        if error is not None:
            self._give_up(error)

    def _find_out(self, start_value: float) -> None:
        self._value = self._checked(lambda: self.limits.clamp(start_value))
        error, found = find_out(
            self._port,
            self._given,
            self._value,
            lambda value, read: self._record(
                value, value, read, reason="start: to see how it answers"
            ),
            lambda: self._armed,
        )
        if not self._armed:
            # By a signal or another thread: which write came last is unknown.
            self._safe = False
            self._give_up(f"made safe while arming: {self._reason}", DisarmedError)
        if error is not None:
            self._give_up(error)
        self._fresh.restart()  # that took its time
        self._learn = False  # and need not be done again, beside frames
        if found:
            self._record(reason=f"the laser {found}")

    def _verify(self) -> None:
        """The laser must still be where it was put: the guard is the only writer."""
        error = self._port.verify(self._value)
        if error is not None and self._armed:
            self._give_up(error)

    def _give_up(self, error: str, kind: type = DeviceError) -> NoReturn:
        self.make_safe(error)
        safe = self._fault or "it was brought to its safe value"
        raise kind(f"{self._port.label}: {error}; {safe}")

    def _refuse_unless_armed(self) -> None:
        if not self._armed:
            raise DisarmedError(
                f"{self._port.label}: takes no commands ({self._reason}); arm it again "
                f"after looking at the cause"
            )

    def _count(self) -> None:
        self._dose.count(self._port.highest(self._value), self.clock())

    def _checked(self, rule: Callable[[], float]) -> float:
        try:
            return rule()
        except InputError as error:
            self.make_safe(str(error))
            raise

    def _send(
        self,
        requested: float,
        value: float,
        estimate: DensityEstimate | None,
        target: float,
        reason: str,
    ) -> LaserCommand:
        self._count()
        if self._dose.used_up:
            self.make_safe(self._dose.reason)
        self._refuse_unless_armed()
        error, read = self._port.write(value)
        kind = DisarmedError if error is None else DeviceError
        if error is None:
            self._value = value
        if not self._armed:
            # Made safe during the write: which came last is unknown, so once more.
            self._safe = False
            error = error or f"made safe during a command: {self._reason}"
        row = self._record(requested, value, read, estimate, target, error or reason)
        if error is not None:
            self._give_up(error, kind)
        return row
