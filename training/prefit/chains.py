"""Candidates of consecutive frames that are one emitter, and how long it was on.

On-time. Of an emitter that is on for an exponential time, the first and last frames
are partly dark, and dim partial frames are missed. But once it was seen in two frames,
each further frame is reached with the probability q = exp(-1 / on-time), whatever the
detection threshold: the second frame's start lies in the on-time, and the exponential
has no memory. So q is counted from the second frame of a chain on, and chains that are
cut off (end of the run, a neighbour that comes too close) count until then only, as in
a survival analysis (Kaplan & Meier 1958, doi:10.1080/01621459.1958.10501452).

Shapes: C candidates.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.training.prefit.candidates import SNR_MIN, Candidates

__all__ = ["Chains", "OnTime", "link", "on_time"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_CLEARLY = 1.6
"""Emitters this much brighter than the threshold are not lost while they are on."""


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """How the candidates of one run hang together; every array is (C,).

    Parameters
    ----------
    after, before
        Candidate of the next and of the previous frame, or -1.
    chain
        Number of the chain.
    place
        Frames since the chain began, from 0.
    alone
        No other candidate of the frame within the isolation radius.
    exposed
        The next frame is in the run, and whether the emitter goes on can be seen
        there: nothing else comes close.
    """

    after: Integers
    before: Integers
    chain: Integers
    place: Integers
    alone: Flags
    exposed: Flags


@dataclass(frozen=True, slots=True)
class OnTime:
    """Mean on-time in frames with its 95 % interval, from so many transitions."""

    frames: float
    low: float
    high: float
    transitions: int


def link(
    candidates: Candidates,
    x_px: Floats,
    y_px: Floats,
    n_frames: int,
    *,
    radius_px: float,
    isolation_px: float,
) -> Chains:
    """Chain candidates of consecutive frames that are each other's nearest.

    Parameters
    ----------
    candidates
        Of one run, sorted by frame.
    x_px, y_px
        (C,) fitted positions.
    n_frames
        Length of the run.
    radius_px
        Largest step within a chain.
    isolation_px
        Candidates closer than this spoil each other.
    """
    tree = extras.require("scipy.spatial", "Grouping emitters", "train").cKDTree
    count = len(candidates)
    points = np.stack([x_px, y_px], 1)
    edges = np.searchsorted(candidates.frame, np.arange(n_frames + 1))
    after, before = (np.full(count, -1, np.int64) for _ in range(2))
    alone = np.ones(count, np.bool_)
    exposed = candidates.frame < n_frames - 1
    trees = [tree(points[a:b]) for a, b in itertools.pairwise(edges)]
    for frame in range(n_frames):
        here = np.arange(edges[frame], edges[frame + 1])
        if not len(here):
            continue
        near = trees[frame].query_ball_point(points[here], isolation_px)
        alone[here] = [len(found) == 1 for found in near]
        if frame == n_frames - 1 or not trees[frame + 1].n:
            continue
        step, to = trees[frame + 1].query(points[here])
        _, back = trees[frame].query(points[edges[frame + 1] + to])
        linked = (step <= radius_px) & (back == np.arange(len(here)))
        after[here[linked]] = edges[frame + 1] + to[linked]
        before[edges[frame + 1] + to[linked]] = here[linked]
        near = trees[frame + 1].query_ball_point(points[here], isolation_px)
        others = np.array([len(found) for found in near]) - linked
        exposed[here] &= others == 0
    chain, place = np.zeros(count, np.int64), np.zeros(count, np.int64)
    begins = before < 0
    chain[begins] = np.arange(np.count_nonzero(begins))
    for i in np.flatnonzero(~begins):
        chain[i], place[i] = chain[before[i]], place[before[i]] + 1
    return Chains(after, before, chain, place, alone, exposed)


def on_time(found: list[tuple[Candidates, Chains, Flags]]) -> OnTime | None:
    """Mean on-time of the emitters of all runs; None when no chain tells.

    A transition is counted when the chain has two frames already, the candidate is
    alone and exposed, and an earlier frame of the chain was clearly above the
    threshold (its own frame may be its last, and dim for that).

    Two emitters found as one go on until the later one ends, and when one ends the
    other comes to light beside it, which would not be counted: so none is counted in
    which the image of two was seen up to now, or is seen in the next frame.

    Parameters
    ----------
    found
        Of each run: candidates, their chains, and (C,) which of them look like one
        emitter.
    """
    at_risk = went_on = 0
    for candidates, chains, single in found:
        # 0 in the first frame of a chain, which therefore never counts.
        brightest = _brightest_before(candidates.snr, chains)
        counted = chains.alone & chains.exposed & (brightest > _CLEARLY * SNR_MIN)
        counted &= _single_so_far(single, chains)
        at_risk += int(np.count_nonzero(counted))
        went_on += int(np.count_nonzero(counted & (chains.after >= 0)))
    if at_risk == 0:
        return None
    low, high = _wilson(went_on, at_risk)
    return OnTime(_time(went_on / at_risk), _time(low), _time(high), at_risk)


def _brightest_before(snr: Floats, chains: Chains) -> Floats:
    """(C,) largest snr of the earlier frames of each one's chain; 0 at its start."""
    best = np.zeros(len(snr))
    for i in np.flatnonzero(chains.before >= 0):
        previous = chains.before[i]
        best[i] = max(best[previous], snr[previous])
    return best


def _single_so_far(single: Flags, chains: Chains) -> Flags:
    """(C,) the chain up to here, and the next candidate if any, are of one emitter."""
    so_far = single.copy()
    for i in np.flatnonzero(chains.before >= 0):
        so_far[i] &= so_far[chains.before[i]]
    goes_on = chains.after >= 0
    return so_far & (~goes_on | single[chains.after])


def _time(survival: float) -> float:
    """Mean of the exponential that survives a frame with this probability."""
    if survival <= 0:
        return 0.0
    return math.inf if survival >= 1 else -1.0 / math.log(survival)


def _wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""
    share = hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = (
        z
        / (1 + z * z / total)
        * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    )
    return max(0.0, centre - half), min(1.0, centre + half)
