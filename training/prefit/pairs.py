"""How far apart two spots of one frame must be, learnt from the movie itself.

Spots of one frame are compared with spots of frames so far apart that no emitter is in
both: both lie on the same structure, but only those of one frame hide each other, or
are lobes of one emitter. The ratio of the two pair counts is 0 where one of two spots
is never found, 1 where they do not know of each other, above 1 where they light up
together.

Shapes: F spots that blink.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.training.prefit.records import Run

__all__ = ["Pairs", "count_pairs"]

Floats = npt.NDArray[np.float64]

_HIDING = 2.5
"""Beyond this many `apart_px` no spot hides another."""
_LOBES_NM = 2000.0
"""Lobes of one emitter are closer than this."""
_FAR = 1.5
"""Pairs beyond both, up to so many times as far, say what to expect."""
_LAGS = 6
_FEWEST = 100
"""Expected pairs within reach below which they tell nothing."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """What pairs of spots say.

    `hidden_px2` is the area around a spot in which another is not found, `together`
    how many more spots than by chance each has within 2 um.
    """

    hidden_px2: float
    together: float


def count_pairs(
    runs: Sequence[Run], apart_px: int, pixel_size_nm: float, memory_frames: float
) -> Pairs | None:
    """Count pairs; None when there are too few, or the runs are too short.

    Parameters
    ----------
    runs
        Their candidates, spots that always shine left out.
    apart_px
        Two spots of a frame are never closer.
    memory_frames
        Frames so many apart hold different emitters.
    """
    outer, lobes = _HIDING * apart_px, _LOBES_NM / pixel_size_nm
    free = max(outer, lobes)
    steps = np.arange(float(apart_px), _FAR * free)
    radii = np.unique(np.concatenate([steps, [outer, free, _FAR * free]]))
    same, other, spots = np.zeros(len(radii)), np.zeros(len(radii)), 0
    for run in runs:
        lags = _lags(run.n_frames, memory_frames)
        if lags:
            mine, theirs = _of_run(run, lags, radii)
            same, other = same + mine, other + theirs
            spots += int(np.count_nonzero(~run.standing))
    near, at = (int(np.searchsorted(radii, r)) for r in (outer, free))
    beyond_same, beyond_other = same[-1] - same[at], other[-1] - other[at]
    if min(beyond_same, beyond_other) <= 0:
        return None
    expected = other * (beyond_same / beyond_other)
    # Every pair counts twice.
    if expected[near] < 2 * _FEWEST:
        return None
    rings = np.diff(np.concatenate([[0.0], math.pi * radii**2]))
    known = np.diff(expected, prepend=0.0)
    ratio = np.diff(same, prepend=0.0) / np.where(known > 0, known, np.inf)
    hidden = float(((1 - ratio) * rings)[: near + 1].sum())
    least, most = math.pi * apart_px**2, math.pi * outer**2
    # Nothing is found within `apart_px`, whatever else comes together.
    more = ((same - expected)[at] - (same - expected)[0]) / max(spots, 1)
    return Pairs(float(np.clip(hidden, least, most)), float(more))


def _lags(n_frames: int, memory_frames: float) -> list[int]:
    """Distances of frames, counted in a circle, that are beyond the memory."""
    least = math.ceil(memory_frames)
    if n_frames < 2 * least:
        return []
    found = np.linspace(least, n_frames - least, _LAGS).astype(int)
    return [int(lag) for lag in np.unique(found)]


def _of_run(run: Run, lags: list[int], radii: Floats) -> tuple[Floats, Floats]:
    """Pairs of spots within each radius: of one frame, and of frames `lags` apart."""
    tree = extras.require("scipy.spatial", "Counting pairs", "train").cKDTree
    of = run.candidates
    kept = ~run.standing
    frame, place = of.frame[kept], np.stack([of.column, of.row], 1)[kept]
    # Frames far apart in a third coordinate: one search for all of them.
    apart = 2.0 * radii[-1]
    here = tree(np.column_stack([place, frame * apart]))
    same = here.count_neighbors(here, radii).astype(np.float64) - len(frame)
    other = np.zeros(len(radii))
    for lag in lags:
        later = (frame + lag) % run.n_frames
        there = tree(np.column_stack([place, later * apart]))
        other += here.count_neighbors(there, radii)
    return same, other / len(lags)
