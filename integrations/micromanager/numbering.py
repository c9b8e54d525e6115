"""From the core's image numbers to frame indices that never hide a loss.

Design notes: knows neither cores nor cameras; two numbers in, one index out. MMCore 12
goes on counting when its ring overflows and is cleared (the number jumps); MMCore 11
starts again from 0, so a count of forward jumps alone would see no loss at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FrameNumbering"]


@dataclass(slots=True)
class FrameNumbering:
    """Turns `ImageNumber` and `ElapsedTime-ms` of one sequence into `Frame.index`.

    Parameters
    ----------
    period_ms
        Expected time between frames in ms, used until one has been measured.

    Notes
    -----
    A number that rises by k raises the index by k, so k - 1 frames are missing. A
    number that falls or repeats means that the core cleared its ring and renumbered:
    how many frames went with it is estimated as elapsed time / frame period, and is at
    least one.
    """

    period_ms: float
    renumbered: int = 0
    """How often the numbers started again."""
    _offset: int = 0
    _number: int = -1
    _index: int = -1
    _elapsed_ms: float = 0.0
    _anchor: tuple[int, float] | None = field(default=None)

    @property
    def last(self) -> int:
        """Index of the last frame; -1 before the first."""
        return self._index

    def index(self, number: int, elapsed_ms: float) -> int:
        """Index of the frame with that number and time, always above the last one.

        Parameters
        ----------
        number
            `ImageNumber` of the frame, from 0 at the start of the sequence.
        elapsed_ms
            Time since the start of the sequence in ms.
        """
        if number > self._number:
            index = number + self._offset
        else:
            passed = max(elapsed_ms - self._elapsed_ms, 0.0)
            # At least 2: a cleared ring held at least one frame, and a loss whose size
            # is not known must still be seen.
            index = self._index + max(2, round(passed / self._period()))
            self._offset = index - number
            self._anchor = None
            self.renumbered += 1
        self._number, self._index, self._elapsed_ms = number, index, elapsed_ms
        if self._anchor is None:
            self._anchor = (index, elapsed_ms)
        else:
            first, since_ms = self._anchor
            measured = (elapsed_ms - since_ms) / (index - first)
            if measured > 0:
                self.period_ms = measured
        return index

    def _period(self) -> float:
        return max(self.period_ms, 1e-3)
