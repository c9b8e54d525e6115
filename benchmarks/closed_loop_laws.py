"""The laws that `closed_loop.py` compares, written from their formulas."""

from __future__ import annotations

import numpy as np
from closed_loop_sample import FPS, NOMINAL, SIDE_PX, TARGET, WANTED, Counts

from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import (
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
)
from blinkloop.runtime.records import FrameResult, Roi
from blinkloop.schema import LOCALIZATION_DTYPE

__all__ = ["MAX_POWER", "UPDATE", "Alica", "Held", "HtSmlm", "Oracle", "Ours"]

MAX_POWER = 10000.0
UPDATE = 10


class Held:
    """A laser that is a number, held by our loop as `run --mode control` does it.

    Updates of 10 frames; time is what `now` says.
    """

    def __init__(self) -> None:
        self.value, self.now = 0.0, 0.0
        self.label, self.limits = "virtual", (0.0, MAX_POWER)

    def held_by(
        self,
        estimator: DensityEstimator,
        *,
        target: float,
        start: float,
        on_frames: float,
    ) -> FeedbackLoop:
        """A loop that has started."""
        guard = LaserGuard(
            self,
            LaserLimits(max_value=MAX_POWER),
            mode="control",
            clock=lambda: self.now,
            watchdog=False,
        )
        settings = ControllerSettings(
            target_per_um2=target,
            start_power=start,
            max_power=MAX_POWER,
            on_time_frames=on_frames,
            learn_on_time=True,
            update_frames=UPDATE,
        )
        loop = FeedbackLoop(estimator, FeedbackController(settings), guard)
        loop.start()
        return loop

    def write(self, value: float) -> None:
        """The laser's side."""
        self.value = value

    def read(self) -> float:
        """The laser's side."""
        return self.value


class Ours(Held):
    """The product on counts.

    `on_frames` is what a user would give, 3, whatever the sample's is; `target` what is
    to be counted, emitters per um^2, without what neighbours hide when it is `copied`.
    """

    def __init__(
        self,
        start: float,
        on_frames: float = 3.0,
        target: float = TARGET,
        copied: bool = False,
    ) -> None:
        super().__init__()
        estimator = DensityEstimator(
            100.0, average_frames=UPDATE, on_time_frames=on_frames, learn_on_time=True
        )
        if copied:
            estimator.count_as_seen()
        self.loop = self.held_by(
            estimator, target=target, start=start, on_frames=on_frames
        )

    def step(self, counts: Counts) -> float:
        self.now = counts.frame / FPS
        count = float(counts.blocks.sum())
        found = np.zeros(len(counts.xy_px), LOCALIZATION_DTYPE)
        found["x_px"], found["y_px"] = counts.xy_px.T
        result = FrameResult(
            index=counts.frame,
            timestamp_s=self.now,
            roi=Roi(0, 0, SIDE_PX, SIDE_PX),
            segment=0,
            localizations=found,
            table_full=False,
            count_mean=count,
            count_variance=0.05 * count,
            block_mean=counts.blocks.astype(np.float32),
        )
        self.loop.observe([result])
        return self.value


class HtSmlm:
    """d <- d + 0.1 + P k (1 - N / N0); P <- clip(P + d, 0, P_max); d <- 0 if d^2 > 1.

    Parameters
    ----------
    start
        Power.
    k
        Its "feedback"; 0.4 as delivered.
    period
        Frames between updates; its idle time is 100 ms as delivered, and it waits for
        two frames: 12 frames at 100 frames/s.
    gone
        N0 of its own counter, the emitters that are gone from one frame to the next
        (the clipped difference of two frames); None gives it the number of emitters
        of a frame, which is less noisy.
    """

    def __init__(
        self, start: float, k: float, period: float, gone: float | None = None
    ) -> None:
        self.power, self.k, self.period, self.gone = start, k, int(period), gone
        self.d = 0.0

    def step(self, counts: Counts) -> float:
        if counts.frame % self.period == self.period - 1:
            seen = float(counts.blocks.sum()) / WANTED
            if self.gone is not None:
                seen = counts.gone / self.gone
            self.d += 0.1 + self.power * self.k * (1 - seen)
            self.power = min(max(self.power + self.d, 0.0), MAX_POWER)
            if self.d**2 > 1:
                self.d = 0.0
        return self.power


class Alica:
    """P = Kp e + I, I clamped to [-Kp e, P_max - Kp e]; mean of a batch.

    Parameters
    ----------
    start
        Power.
    a, b
        Kp and Ki relative to the plant's true gain at the start: what a step test
        without noise would find.
    period
        Frames per batch.
    """

    def __init__(self, start: float, a: float, b: float, period: float) -> None:
        gain = NOMINAL / WANTED
        self.kp, self.ki, self.period = a * gain, b * gain, int(period)
        self.power = self.integral = start
        self.counts: list[float] = []

    def step(self, counts: Counts) -> float:
        self.counts.append(float(counts.blocks.sum()))
        if len(self.counts) == self.period:
            error = WANTED - float(np.mean(self.counts))
            self.counts.clear()
            share = self.kp * error
            self.integral += self.ki * error
            self.integral = min(max(self.integral, -share), MAX_POWER - share)
            self.power = share + self.integral
        return self.power


class Oracle:
    """Knows how many emitters are left in the dark: what blinking alone leaves."""

    def step(self, counts: Counts) -> float:
        return counts.best
