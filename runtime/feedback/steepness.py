"""How steeply the density answers to the power: 1 in proportion, more past a threshold.

Some lasers give no light below a threshold; a little above it a few per cent of power
are tens of per cent of light. A law that believes in proportion overreacts there, and
rings. What the density does beyond what the power explains, s, is regressed on what
the power did, d: s = (steepness - 1) d. Both are known before the next command, and d
is made of the past alone, so noise does not look like steepness.

Design notes
------------
Knows logarithms only. One number for all delays: the one of the likeliest.
"""

from __future__ import annotations

import math

__all__ = ["Steepness"]

_KEPT_PER_UPDATE = 1.0 - 1.0 / 100.0
_SURE = 3.0
"""In SD."""
_HARMLESS = 2.0
"""The loop's margins are larger; what is less steep is left alone."""
_LARGEST = 10.0


class Steepness:
    """d ln density / d ln power, where it is clearly more than the loop bears."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing is known: in proportion."""
        self._squares = self._products = 0.0
        self.value = 1.0

    def take(self, moved: float, surprise: float, sd: float) -> None:
        """One update.

        Parameters
        ----------
        moved
            Change of ln power that this density shows.
        surprise
            By how much ln density differs from what that explains, in proportion.
        sd
            Of the surprise.
        """
        weight = 1.0 / max(sd, 1e-3) ** 2
        kept = _KEPT_PER_UPDATE
        self._squares = squares = kept * self._squares + weight * moved * moved
        self._products = products = kept * self._products + weight * moved * surprise
        # As if one unit of ln power had been seen in proportion: prior of SD 1.
        excess = products / (squares + 1.0)
        least = 1.0 + excess - _SURE / math.sqrt(squares + 1.0)
        self.value = min(1.0 + excess, _LARGEST) if least > _HARMLESS else 1.0
