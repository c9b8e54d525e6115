"""From the core's image numbers to frame indices that never hide a loss.

Design notes: knows neither cores nor cameras; two numbers in, one index out. MMCore 12
goes on counting when its ring overflows and is cleared (the number jumps); MMCore 11
starts again from 0, so a count of forward jumps alone would see no loss at all.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FrameNumbering"]


@dataclass(slots=True)
class FrameNumbering:
    """Turns `ImageNumber` and `ElapsedTime-ms` of one sequence into `Frame.index`.

    Parameters
    ----------
    period_ms
        Expected time between frames in ms, used until one has been measured: the mean
        over all stretches in which the numbers rise.
    ring_frames
        Frames that the core's ring holds, and so loses at once; None = not known.

    Notes
    -----
    A number that rises by k raises the index by k, so k - 1 frames are missing. A
    number that falls or repeats means that the core cleared its ring and renumbered:
    how many frames went with it is estimated as elapsed time / frame period, and is at
    least one. A new sequence renumbers as well; whoever knows of one calls `restart`.
    """

    period_ms: float
    ring_frames: int | None = None
    renumbered: int = 0
    """How often the numbers started again within a sequence."""
    estimated: int = 0
    """Frames missing according to the clock alone, not by their numbers."""
    _offset: int = 0
    _number: int = -1
    _index: int = -1
    _elapsed_ms: float = 0.0
    _measured_ms: float = 0.0
    _measured_frames: int = 0

    @property
    def last(self) -> int:
        """Index of the last frame; -1 before the first."""
        return self._index

    def restart(self) -> None:
        """A new sequence begins: the next number 0 is the frame after the last one."""
        self._offset = self._index + 1
        self._number = -1

    def skip(self, frames: int) -> None:
        """So many frames are missing before the last one, for reasons of the caller."""
        self._offset += frames
        self._index += frames

    def falls(self, number: int) -> bool:
        """Whether a number is not above the one before."""
        return number <= self._number

    def began_again(self, number: int, elapsed_ms: float) -> bool:
        """Whether a frame is of a new sequence: its number and its clock fell.

        A cleared ring renumbers too, but there the clock goes on.
        """
        return self.falls(number) and elapsed_ms < self._elapsed_ms

    def index(self, number: int, elapsed_ms: float, rings: int | None = None) -> int:
        """Index of the frame with that number and time, always above the last one.

        Parameters
        ----------
        number
            `ImageNumber` of the frame, from 0 at the start of the sequence.
        elapsed_ms
            Time since the start of the sequence in ms.
        rings
            Times the ring was cleared since the frame before, if somebody counted.
        """
        passed_ms = elapsed_ms - self._elapsed_ms
        if number > self._number:
            index = number + self._offset
            if self._number >= 0:
                self._measure(number - self._number, passed_ms)
        else:
            steps = max(passed_ms, 0.0) / max(self.period_ms, 1e-3)
            step = self._whole_rings(number, steps, rings)
            index = self._index + step
            self._offset = index - number
            self.renumbered += 1
            self.estimated += step - 1
        self._number, self._index, self._elapsed_ms = number, index, elapsed_ms
        return index

    def _measure(self, frames: int, passed_ms: float) -> None:
        if passed_ms <= 0:
            return
        # Cameras jitter and computers stall, so all intervals together say more than
        # the latest ones.
        self._measured_frames += frames
        self._measured_ms += passed_ms
        self.period_ms = self._measured_ms / self._measured_frames

    def _whole_rings(self, number: int, steps: float, rings: int | None) -> int:
        """Frames from the last one to this one, as the clock and the ring say."""
        ring = self.ring_frames
        if ring is None:
            # At least 2: a cleared ring held at least one frame, and a loss whose size
            # is not known must still be seen.
            return max(2, round(steps))
        if rings is None:
            rings = max(1, round((steps - 1 - number) / ring))
        return rings * ring + number + 1
