"""Accuracy by z: where in its range a network is good."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.metrics.accuracy import PairedTables
from blinkloop.metrics.scores import detection_scores, errors_nm

__all__ = ["accuracy_by_z"]


def accuracy_by_z(
    paired: PairedTables, edges_nm: npt.ArrayLike
) -> list[dict[str, Any]]:
    """Scores in slices of z.

    A pair and a missed emitter belong to the slice of the true z, a false positive to
    that of its own z. What lies beyond the ends belongs to the slice at that end.

    Parameters
    ----------
    paired
        With z compared or not; the tables' z decides.
    edges_nm
        (B + 1,) ascending.

    Returns
    -------
    list
        A mapping for each slice: `z_low_nm`, `z_high_nm`, `n_truth`, `n_predicted`,
        `n_matched`, `jaccard`, `precision`, `recall`, `rmse_lateral_nm`,
        `rmse_axial_nm`, `rmse_volume_nm`, `bias_x_nm`, `bias_y_nm`, `bias_z_nm`; NaN
        where undefined.

    Raises
    ------
    InputError
        When the edges do not ascend.
    """
    edges = np.asarray(edges_nm, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise InputError(
            f"accuracy by z: the edges of the slices must ascend, got {edges.tolist()}"
        )
    found = paired.matching
    of_truth = _slice(paired.truth["z_nm"], edges)
    alone = np.ones(len(paired.predicted), np.bool_)
    alone[found.predicted_index] = False
    of_false = _slice(paired.predicted["z_nm"][alone], edges)
    of_pair = of_truth[found.truth_index]
    result = []
    for number in range(len(edges) - 1):
        at = of_pair == number
        pairs, false = int(at.sum()), int((of_false == number).sum())
        truth = int((of_truth == number).sum())
        scores = detection_scores(pairs, false, truth - pairs)
        true_nm = paired.truth_nm[found.truth_index[at]]
        predicted_nm = paired.predicted_nm[found.predicted_index[at]]
        errors = errors_nm(true_nm, predicted_nm)
        bias = np.full(3, np.nan)
        if pairs:
            bias[: true_nm.shape[1]] = np.mean(predicted_nm - true_nm, axis=0)
        result.append(
            {
                "z_low_nm": float(edges[number]),
                "z_high_nm": float(edges[number + 1]),
                "n_truth": truth,
                "n_predicted": pairs + false,
                "n_matched": pairs,
                "jaccard": scores.jaccard,
                "precision": scores.precision,
                "recall": scores.recall,
                "rmse_lateral_nm": errors.rmse_lateral,
                "rmse_axial_nm": errors.rmse_axial,
                "rmse_volume_nm": errors.rmse_volume,
                "bias_x_nm": float(bias[0]),
                "bias_y_nm": float(bias[1]),
                "bias_z_nm": float(bias[2]),
            }
        )
    return result


def _slice(
    z_nm: npt.NDArray[np.floating], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    place = np.searchsorted(edges, z_nm, side="right") - 1
    return np.clip(place, 0, len(edges) - 2).astype(np.int64)
