"""What is known of the sample: its gain, its drift, and how late it answers.

A gain is density over the density that the applied powers would have given at gain 1.
One filter per delay in question; the one that foretells the densities best is the
most likely. While the power moves they differ and the true one shows within an update
or two; at rest they agree and it does not matter. (Multiple-model estimation: Magill
1965, doi:10.1109/TAC.1965.1098191.)

Design notes
------------
Knows frame numbers, powers and densities; no target, no limits, no laser. Plain
numbers and short loops: with a dozen delays an array's calls cost more than its sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul, sub

from blinkloop.runtime.feedback.gains import GainFilters
from blinkloop.runtime.feedback.plant import PlantModel
from blinkloop.runtime.feedback.steepness import Steepness

__all__ = ["Sample"]

_KEPT_PER_UPDATE = 1.0 - 1.0 / 100.0
"""Older evidence is forgotten: a delay may change with the load."""
_INDEPENDENT = 0.5
"""Share of the evidence that counts: averages share emitters with those before them."""
_CREDIBLE = 4.5
"""Log-likelihood below that of the best (3 SD of one number) up to which a delay is
still credible."""
_LARGEST_SURPRISE = 3.0
"""In SD: what is more is the sample's doing, and says as much against each delay."""


class Sample:
    """Gain of the sample under each delay, and how likely each is.

    Parameters
    ----------
    on_time_frames
        Mean on-time.
    delays_frames
        Delays in question; one = it is known.
    filters
        Of the gain, one per delay.
    """

    def __init__(
        self,
        on_time_frames: float,
        delays_frames: Sequence[int],
        filters: GainFilters,
    ) -> None:
        self._model = PlantModel(on_time_frames, max(delays_frames))
        self._delays = tuple(delays_frames)
        # A short one is the usual one, a tenth of the longest: a weak prior.
        half = max(delays_frames) / 10.0 + 1.0
        self._priors = [
            -0.5 * math.log((delay + half) / (2.0 * half)) ** 2
            for delay in delays_frames
        ]
        self._filters = filters
        self._updates = [filters.updates(delay) for delay in delays_frames]
        self._evidence = [0.0] * len(self._delays)
        # What `take` compares with; the moment and the span they were worked out for.
        self._told_for: tuple[int, int] | None = None
        self._least, self._logs = 0.0, [0.0]
        self._logs_before: list[float] = []
        self._steepness = Steepness()
        self.known = False
        """True once a density was taken."""

    @property
    def delay_frames(self) -> int:
        """The most likely delay."""
        return self._delays[self._best()]

    def reset(self, power: float) -> None:
        """Nothing is known of gain and delay; it has long been under this power."""
        self.known = False
        self._evidence = [0.0] * len(self._delays)
        self._filters.reset()
        self._logs_before = []
        self._steepness.reset()
        self.restart(power)

    def restart(self, power: float) -> None:
        """It has long been under this power."""
        self._model.restart(power)

    def set_on_time(self, frames: float) -> None:
        """Mean on-time of the emitters from the next frame on."""
        self._model.set_on_time(frames)

    def command(self, power: float) -> None:
        """Note a power applied now, after the last frame seen."""
        self._model.command(power)

    def advance(self, index: int) -> None:
        """A frame of this number is seen."""
        self._model.advance(index)

    def foresee(self, index: int, n_frames: int) -> None:
        """Work out now what a density of that frame will be compared with."""
        self._model.foresee(index)
        self._tell(n_frames)

    def _tell(self, n_frames: int) -> None:
        """Densities at gain 1 under each delay: the least, and their logarithms."""
        told_for = self._model.moment, n_frames
        if told_for == self._told_for:
            return
        self._told_for = told_for
        levels = self._model.means(n_frames, self._delays)
        self._least = least = min(levels)
        self._logs = [math.log(level) for level in levels] if least > 0 else []

    def take(
        self,
        density: float,
        sd: float,
        n_frames: int,
        least: float,
        scale: float,
        doubt: float | None = None,
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
        doubt
            SD relative to this very density, by default `sd`: the logarithm of next to
            none says next to nothing.
        """
        self._tell(n_frames)
        if not self._logs or self._least < least:
            return
        # The mean of a noisy logarithm lies sd^2 / 2 below that of the mean.
        value = math.log(density) + 0.5 * sd**2
        self.known = True
        most = _LARGEST_SURPRISE * max(sd, 1e-6)
        steep, best = self._steepness, 0
        excess, moves = steep.value - 1.0, list(map(sub, self._logs, self._logs_before))
        if moves:
            best = self._best()
            if excess > 0:
                self._filters.shift([excess * move for move in moves])
        surprises = self._filters.take([value - log for log in self._logs], sd, scale)
        if moves:
            more = surprises[best] + excess * moves[best]
            steep.take(moves[best], more, sd if doubt is None else doubt)
        self._logs_before = self._logs
        # Halved squares of surprises in SD.
        worst, weight = most * most, 0.5 / max(sd, 1e-6) ** 2
        self._evidence = [
            before * _KEPT_PER_UPDATE
            - weight * (square if (square := surprise * surprise) < worst else worst)
            for surprise, before in zip(surprises, self._evidence, strict=True)
        ]

    def log_gain_ahead(self) -> tuple[float, float, float]:
        """Expected ln gain while the next command holds.

        Its mean and SD over the delays, and the largest under a credible delay.
        """
        scores = self._scores()
        best, exp = max(scores), math.exp
        weights = [exp(score - best) for score in scores]
        gains = self._filters.ahead(self._updates)
        total = sum(weights)
        mean = sum(map(mul, weights, gains)) / total
        squares = [(gain - mean) ** 2 for gain in gains]
        least = best - _CREDIBLE
        largest = max(
            [gain for gain, score in zip(gains, scores, strict=True) if score >= least]
        )
        return mean, math.sqrt(sum(map(mul, weights, squares)) / total), largest

    def move(self, log_target: float, gain: float, log_power: float) -> float:
        """Change of ln power that gives the target, at that ln gain ahead.

        The gain is that of the power seen; what the power has done since and will do
        counts by the steepness.
        """
        move, steep = log_target - gain - log_power, self._steepness.value
        if steep > 1.0 and self._logs_before:
            since = log_power - self._logs_before[self._best()]
            move = (move - (steep - 1.0) * since) / steep
        return move

    def _best(self) -> int:
        scores = self._scores()
        return scores.index(max(scores))

    def _scores(self) -> list[float]:
        """Of each delay: the larger, the likelier."""
        return [
            prior + _INDEPENDENT * evidence
            for prior, evidence in zip(self._priors, self._evidence, strict=True)
        ]
