"""Gains from a small step of the power and the density's answer.

The controller works on logarithms, where a sample that answers in proportion has a
response of 1 at every power: ln(S1 / S0) / ln(P1 / P0). Less = some of the light is
not the laser's doing, or the network saturates; the gains are divided by it. A response
that is clearly negative means that more laser gives fewer emitters. (ALICA tunes by a
step as well, on plain numbers; REFERENCE 10.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["StepTest", "TunedGains"]

_FRAMES = 100
_FACTOR = 1.5
_CLEAR = 2.0
"""A response is taken for real beyond so many of its SD."""
_NOISE_MAX = 0.3


@dataclass(frozen=True, slots=True)
class TunedGains:
    """Result of a step test.

    Parameters
    ----------
    response, sd
        Relative log response and its SD; NaN when it could not be measured.
    scale
        Factor for the gains, 1 when the response is not clear.
    negative
        True when the laser should go down for good.
    """

    response: float
    sd: float
    scale: float
    negative: bool


class StepTest:
    """One density and power per update in, what to do with the power out.

    Parameters
    ----------
    max_power
        A step that would exceed it goes down instead.
    update_frames
        Frames per update: 100 frames are measured before the step and after it.
    settling_frames
        Frames that the emitters need to follow.
    """

    def __init__(
        self, max_power: float, update_frames: int, settling_frames: int
    ) -> None:
        self._max_power = max_power
        self._updates = max(math.ceil(_FRAMES / update_frames), 2)
        self._pause = math.ceil(settling_frames / update_frames)
        self._patience = 5 * self._updates
        self._before: list[tuple[float, float]] = []
        self._after: list[tuple[float, float]] = []
        self._powers: list[float] = []
        self._seen = self._wait = 0
        self.result: TunedGains | None = None
        """Set at the end."""

    def take(self, density: float, sd: float, power: float) -> tuple[float, str]:
        """One update: the power wished for, and why.

        Parameters
        ----------
        density, sd
            Smoothed, per um^2, at this power.
        power
            Applied now.
        """
        self._seen += 1
        if self._seen > self._patience or power <= 0:
            return self._end(TunedGains(math.nan, math.nan, 1.0, False), power)
        if density <= 0 or sd > _NOISE_MAX * density:
            return power, "tuning: waits for a density to measure"
        point = (math.log(density), sd / density)
        if len(self._before) < self._updates:
            self._before.append(point)
            if len(self._before) < self._updates:
                return power, "tuning: measures before the step"
            up = power * _FACTOR <= self._max_power
            self._powers, self._wait = [power], self._pause
            wished = power * _FACTOR if up else power / _FACTOR
            return wished, "tuning: steps " + ("up" if up else "down")
        if self._wait:
            self._wait -= 1
            self._powers.append(power)
            return power, "tuning: waits for the emitters"
        self._after.append(point)
        if len(self._after) < self._updates:
            return power, "tuning: measures after the step"
        return self._end(self._judge(), self._powers[0])

    def _judge(self) -> TunedGains:
        step = math.log(self._powers[1] / self._powers[0])
        if abs(step) < 0.1:  # a guard or device that did not follow
            return TunedGains(math.nan, math.nan, 1.0, False)
        first, second = (_mean(points) for points in (self._before, self._after))
        response = (second[0] - first[0]) / step
        sd = math.hypot(first[1], second[1]) / abs(step)
        if response < -_CLEAR * sd:
            return TunedGains(response, sd, 1.0, True)
        clear = response > _CLEAR * sd
        scale = min(max(1.0 / response, 0.5), 2.0) if clear else 1.0
        return TunedGains(response, sd, scale, False)

    def _end(self, result: TunedGains, power: float) -> tuple[float, str]:
        self.result = result
        return power, (
            f"tuned: response {result.response:.2f} +- {result.sd:.2f}, gains x"
            f"{result.scale:.2f}"
        )


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean of the logarithms, and its SD."""
    n = len(points)
    mean = math.fsum(value for value, _ in points) / n
    return mean, math.sqrt(math.fsum(sd**2 for _, sd in points)) / n
