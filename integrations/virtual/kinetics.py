"""Blinking of a finite pool of emitters, in continuous time, frame by frame.

Design notes
------------
Event-driven: the cost of a frame grows with the emitters that switch or are on in it,
never with the pool. Dark emitters are exchangeable, so the number that switches on is
one binomial draw, and who they are is a draw without replacement from the list of dark
ones. All steps are exponential (Markov), so drawing anew in each frame is exact, also
when the laser power changes between frames; within a frame the rate is constant.
Knows neither space nor photons per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BlinkingPool", "FrameBlinks"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FrameBlinks:
    """Who gave light in one frame.

    Parameters
    ----------
    id
        (n,) emitters, ascending, each once.
    photons
        (n,) photons emitted within the frame, all > 0.
    on_mean
        Emitters on, averaged over the frame's time (whole pool).
    """

    id: _Ints
    photons: _Floats
    on_mean: float


@dataclass(frozen=True, slots=True)
class _Blinks:
    """Blinks (n,): emitter, start and end in ms from the frame's start, flux."""

    id: _Ints
    start_ms: _Floats
    end_ms: _Floats
    flux: _Floats

    def take(self, which: npt.NDArray[np.bool_]) -> _Blinks:
        """Those for which the mask is true."""
        return _Blinks(
            self.id[which], self.start_ms[which], self.end_ms[which], self.flux[which]
        )

    def later(self, by_ms: float) -> _Blinks:
        """The same, seen from a frame that starts then; they are on at its start."""
        return _Blinks(self.id, np.zeros(self.id.size), self.end_ms - by_ms, self.flux)

    @classmethod
    def join(cls, parts: Sequence[_Blinks]) -> _Blinks:
        """All in one; none gives an empty one."""
        if not parts:
            return cls(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
        return cls(
            np.concatenate([p.id for p in parts]),
            np.concatenate([p.start_ms for p in parts]),
            np.concatenate([p.end_ms for p in parts]),
            np.concatenate([p.flux for p in parts]),
        )


class BlinkingPool:
    """dark <-> on -> bleached for `n` emitters; starts with all dark.

    Parameters
    ----------
    n
        Emitters.
    on_time_ms
        Mean on-time.
    bleach_fraction
        Probability that an off-switch is for ever.
    photons, photons_spread
        Mean photons of a frame spent on entirely, and its relative SD between blinks.
    rng
        Source of randomness.
    """

    def __init__(
        self,
        n: int,
        *,
        on_time_ms: float,
        bleach_fraction: float,
        photons: float,
        photons_spread: float,
        rng: np.random.Generator,
    ) -> None:
        self._rng = rng
        self._on_time_ms = on_time_ms
        self._bleach_fraction = bleach_fraction
        self._photons = photons
        self._spread = photons_spread
        self._dark = np.arange(n, dtype=np.int64)
        self._n_dark = n
        self._bleached = 0
        self._on = _Blinks.join([])

    @property
    def n_dark(self) -> int:
        """Emitters that can be activated."""
        return self._n_dark

    @property
    def n_on(self) -> int:
        """Emitters on at this moment."""
        return int(self._on.id.size)

    @property
    def n_bleached(self) -> int:
        """Emitters lost for ever."""
        return self._bleached

    def step(self, rate_per_ms: float, duration_ms: float) -> FrameBlinks:
        """Advance by one frame.

        Parameters
        ----------
        rate_per_ms
            Rate dark -> on during the frame.
        duration_ms
            Length of the frame.
        """
        batch = self._join_newly_active(rate_per_ms, duration_ms)
        ids, photons, on_ms = [], [], 0.0
        kept: list[_Blinks] = []
        while batch.id.size:
            overlap_ms = np.minimum(batch.end_ms, duration_ms) - batch.start_ms
            ids.append(batch.id)
            photons.append(batch.flux * (overlap_ms / duration_ms))
            on_ms += float(overlap_ms.sum())
            off = batch.end_ms < duration_ms
            kept.append(batch.take(~off))
            batch = self._switch_off(batch.take(off), rate_per_ms, duration_ms)
        self._on = _Blinks.join(kept).later(duration_ms)
        if not ids:
            return FrameBlinks(np.zeros(0, np.int64), np.zeros(0), 0.0)
        # An emitter that blinked twice within the frame is one row.
        unique, place = np.unique(np.concatenate(ids), return_inverse=True)
        weights = np.concatenate(photons)
        total = np.asarray(np.bincount(place, weights, unique.size), np.float64)
        lit = total > 0
        return FrameBlinks(unique[lit], total[lit], on_ms / duration_ms)

    def _join_newly_active(self, rate_per_ms: float, duration_ms: float) -> _Blinks:
        """Those on already, and those of the dark that switch on in this frame."""
        share = -np.expm1(-rate_per_ms * duration_ms)
        n_new = int(self._rng.binomial(self._n_dark, share)) if self._n_dark else 0
        start_ms = self._waiting_ms(rate_per_ms, np.full(n_new, duration_ms))
        return _Blinks.join([self._on, self._blink(self._take_dark(n_new), start_ms)])

    def _switch_off(
        self, blinks: _Blinks, rate_per_ms: float, duration_ms: float
    ) -> _Blinks:
        """Bleach some, return the others to the dark; those on again in this frame."""
        bleached = self._rng.random(blinks.id.size) < self._bleach_fraction
        self._bleached += int(bleached.sum())
        back = blinks.take(~bleached)
        left_ms = duration_ms - back.end_ms
        again = self._rng.random(back.id.size) < -np.expm1(-rate_per_ms * left_ms)
        self._return_dark(back.id[~again])
        wait_ms = self._waiting_ms(rate_per_ms, left_ms[again])
        return self._blink(back.id[again], back.end_ms[again] + wait_ms)

    def _blink(self, id_: _Ints, start_ms: _Floats) -> _Blinks:
        """New blinks of those emitters."""
        n = id_.size
        end_ms = start_ms + self._rng.exponential(self._on_time_ms, n)
        if self._spread > 0:
            # Gamma: the wanted mean and SD, and never negative.
            shape = self._spread**-2
            flux = self._rng.gamma(shape, self._photons / shape, n)
        else:
            flux = np.full(n, self._photons)
        return _Blinks(id_, start_ms, end_ms, flux)

    def _waiting_ms(self, rate_per_ms: float, within_ms: _Floats) -> _Floats:
        """Exponential waiting times, given that they end within `within_ms`."""
        if rate_per_ms <= 0:
            return np.zeros(within_ms.size)
        u = self._rng.random(within_ms.size)
        return np.asarray(
            -np.log1p(u * np.expm1(-rate_per_ms * within_ms)) / rate_per_ms
        )

    def _take_dark(self, n: int) -> _Ints:
        """Remove `n` random ones from the list of dark emitters, in O(n)."""
        chosen = self._rng.choice(self._n_dark, n, replace=False, shuffle=False)
        taken = self._dark[chosen].copy()
        rest = self._n_dark - n
        tail_stays = np.ones(n, bool)
        tail_stays[chosen[chosen >= rest] - rest] = False
        self._dark[chosen[chosen < rest]] = self._dark[rest : self._n_dark][tail_stays]
        self._n_dark = rest
        return taken

    def _return_dark(self, id_: _Ints) -> None:
        self._dark[self._n_dark : self._n_dark + id_.size] = id_
        self._n_dark += int(id_.size)
