"""Descent on the Poisson likelihood of many windows at a time.

Levenberg-Marquardt with the Fisher information as the curvature (see
`blinkloop.fitting`); each window has its own damping and leaves when it is done.

Shapes: E windows, N pixels each, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.fit_models import WindowModel

__all__ = ["Counts", "Descent", "descend"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_ITERATIONS = 60
_NEAR = 1e-5
"""Converged: the step still to go is below the root of this, in standard errors."""

_FIRST_DAMPING = 0.01
_LEAST_DAMPING = 1e-7
_FREE = 1.0
"""With more damping than this, a short step says nothing of the distance to go."""

_STUCK = 1e8
_LEAST_COUNT = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Windows in the units of a camera whose variance is its mean.

    Parameters
    ----------
    counts
        (E, N) photons x `scale` + `offset`; 0 where unused.
    offset
        (E, N) expected count without light.
    used
        (E, N) 1, or 0 for pixels that are left out.
    scale
        Counts per photon.
    column, row
        (E,) first column and row of each window.
    shape
        Rows and columns of the windows.
    """

    counts: Floats
    offset: Floats
    used: Floats
    scale: float
    column: Integers
    row: Integers
    shape: tuple[int, int]

    def part(self, index: Integers | Flags | slice) -> Counts:
        """Some of the windows."""
        return Counts(
            self.counts[index],
            self.offset[index],
            self.used[index],
            self.scale,
            self.column[index],
            self.row[index],
            self.shape,
        )

    def as_counts(self, photons: Floats) -> Floats:
        """Expected counts of expected photons (E, N)."""
        counts: Floats = np.maximum(photons * self.scale + self.offset, _LEAST_COUNT)
        return counts

    def slopes(self, model: WindowModel, theta: Floats) -> tuple[Floats, Floats]:
        """Derivatives (E, P, N) of the expected photons; the expected counts (E, N)."""
        d = model.derivatives(theta, self.column, self.row, self.shape)
        d = d.reshape(d.shape[0], d.shape[1], self.shape[0] * self.shape[1])
        return d, self.as_counts(theta[:, -2, None] * d[:, -2] + theta[:, -1, None])

    def badness(self, expected: Floats) -> Floats:
        """(E,) minus twice the log of the likelihood, up to a constant."""
        terms = (expected - self.counts * np.log(expected)) * self.used
        total: Floats = 2.0 * terms.sum(1)
        return total

    def log_likelihood_ratio(self, expected: Floats) -> Floats:
        """(E,) twice the log of the likelihood of a perfect model over this one's."""
        # Below zero after read noise: the best a model can do is to expect nothing.
        seen = np.maximum(self.counts, _LEAST_COUNT)
        perfect = 2.0 * ((seen - self.counts * np.log(seen)) * self.used).sum(1)
        ratio: Floats = self.badness(expected) - perfect
        return ratio

    def pearson(self, expected: Floats) -> Floats:
        """(E,) sum of squared residuals over their variances."""
        total: Floats = ((self.counts - expected) ** 2 / expected * self.used).sum(1)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Descent:
    """Where a descent ended: `theta` (E, P), the rest (E,)."""

    theta: Floats
    badness: Floats
    converged: Flags
    iterations: Integers


def descend(
    counts: Counts, model: WindowModel, start: Floats, low: Floats, high: Floats
) -> Descent:
    """Walk from `start` (E, P) to the most likely parameters within the limits."""
    total = start.shape[0]
    result = Descent(
        start.copy(),
        np.full(total, np.inf),
        np.zeros(total, np.bool_),
        np.full(total, _ITERATIONS, np.int64),
    )
    # What follows holds only the windows still on their way; `here` says which.
    here = np.flatnonzero(counts.used.any(1))
    theta, damping = start[here], np.full(len(here), _FIRST_DAMPING)
    counts, low, high = counts.part(here), low[here], high[here]
    slopes, expected = counts.slopes(model, theta)
    badness = counts.badness(expected)
    for iteration in range(1, _ITERATIONS + 1):
        if not len(here):
            break
        step, to_go = _step(counts, slopes, expected, damping, theta, low, high)
        tried = np.clip(theta + step, low, high)
        new_slopes, new_expected = counts.slopes(model, tried)
        new_badness = counts.badness(new_expected)
        better = new_badness <= badness
        near = (to_go < _NEAR) & (damping <= _FREE)
        _take(better, (theta, tried), (slopes, new_slopes), (expected, new_expected))
        _take(better, (badness, new_badness))
        damping = np.where(
            better, np.maximum(damping * 0.1, _LEAST_DAMPING), damping * 10.0
        )
        done = near | (damping > _STUCK)
        last = done | (iteration == _ITERATIONS)
        at = here[last]
        result.theta[at], result.badness[at] = theta[last], badness[last]
        result.converged[at], result.iterations[at] = near[last], iteration
        on = ~last
        if not on.all():
            here, theta, damping, badness = (
                here[on],
                theta[on],
                damping[on],
                badness[on],
            )
            slopes, expected = slopes[on], expected[on]
            counts, low, high = counts.part(on), low[on], high[on]
    return result


def _take(better: Flags, *pairs: tuple[Floats, Floats]) -> None:
    """Overwrite the rows that got better."""
    for old, new in pairs:
        old[better] = new[better]


def _step(
    counts: Counts,
    slopes: Floats,
    expected: Floats,
    damping: Floats,
    theta: Floats,
    low: Floats,
    high: Floats,
) -> tuple[Floats, Floats]:
    """Damped step (E, P), and the squared way to go in standard errors (E,)."""
    misfit = counts.scale * counts.used * (1.0 - counts.counts / expected)
    uphill = np.matmul(slopes, misfit[:, :, None])[:, :, 0]
    weight = counts.scale**2 * counts.used / expected
    fisher = np.matmul(slopes * weight[:, None], np.swapaxes(slopes, 1, 2))
    # A parameter at its limit that wants to go beyond stays there for this step.
    held = ((theta <= low) & (uphill > 0)) | ((theta >= high) & (uphill < 0))
    power = np.diagonal(fisher, axis1=1, axis2=2)
    held |= ~(power > 0)
    uphill = np.where(held, 0.0, uphill)
    unit = 1.0 / np.sqrt(np.where(held, 1.0, power))
    free = ~held
    scaled = fisher * (unit[:, :, None] * unit[:, None, :])
    scaled = scaled * (free[:, :, None] & free[:, None, :])
    diagonal = np.arange(theta.shape[1])
    scaled[:, diagonal, diagonal] = 1.0 + damping[:, None]
    step = -unit * np.linalg.solve(scaled, (unit * uphill)[:, :, None])[:, :, 0]
    return step, -(step * uphill).sum(1)
