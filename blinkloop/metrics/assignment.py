"""Pairing at the smallest total distance, in place of the greedy rule.

Within a frame as many allowed pairs as possible are formed, and among all such choices
the one with the smallest sum of distances (Hungarian algorithm; rule of the SMLM
challenge of 2013, Sage et al. 2015, doi:10.1038/nmeth.3442).

Design notes: knows candidate pairs and their distances, nothing of positions. Emitters
without a candidate never reach the solver, so its matrices stay small.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.extras import require

__all__ = ["hungarian"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def hungarian(
    frame: Integers, t: Integers, p: Integers, distance_nm: Floats
) -> tuple[Integers, Integers]:
    """Choose among candidate pairs.

    Parameters
    ----------
    frame, t, p, distance_nm
        (K,) frame number, row of the truth, row of the prediction, and distance of each
        candidate; a candidate appears once.

    Returns
    -------
    tuple
        Rows of truth and prediction of the chosen pairs, closest first.

    Raises
    ------
    MissingExtraError
        Without scipy.
    """
    solver = require("scipy.optimize", "Hungarian matching", "train")
    order = np.lexsort((p, t, frame))
    t, p, distance_nm = t[order], p[order], distance_nm[order]
    starts = np.flatnonzero(np.diff(frame[order], prepend=-1))
    chosen = [np.zeros(0, np.int64)]
    for part in np.split(np.arange(len(order)), starts[1:]):
        if not len(part):
            continue
        rows, row = np.unique(t[part], return_inverse=True)
        columns, column = np.unique(p[part], return_inverse=True)
        # One pair more is worth any sum of distances.
        most = min(len(rows), len(columns))
        missing = (most + 1) * float(distance_nm[part].max()) + 1.0
        cost = np.full((len(rows), len(columns)), missing)
        place = np.full(cost.shape, -1, np.int64)
        cost[row, column], place[row, column] = distance_nm[part], part
        found = place[solver.linear_sum_assignment(cost)]
        chosen.append(found[found >= 0])
    pairs = np.concatenate(chosen)
    pairs = pairs[np.lexsort((p[pairs], t[pairs], distance_nm[pairs]))]
    return t[pairs], p[pairs]
