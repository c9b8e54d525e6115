"""Accuracy of localizations: pairing, scores, errors, intervals, calibration."""

from __future__ import annotations

from blinkloop.metrics.accuracy import (
    Accuracy,
    Field,
    PairedTables,
    accuracy,
    pair_tables,
    paired_accuracy,
    select_truth,
)
from blinkloop.metrics.binned import accuracy_by_z
from blinkloop.metrics.bound import bound_ratio
from blinkloop.metrics.calibration import (
    correlation,
    count_reliability,
    errors_and_sigmas_nm,
    rank_correlation,
    ranks,
    score_reliability,
    sigma_correlation,
    z_scores,
)
from blinkloop.metrics.counts import count_estimate, density_calibration
from blinkloop.metrics.intervals import bootstrap_correlation, bootstrap_intervals
from blinkloop.metrics.matching import Matching, MatchingRule, match
from blinkloop.metrics.rules import (
    RULES,
    Rules,
    pair_by_rules,
    photon_threshold,
    without_wobble,
)
from blinkloop.metrics.scores import (
    ALPHA_AXIAL_PER_NM,
    ALPHA_LATERAL_PER_NM,
    DetectionScores,
    Errors,
    detection_scores,
    efficiency,
    errors_nm,
)
from blinkloop.metrics.subpixel import SUBPIXEL_BINS, Subpixel, subpixel

__all__ = [
    "ALPHA_AXIAL_PER_NM",
    "ALPHA_LATERAL_PER_NM",
    "RULES",
    "SUBPIXEL_BINS",
    "Accuracy",
    "DetectionScores",
    "Errors",
    "Field",
    "Matching",
    "MatchingRule",
    "PairedTables",
    "Rules",
    "Subpixel",
    "accuracy",
    "accuracy_by_z",
    "bootstrap_correlation",
    "bootstrap_intervals",
    "bound_ratio",
    "correlation",
    "count_estimate",
    "count_reliability",
    "density_calibration",
    "detection_scores",
    "efficiency",
    "errors_and_sigmas_nm",
    "errors_nm",
    "match",
    "pair_by_rules",
    "pair_tables",
    "paired_accuracy",
    "photon_threshold",
    "rank_correlation",
    "ranks",
    "score_reliability",
    "select_truth",
    "sigma_correlation",
    "subpixel",
    "without_wobble",
    "z_scores",
]
