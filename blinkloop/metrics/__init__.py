"""Accuracy of localizations: pairing, scores, errors, intervals."""

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
from blinkloop.metrics.intervals import bootstrap_intervals
from blinkloop.metrics.matching import Matching, match
from blinkloop.metrics.scores import (
    ALPHA_AXIAL_PER_NM,
    ALPHA_LATERAL_PER_NM,
    DetectionScores,
    Errors,
    detection_scores,
    efficiency,
    errors_nm,
)

__all__ = [
    "ALPHA_AXIAL_PER_NM",
    "ALPHA_LATERAL_PER_NM",
    "Accuracy",
    "DetectionScores",
    "Errors",
    "Field",
    "Matching",
    "PairedTables",
    "accuracy",
    "bootstrap_intervals",
    "detection_scores",
    "efficiency",
    "errors_nm",
    "match",
    "pair_tables",
    "paired_accuracy",
    "select_truth",
]
