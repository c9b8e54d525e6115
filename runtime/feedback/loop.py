"""Estimator, controller and guard joined to one observer of a run.

Design notes
------------
The loop decides nothing: it carries estimates to the controller, wishes to the guard
and the guard's answer back to the controller. It never waits for the camera. Any
exception on the way makes the laser safe before it goes on its way up.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import DeviceError, DisarmedError
from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.density_estimate import DensityEstimate
from blinkloop.runtime.feedback.age import FrameAge
from blinkloop.runtime.feedback.controller import ControlDecision, FeedbackController
from blinkloop.runtime.feedback.guard import LaserGuard
from blinkloop.runtime.feedback.history import History
from blinkloop.runtime.feedback.settling import mean_of_last_third, settling_frame
from blinkloop.runtime.records import FrameResult, Gap

__all__ = ["FeedbackLoop"]

_COLUMNS = {
    "frame": "first",
    "time_s": "first",
    "density_per_um2": "mean",
    "smoothed_per_um2": "mean",
    "smoothed_sd_per_um2": "mean",
    "crowding_per_um2": "max",
    "target_per_um2": "last",
    "power": "last",
}
_SETTLING_FRAMES = 100

_log = logging.getLogger(__name__)


class FeedbackLoop:
    """Follows a run and steers, or advises on, the activation laser.

    Parameters
    ----------
    estimator
        Frame results to density.
    controller
        Density to power.
    guard
        Power to laser; its mode (off, advise, control) is the loop's.

    Notes
    -----
    In control mode `start` (or the first frame) arms the guard and writes the
    controller's start power. `close` always leaves the laser at its safe value.
    """

    def __init__(
        self,
        estimator: DensityEstimator,
        controller: FeedbackController,
        guard: LaserGuard,
    ) -> None:
        self._estimator = estimator
        self._controller = controller
        self._guard = guard
        self._history = History(_COLUMNS)
        # What a row is made of, until somebody has the time.
        self._unwritten: deque[tuple[DensityEstimate, float, float]] = deque()
        self._writing = threading.Lock()
        self._defers = False
        self._started = self._closed = self._copying = False
        self._error: str | None = None
        self._held = 0
        self._not_finite = 0
        self._updates = 0
        self._estimate: DensityEstimate | None = None
        self._decision: ControlDecision | None = None
        self._advised = math.nan
        self._age = FrameAge(guard.clock)
        self._age_s, self._oldest_s = 0.0, 0.0

    @property
    def mode(self) -> str:
        """off, advise or control."""
        return self._guard.mode

    @property
    def dark_after_s(self) -> float | None:
        """The laser goes dark after so long without an estimate; None = not ours."""
        return self._guard.limits.dark_after_s if self.mode == "control" else None

    @property
    def target_per_um2(self) -> float:
        """The set point."""
        return self._controller.target_per_um2

    @property
    def estimate(self) -> DensityEstimate | None:
        """The latest estimate."""
        return self._estimate

    @property
    def decision(self) -> ControlDecision | None:
        """The latest decision (None before the first update, or in mode off)."""
        return self._decision

    @property
    def state(self) -> str:
        """For a status line: off, advising, controlling, holding, or why dark."""
        if self.mode == "off":
            return "off"
        if self.mode == "advise":
            return "advising"
        if self._guard.state == "armed":
            if self._controller.vanished.gone:
                return "emitters gone (focus, shutter, stage?): waiting"
            return "holding" if self._guard.holding else "controlling"
        return self._guard.fault or self._guard.reason

    def start(self) -> None:
        """Arm the guard with the start power (control mode). Called once.

        Raises
        ------
        DeviceError
            The laser does not obey; it was made safe.
        """
        if self._started:
            return
        self._started = True
        self._guarded(self._arm)

    def rearm(self) -> None:
        """Go on after the guard went to the safe value; a person decides that."""
        self._started = True
        self._estimator.reset()
        self._age.reset()
        self._error = None
        self._guarded(self._arm)

    def observe(self, results: Sequence[FrameResult]) -> None:
        """Take the results of some frames, in order.

        Raises
        ------
        DeviceError
            The laser refuses or reports another value; it was made safe. The loop
            goes on observing, without commands.
        """
        if not self._started:
            self.start()
        self._guarded(self._take, results)

    def afterwards(self) -> None:
        """All observers have seen the results: now what could wait.

        The guard's look at dose and age, the log's rows, the history, and what is
        learned from the frame for later ones.
        """
        # From now on this is where it is done.
        self._defers = self._guard.log.defers = True
        self._guard.check()
        self._estimator.afterwards()
        self._catch_up()
        if self._estimate is not None:
            average_frames = self._estimator.average_frames
            self._controller.foresee(self._estimate.index + 1, average_frames)

    def copy_target(self) -> None:
        """Hold what there is now: the target becomes the next full average.

        Until then nothing is decided. Called before `start`, the laser is left as it
        is instead of being set to the start power. The number is held as it is
        counted: what neighbours hide is hidden before and after.
        """
        self._copying = True
        self._estimator.count_as_seen()

    def gap(self, gap: Gap) -> None:
        """Frames are missing."""
        self._estimator.gap(gap)
        self._controller.gap(gap.count)

    def stall(self, seconds: float) -> None:
        """The camera has delivered nothing for that long; may come from any thread."""
        self._guard.stalled(seconds)

    def make_safe(self, reason: str) -> bool:
        """Bring the laser to its safe value now (control mode); never raises.

        For signal handlers and other threads; see `LaserGuard.make_safe`.
        """
        return self._guard.make_safe(reason)

    def close(self) -> None:
        """Leave the laser at its safe value (control mode). Idempotent.

        Raises
        ------
        DeviceError
            The laser refuses the safe value.
        """
        if self._closed:
            return
        self._closed = True
        if not self._guard.close():
            raise DeviceError(self._guard.fault or "the laser is not safe")

    def history(self) -> dict[str, npt.NDArray[np.float64]]:
        """One row per frame, as arrays (n,); of long runs one per 2, 4, ... frames.

        Keys: `frame, time_s, density_per_um2, smoothed_per_um2, smoothed_sd_per_um2,
        crowding_per_um2, target_per_um2, power`. The power is the one applied in
        control mode, the one advised in advise mode, else NaN.
        """
        self._write_history()
        return self._history.columns()

    def summary(self) -> Mapping[str, Any]:
        """Facts of the run, JSON-serializable; None where there is no number."""
        rows = self.history()
        target = self._controller.target_per_um2
        density = rows["density_per_um2"]
        window = max(_SETTLING_FRAMES // self._history.frames_per_row, 1)
        settled = settling_frame(density, target, window_frames=window)
        power = rows["power"][np.isfinite(rows["power"])]
        crowding = rows["crowding_per_um2"][np.isfinite(rows["crowding_per_um2"])]
        guard, last = self._guard, self._estimate
        return {
            "feedback_mode": self.mode,
            "density_target_per_um2": target,
            "density_achieved_per_um2": mean_of_last_third(density),
            "crowding_max_per_um2": float(crowding.max()) if crowding.size else None,
            "density_not_finite": self._not_finite,
            "density_overlap": None if last is None else last.overlap,
            "on_time_frames": self._estimator.on_time_frames,
            "density_settled_frame": (
                None if settled is None else int(rows["frame"][settled])
            ),
            "laser_commands": guard.writes if self.mode == "control" else 0,
            "laser_updates": self._updates,
            "laser_updates_held": self._held,
            "laser_final": _number(guard.value),
            "laser_last_power": float(power[-1]) if power.size else None,
            "laser_dose": guard.dose,
            "laser_state": guard.state,
            "laser_stopped": guard.reason if guard.state in ("safe", "failed") else "",
            "laser_fault": guard.fault,
            "frame_age_s_max": self._oldest_s,
            "laser_log_error": guard.log.error,
            "feedback_error": self._error,
            "negative_response": self._controller.trip_reason == "negative response",
            "emitters_gone": self._controller.vanished.times,
            "emitters_gone_given_up": self._controller.vanished.given_up,
            "tuned_response": _tuned(self._controller),
            "laser_delay_frames": self._controller.delay_frames,
            "controller_stopped": self._controller.trip_reason,
        }

    def _guarded(self, action: Callable[..., None], *what: Any) -> None:
        """Run it; the laser is safe before anything raised goes on."""
        try:
            action(*what)
        except BaseException as error:
            self._error = self._error or (str(error) or type(error).__name__)
            self._guard.make_safe(self._error)
            raise

    def _arm(self) -> None:
        self._controller.reset()
        if self.mode == "advise":
            self._controller.applied(self._guard.read())
        if self.mode != "control":
            return
        self._guard.arm(None if self._copying else self._controller.power)
        # A laser of steps may have been found out.
        self._controller.set_resolution(self._guard.limits.resolution)
        self._controller.applied(self._guard.value)

    def _take(self, results: Sequence[FrameResult]) -> None:
        acted = False
        guard, update = self._guard, self._estimator.update
        guard.complain()
        for result in results:
            before = self._estimate
            if before is not None and result.index <= before.index:
                self._age.reset()  # the camera started anew
            self._estimate = estimate = update(result)
            self._age_s = age_s = self._age.of(result.timestamp_s)
            if self._oldest_s < age_s < math.inf:
                self._oldest_s = age_s
            if math.isfinite(estimate.per_um2):
                guard.alive(age_s)
            else:
                self._not_finite += 1
            if not self._defers:
                guard.check()
                self._catch_up()
            try:
                # Frames handed over together were taken before a command that the
                # first of them caused: the controller must not judge it by them.
                if not acted and guard.mode != "off" and self._may_command():
                    acted = self._decide(estimate)
            except DisarmedError as error:
                # Made safe since it was asked: by a signal, the dose or missing
                # estimates. The log has the reason; the run is none the worse.
                _log.debug("%s", error)
            finally:
                applied = guard.value if guard.mode == "control" else self._advised
                target = self._controller.target_per_um2
                self._unwritten.append((estimate, target, applied))

    def _may_command(self) -> bool:
        if self.mode == "advise":
            return True
        # What was long ago must not drive the laser now.
        fresh = self._age_s <= self._guard.limits.stale_s
        return fresh and self._guard.state == "armed"

    def _decide(self, estimate: DensityEstimate) -> bool:
        """One estimate to the controller; True when a command came of it."""
        if self._copying:
            self._copy(estimate)
            return False
        decision = self._controller.update(estimate)
        if decision is None:
            return False
        self._decision = decision
        self._updates += 1
        target = self._controller.target_per_um2
        if decision.hold:
            self._held += 1
            self._guard.note(estimate, target_per_um2=target, reason=decision.reason)
            return False
        row = self._guard.command(
            decision.power,
            estimate=estimate,
            target_per_um2=target,
            reason=decision.reason,
        )
        if self.mode == "control":
            self._controller.applied(row.written)
            return True
        self._advised = decision.power
        # The next advice starts from what the laser does, not from what was advised:
        # advice that nobody follows must not wind up.
        self._controller.applied(row.read_back)
        return True

    def _copy(self, estimate: DensityEstimate) -> None:
        density = self._controller.density(estimate)
        full = estimate.n_frames >= self._estimator.average_frames
        if not full or not math.isfinite(density) or density <= 0:
            return
        self._copying = False
        self._controller.set_target(density)
        self._guard.note(
            estimate, target_per_um2=density, reason="target copied from now"
        )

    def _catch_up(self) -> None:
        """The history, and what the controller should know of what was learned."""
        self._write_history()
        if self._estimator.on_time_known:
            self._controller.set_on_time(self._estimator.on_time_frames)

    def _write_history(self) -> None:
        """Also for another thread that asks for it."""
        with self._writing:
            while self._unwritten:
                estimate, target, power = self._unwritten.popleft()
                values = (
                    float(estimate.index),
                    estimate.timestamp_s,
                    estimate.per_um2,
                    estimate.smoothed_per_um2,
                    estimate.smoothed_sd_per_um2,
                    estimate.crowding_per_um2,
                    target,
                    power,
                )
                self._history.add(values)


def _tuned(controller: FeedbackController) -> float | None:
    return None if controller.tuned is None else _number(controller.tuned.response)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
