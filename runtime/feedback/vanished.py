"""Emitters that were held and are gone at once: focus, shutter, light, not the sample.

Nothing that happens to emitters takes most of them within moments: bleaching is slow,
and a laser that was turned down explains what it takes. A controller that believed it
would raise the power as long as none are seen, and hit the sample with many times the
right power when they are back. Waiting for ever is not right either, the stage may have
been moved to a thinner place: after a while the power is raised again, slowly.

    held --gone at once--> gone --patience over--> slow
     ^                      |                       |
     +-------- seen --------+--------- seen --------+

Design notes
------------
Knows logarithms of densities and powers, no laser and no clock. Asked once per update,
which is waited for: a few sums.
"""

from __future__ import annotations

import math
from collections import deque

from blinkloop.runtime.feedback.settings import SLEW_FRAMES

__all__ = ["SLOWER", "Vanished"]

SLOWER = 0.1
"""Share of the slew limit at which the power is raised after waiting in vain: x1.5 in
2.5 s at 100 frames/s. Focus found again soon then meets little more than is right."""

_NEAR = math.log(2.0)
_GONE = math.log(8.0)
"""As in a negative response: down by 2 while the power went up by 4."""
_HELD_FRAMES, _HELD_UPDATES = 8 * SLEW_FRAMES, 8
"""Near the target for so long: held. Gone within half of that: at once. What fades by
itself, e.g. emitters that were on before the run, is never near it for as long."""


class Vanished:
    """Tells emitters that are gone at once, and what power was right before.

    Parameters
    ----------
    update_frames
        Frames between two calls.
    patience_updates
        Wait for them so long; None = for ever.

    Attributes
    ----------
    times, given_up
        How often they were gone, and how often waiting was in vain; never reset.
    """

    def __init__(self, update_frames: int, patience_updates: int | None = None) -> None:
        self._patience = patience_updates
        self.times = self.given_up = 0
        self._held = max(math.ceil(_HELD_FRAMES / update_frames), _HELD_UPDATES)
        self._share = 4.0 / self._held
        self.reset()

    def reset(self) -> None:
        """Nothing is known."""
        self._powers: deque[float] = deque(maxlen=self._held)
        self._mean = 0.0
        self._near = self._since = 0
        self._waited = 0
        self.gone = False
        """True from then on until some are seen again, or the patience is over."""
        self.slow = False
        """True from the end of the patience on until some are seen again."""

    @property
    def log_power(self) -> float:
        """Largest power of late under which they were there."""
        return max(self._powers)

    def take(self, error: float, log_power: float) -> bool:
        """One update; `gone` after it.

        Parameters
        ----------
        error
            ln(target / density).
        log_power
            Applied now.
        """
        if self.gone and error > _GONE:
            self._waited += 1
            if self._patience is None or self._waited <= self._patience:
                return True
            self.given_up += 1
            self.reset()
            self.slow = True
        self.gone = False
        self.slow = self.slow and error > _GONE
        seen = -_NEAR < error < _NEAR
        held = self._near >= self._held and bool(self._powers)
        if held and error > _GONE and self._since < self._held / 2:
            self.gone, self._waited = True, 0
            self.times += 1
            return True
        # Few emitters: some of their densities are off by more than 2, their mean not.
        self._mean += self._share * (error - self._mean)
        self._since = 0 if seen else self._since + 1
        if error < _GONE:
            # Of any density: what a command did is seen a while after it.
            self._powers.append(log_power)
        if -_NEAR < self._mean < _NEAR:
            self._near += 1
        elif self._since >= self._held / 2:
            self._near = 0
        return False
