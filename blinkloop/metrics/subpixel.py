"""Preference of localizations for places within the pixel (the "grid").

Emitters lie anywhere, so the fractional part of a position must be uniform.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SUBPIXEL_BINS", "Subpixel", "subpixel"]

SUBPIXEL_BINS = 21
"""An even number of degrees of freedom has a chi-square tail in closed form."""


@dataclass(frozen=True, slots=True)
class Subpixel:
    """Histogram of positions within the pixel, along one axis.

    Parameters
    ----------
    counts
        (21,) from the lower edge of the pixel (-0.5 px) to the upper (+0.5 px).
    n
        Positions counted.
    chi_square, p_value
        Against uniform, 20 degrees of freedom. Positions of one emitter in several
        frames are not independent and make the p-value too small.
    harmonic
        Relative amplitude of the first harmonic, 2 |mean exp(2 pi i x)|: 0.1 means that
        the density of localizations swings by 10 % about its mean. sqrt(pi / n) is
        expected of uniform independent positions.
    harmonic_excess
        The same of the difference to the true positions of the pairs, in which the
        chance of where the emitters lie cancels. NaN without pairs.
    """

    counts: tuple[int, ...]
    n: int
    chi_square: float
    p_value: float
    harmonic: float
    harmonic_excess: float

    def as_dict(self) -> dict[str, Any]:
        """Names and values, in order."""
        return asdict(self)


def subpixel(
    position_px: npt.ArrayLike,
    *,
    paired_px: npt.ArrayLike = (),
    paired_true_px: npt.ArrayLike = (),
) -> Subpixel:
    """Test positions along one axis for a preference within the pixel.

    Parameters
    ----------
    position_px
        (N,) of all localizations; pixel k covers k - 0.5 <= x < k + 0.5.
    paired_px, paired_true_px
        (M,) positions of pairs, and of their true emitters.
    """
    inside = _within(position_px)
    bins = np.minimum((inside * SUBPIXEL_BINS).astype(np.int64), SUBPIXEL_BINS - 1)
    counts = np.bincount(bins, minlength=SUBPIXEL_BINS)
    n = int(counts.sum())
    expected = n / SUBPIXEL_BINS
    chi_square = float(np.sum((counts - expected) ** 2) / expected) if n else math.nan
    moved = _harmonic(_within(paired_px)) - _harmonic(_within(paired_true_px))
    return Subpixel(
        counts=tuple(int(count) for count in counts),
        n=n,
        chi_square=chi_square,
        p_value=_chi_square_tail(chi_square, SUBPIXEL_BINS - 1),
        harmonic=2.0 * abs(_harmonic(inside)),
        harmonic_excess=2.0 * abs(moved),
    )


def _within(position_px: npt.ArrayLike) -> npt.NDArray[np.float64]:
    shifted = np.asarray(position_px, np.float64) + 0.5
    shifted = shifted[np.isfinite(shifted)]
    return np.asarray(shifted - np.floor(shifted))


def _harmonic(inside: npt.NDArray[np.float64]) -> complex:
    if not len(inside):
        return complex(math.nan, math.nan)
    return complex(np.mean(np.exp(2j * math.pi * inside)))


def _chi_square_tail(value: float, degrees: int) -> float:
    """P(chi^2 >= value) for an even number of degrees of freedom.

    exp(-v/2) sum_{k < degrees/2} (v/2)^k / k!, the Poisson distribution's lower tail.
    """
    if not math.isfinite(value):
        return math.nan
    half = value / 2.0
    if half == 0:
        return 1.0
    terms = (k * math.log(half) - math.lgamma(k + 1) for k in range(degrees // 2))
    return min(1.0, math.fsum(math.exp(term - half) for term in terms))
