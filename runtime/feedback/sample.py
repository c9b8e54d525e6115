"""What is known of the sample: its gain, its drift, and how late it answers.

A gain is density over the density that the applied powers would have given at gain 1.
One follower per delay in question; the one that foretells the densities best is the
most likely. While the power moves they differ and the true one shows within an update
or two; at rest they agree and it does not matter. (Multiple-model estimation: Magill
1965, doi:10.1109/TAC.1965.1098191.)

Design notes
------------
Knows frame numbers, powers and densities; no target, no limits, no laser.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from blinkloop.runtime.feedback.plant import GainFollower, PlantModel

__all__ = ["Sample"]

_MEMORY_UPDATES = 100.0
"""Older evidence is forgotten: a delay may change with the load."""
_INDEPENDENT = 0.5
"""Share of the evidence that counts: averages share emitters with those before them."""
_LARGEST_SURPRISE = 3.0
"""In SD: what is more is the sample's doing, and says as much against each delay."""


@dataclass(slots=True)
class _Hypothesis:
    delay: int
    model: PlantModel
    follower: GainFollower
    prior: float
    evidence: float = field(default=0.0)

    @property
    def score(self) -> float:
        return self.prior + _INDEPENDENT * self.evidence


class Sample:
    """Gain of the sample under each delay, and how likely each is.

    Parameters
    ----------
    on_time_frames
        Mean on-time.
    delays_frames
        Delays in question; one = it is known.
    make_follower
        From a delay to a follower of the gain.
    """

    def __init__(
        self,
        on_time_frames: float,
        delays_frames: Sequence[int],
        make_follower: Callable[[int], GainFollower],
    ) -> None:
        # A short one is the usual one, a tenth of the longest: a weak prior.
        half = max(delays_frames) / 10.0 + 1.0
        self._all = [
            _Hypothesis(
                delay,
                PlantModel(on_time_frames, delay),
                make_follower(delay),
                -0.5 * math.log((delay + half) / (2.0 * half)) ** 2,
            )
            for delay in delays_frames
        ]
        self.known = False
        """True once a density was taken."""

    @property
    def delay_frames(self) -> int:
        """The most likely delay."""
        return max(self._all, key=lambda h: h.score).delay

    def reset(self, power: float) -> None:
        """Nothing is known of gain and delay; it has long been under this power."""
        self.known = False
        for h in self._all:
            h.evidence = 0.0
            h.follower.reset()
        self.restart(power)

    def restart(self, power: float) -> None:
        """It has long been under this power."""
        for h in self._all:
            h.model.restart(power)

    def command(self, power: float) -> None:
        """Note a power applied now, after the last frame seen."""
        for h in self._all:
            h.model.command(power)

    def advance(self, index: int) -> None:
        """A frame of this number is seen."""
        for h in self._all:
            h.model.advance(index)

    def take(
        self, density: float, sd: float, n_frames: int, least: float, scale: float
    ) -> None:
        """A density and what it says.

        Parameters
        ----------
        density
            Mean of the last `n_frames` frames, > 0.
        sd
            Of its logarithm.
        least
            Densities at gain 1 below this are not the laser's doing: nothing is
            learned from them.
        scale
            Factor for the filters' gain.
        """
        levels = [h.model.mean(n_frames) for h in self._all]
        if min(levels) < least:
            return
        # The mean of a noisy logarithm lies sd^2 / 2 below that of the mean.
        value = math.log(density) + 0.5 * sd**2
        self.known = True
        for h, level in zip(self._all, levels, strict=True):
            surprise = h.follower.take(value - math.log(level), sd, scale)
            measure = min(abs(surprise) / max(sd, 1e-6), _LARGEST_SURPRISE)
            h.evidence *= 1.0 - 1.0 / _MEMORY_UPDATES
            h.evidence -= 0.5 * measure**2

    def log_gain_ahead(self) -> tuple[float, float]:
        """Expected ln gain while the next command holds, and its SD over the delays."""
        best = max(h.score for h in self._all)
        weights = [math.exp(h.score - best) for h in self._all]
        gains = [h.follower.ahead(h.delay) for h in self._all]
        mean = _mean(weights, gains)
        return mean, math.sqrt(_mean(weights, [(gain - mean) ** 2 for gain in gains]))


def _mean(weights: list[float], values: list[float]) -> float:
    weighed = (w * value for w, value in zip(weights, values, strict=True))
    return math.fsum(weighed) / math.fsum(weights)
