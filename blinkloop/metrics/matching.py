"""Pair localizations with true emitters.

Within a frame, pairs closer than a lateral and an axial limit are formed greedily, the
globally smallest 3D distance first (rule of the SMLM challenge, Sage et al. 2019,
doi:10.1038/s41592-019-0364-4; REFERENCE section 8). The other rule, the smallest total
distance, is in `assignment`.

Design notes: knows positions in nm and frame numbers, nothing of tables or pixels.
Candidate pairs are found on a grid of cells as wide as the lateral limit, so the cost
grows with the number of close pairs and not with the square of the emitters; some
frames at a time, so that candidates take little memory however long the movie.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.metrics.assignment import hungarian

__all__ = ["Matching", "MatchingRule", "match"]

MatchingRule = Literal["greedy", "hungarian"]
"""Closest pair first, or smallest total distance of as many pairs as possible."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TOGETHER = 50_000
"""True emitters whose frames are paired at once."""


@dataclass(frozen=True, slots=True)
class Matching:
    """Pairs of one truth and one prediction each, closest first.

    Parameters
    ----------
    truth_index, predicted_index
        (M,) row numbers in the two sets; no row appears twice.
    n_truth, n_predicted
        Sizes of the two sets.
    """

    truth_index: Integers
    predicted_index: Integers
    n_truth: int
    n_predicted: int

    @property
    def true_positives(self) -> int:
        """Number of pairs."""
        return int(self.truth_index.shape[0])

    @property
    def false_positives(self) -> int:
        """Predictions without a partner."""
        return self.n_predicted - self.true_positives

    @property
    def false_negatives(self) -> int:
        """True emitters without a partner."""
        return self.n_truth - self.true_positives


def match(
    truth_frame: npt.ArrayLike,
    truth_nm: npt.ArrayLike,
    predicted_frame: npt.ArrayLike,
    predicted_nm: npt.ArrayLike,
    *,
    lateral_nm: float = 250.0,
    axial_nm: float = 500.0,
    rule: MatchingRule = "greedy",
) -> Matching:
    """Pair two sets of positions frame by frame.

    Parameters
    ----------
    truth_frame, predicted_frame
        (N,) and (M,) frame numbers.
    truth_nm, predicted_nm
        (N, D) and (M, D) positions x, y[, z] in nm; D = 2 pairs without z. A position
        that is not finite stays without a partner.
    lateral_nm, axial_nm
        Largest allowed sqrt(dx^2 + dy^2) and absolute dz, inclusive.
    rule
        How pairs are chosen; "hungarian" needs scipy.

    Returns
    -------
    Matching
        Equal distances are decided by the row numbers, so the result is reproducible.

    Raises
    ------
    InputError
        When shapes do not fit, the lateral limit is not a positive number, or there is
        no such rule.
    """
    if rule not in ("greedy", "hungarian"):
        raise InputError(f"matching: no rule {rule!r}; use greedy or hungarian")
    frame_t, xyz_t = _positions(truth_frame, truth_nm, "truth")
    frame_p, xyz_p = _positions(predicted_frame, predicted_nm, "prediction")
    if xyz_t.shape[1] != xyz_p.shape[1]:
        raise InputError(
            f"matching: truth has {xyz_t.shape[1]} coordinates and prediction "
            f"{xyz_p.shape[1]}; give both as (x, y) or both as (x, y, z)"
        )
    if not (np.isfinite(lateral_nm) and lateral_nm > 0 and axial_nm > 0):
        raise InputError(
            f"matching: limits must be positive (lateral also finite), got lateral "
            f"{lateral_nm} nm and axial {axial_nm} nm"
        )
    found: list[tuple[Integers, Integers, Floats]] = []
    for rows_t, rows_p in _together(frame_t, xyz_t, frame_p, xyz_p, rule):
        t, p = _near_pairs(
            frame_t[rows_t], xyz_t[rows_t], frame_p[rows_p], xyz_p[rows_p], lateral_nm
        )
        delta = xyz_p[rows_p[p]] - xyz_t[rows_t[t]]
        square = np.sum(delta * delta, axis=1)
        keep = np.sum(delta[:, :2] ** 2, axis=1) <= lateral_nm**2
        if delta.shape[1] == 3:
            keep &= np.abs(delta[:, 2]) <= axial_nm
        t, p, square = t[keep], p[keep], square[keep]
        if rule == "hungarian":
            t, p = hungarian(frame_t[rows_t[t]], rows_t[t], rows_p[p], np.sqrt(square))
            return Matching(t, p, len(xyz_t), len(xyz_p))
        order = np.lexsort((p, t, square))
        chosen = order[_greedy(t[order], p[order], len(rows_t), len(rows_p))]
        found.append((rows_t[t[chosen]], rows_p[p[chosen]], square[chosen]))
    t, p, square = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((p, t, square))
    return Matching(t[order], p[order], len(xyz_t), len(xyz_p))


