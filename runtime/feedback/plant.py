"""What the applied powers should have given: the model the controller reasons with.

Active emitters follow dn/dt = k P D(t) - n / tau. Per frame, with r the density that a
gain k D tau of 1 would give,

    r <- r exp(-1 / tau) + P (1 - exp(-1 / tau)),   P that of `delay` frames before,

so density / r *is* the gain, also while the laser moves and while its last change is
not seen yet (`gains.py` follows it).

Design notes
------------
Knows frame numbers, powers and densities; no target, no limits, no laser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["PlantModel"]

_KEPT = 4096
"""Frames of the past that are kept; longer averages see these alone."""


class PlantModel:
    """Density at gain 1, frame by frame, from the powers applied.

    A later answer is the same answer later, so one history serves every delay.

    Parameters
    ----------
    on_time_frames
        Mean on-time tau.
    longest_delay_frames
        Largest delay that is asked for: frames between a command and the first frame
        that shows it.
    """

    def __init__(self, on_time_frames: float, longest_delay_frames: int) -> None:
        self.set_on_time(on_time_frames)
        self._longest = longest_delay_frames
        self._reach = _KEPT + longest_delay_frames
        self._moment = 0
        self.restart(0.0)

    @property
    def moment(self) -> int:
        """Another one with every frame, seen or foreseen, and every restart."""
        return self._moment

    def set_on_time(self, frames: float) -> None:
        """Of the emitters from the next frame on."""
        self._stay = math.exp(-1.0 / frames)

    def restart(self, power: float) -> None:
        """The sample has long been under this power; frames may count anew."""
        self._power = self._level = power
        self._moment += 1
        self._index: int | None = None
        self._foreseen = False
        self._commanded: float | None = None
        self._seen = 0
        # Running sums, so that a mean is a difference. Before the first frame: what it
        # would have been, as far as a delay reaches.
        self._sums = [power * n for n in range(self._longest + 1)]

    def command(self, power: float) -> None:
        """Note a power applied now, after the last frame seen."""
        self._commanded = power

    def advance(self, index: int) -> None:
        """A frame of this number is seen; frames in between passed unseen."""
        last, foreseen = self._index, self._foreseen
        self._foreseen = False
        if foreseen and index == last:
            return
        if last is not None and index <= last:
            self.restart(self._power if self._commanded is None else self._commanded)
            last = None
        first = index if last is None else last + 1
        if first < index:
            for _ in range(max(first, index - self._reach), index):
                self._add()
        if self._commanded is not None:
            # Counted from the first frame that was not in hand when it was applied.
            self._power, self._commanded = self._commanded, None
        self._add()
        self._index = index

    def foresee(self, index: int) -> None:
        """Take it as seen; another frame may come next all the same."""
        if self._index is not None and index > self._index:
            self.advance(index)
            self._foreseen = True

    def mean(self, n_frames: int, delay_frames: int = 0) -> float:
        """Mean over the last n frames (fewer, if there are not as many yet)."""
        return self.means(n_frames, (delay_frames,))[0]

    def means(self, n_frames: int, delays_frames: Sequence[int]) -> list[float]:
        """`mean` under each delay, 0 to the longest."""
        n = min(max(n_frames, 1), self._seen, _KEPT)
        if n == 0:
            return [self._level] * len(delays_frames)
        sums, last = self._sums, len(self._sums) - 1
        # Rounding may leave less than nothing of a laser that was off.
        return [
            max(sums[last - d] - sums[last - d - n], 0.0) / n for d in delays_frames
        ]

    def _add(self) -> None:
        stay, sums = self._stay, self._sums
        self._level = level = self._level * stay + self._power * (1.0 - stay)
        sums.append(sums[-1] + level)
        self._moment += 1
        self._seen += 1
        if len(sums) > 2 * self._reach:
            del sums[: -self._reach - 1]
            # From 0 again: large sums would round small levels away.
            first = sums[0]
            sums[:] = [value - first for value in sums]