def _together(
    frame_t: Integers,
    xyz_t: Floats,
    frame_p: Integers,
    xyz_p: Floats,
    rule: MatchingRule,
) -> Iterator[tuple[Integers, Integers]]:
    """Rows of some frames at a time, of those with a finite position; at least once."""
    rows_t = np.flatnonzero(np.isfinite(xyz_t).all(axis=1))
    rows_p = np.flatnonzero(np.isfinite(xyz_p).all(axis=1))
    if rule != "greedy" or len(rows_t) <= _TOGETHER:
        yield rows_t, rows_p
        return
    rows_t = rows_t[np.argsort(frame_t[rows_t], kind="stable")]
    rows_p = rows_p[np.argsort(frame_p[rows_p], kind="stable")]
    # What lies before the first truth or after the last one has no partner.
    edges = np.unique([*frame_t[rows_t[::_TOGETHER]], frame_t[rows_t[-1]] + 1])
    ends_t = np.searchsorted(frame_t[rows_t], edges)
    ends_p = np.searchsorted(frame_p[rows_p], edges)
    for k in range(len(edges) - 1):
        # In order of the rows: it decides between equal distances.
        yield (
            np.sort(rows_t[ends_t[k] : ends_t[k + 1]]),
            np.sort(rows_p[ends_p[k] : ends_p[k + 1]]),
        )


def _positions(
    frame: npt.ArrayLike, position_nm: npt.ArrayLike, name: str
) -> tuple[Integers, Floats]:
    frames = np.asarray(frame)
    xyz = np.asarray(position_nm, np.float64)
    if frames.ndim != 1 or xyz.ndim != 2 or xyz.shape[1] not in (2, 3):
        raise InputError(
            f"matching: {name} needs frames (N,) and positions (N, 2) or (N, 3), got "
            f"{frames.shape} and {xyz.shape}"
        )
    if frames.shape[0] != xyz.shape[0]:
        raise InputError(
            f"matching: {name} has {frames.shape[0]} frame numbers but "
            f"{xyz.shape[0]} positions"
        )
    return frames.astype(np.int64), xyz


def _near_pairs(
    frame_t: Integers, xyz_t: Floats, frame_p: Integers, xyz_p: Floats, cell_nm: float
) -> tuple[Integers, Integers]:
    """Pairs of one frame that lie in the same or in neighbouring cells."""
    none = np.zeros(0, np.int64)
    if not len(xyz_t) or not len(xyz_p):
        return none, none
    low = xyz_t[:, :2].min(axis=0) - cell_nm
    high = xyz_t[:, :2].max(axis=0) + cell_nm
    # Predictions far from all truth would only widen the grid.
    reach = np.flatnonzero(((xyz_p[:, :2] >= low) & (xyz_p[:, :2] <= high)).all(axis=1))
    if not len(reach):
        return none, none
    frames, rank = np.unique(
        np.concatenate([frame_t, frame_p[reach]]), return_inverse=True
    )
    rank = rank.reshape(-1).astype(np.int64)
    # One empty cell on either side keeps the neighbours of edge cells unambiguous.
    cell_t = np.floor((xyz_t[:, :2] - low) / cell_nm).astype(np.int64) + 1
    cell_p = np.floor((xyz_p[reach, :2] - low) / cell_nm).astype(np.int64) + 1
    columns, rows = (int(n) + 3 for n in np.floor((high - low) / cell_nm))
    if len(frames) * columns * rows >= 2**62:
        raise InputError(
            f"matching: the true positions span {columns} x {rows} times the lateral "
            f"limit of {cell_nm} nm; check that they are in nm"
        )
    key_t = (rank[: len(xyz_t)] * columns + cell_t[:, 0]) * rows + cell_t[:, 1]
    key_p = (rank[len(xyz_t) :] * columns + cell_p[:, 0]) * rows + cell_p[:, 1]
    order = np.argsort(key_p, kind="stable")
    key_p = key_p[order]
    found_t, found_p = [], []
    for column in (-1, 0, 1):
        first = np.searchsorted(key_p, key_t + column * rows - 1, side="left")
        last = np.searchsorted(key_p, key_t + column * rows + 1, side="right")
        count = last - first
        start = np.repeat(first - (np.cumsum(count) - count), count)
        found_t.append(np.repeat(np.arange(len(key_t)), count))
        found_p.append(order[start + np.arange(len(start))])
    return np.concatenate(found_t), reach[np.concatenate(found_p)]


def _greedy(t: Integers, p: Integers, n_truth: int, n_predicted: int) -> Integers:
    """Greedy choice from pairs sorted by distance: which of them, closest first.

    A pair that is the first remaining one of both its rows is what the greedy rule
    would take sooner or later, whatever else it takes: all such pairs are taken at
    once, and a few rounds replace the loop over pairs.
    """
    chosen: list[Integers] = []
    remaining = np.arange(len(t))
    while len(remaining):
        ranks = np.arange(len(remaining))
        first_t = np.full(n_truth, len(remaining))
        first_p = np.full(n_predicted, len(remaining))
        # Reversed, so that the last assignment is the closest pair.
        first_t[t[remaining[::-1]]] = ranks[::-1]
        first_p[p[remaining[::-1]]] = ranks[::-1]
        best = (first_t[t[remaining]] == ranks) & (first_p[p[remaining]] == ranks)
        taken = remaining[best]
        chosen.append(taken)
        free_t = np.ones(n_truth, np.bool_)
        free_p = np.ones(n_predicted, np.bool_)
        free_t[t[taken]] = False
        free_p[p[taken]] = False
        remaining = remaining[free_t[t[remaining]] & free_p[p[remaining]]]
    return np.sort(np.concatenate([remaining, *chosen]))
