"""Compare a backend with the reference backend.

Needs neither torch nor onnx, so that an acquisition PC can ask before it trusts a fast
backend; `verify` compares with PyTorch and is stricter: map by map, every chunking.

Design notes: tolerances are the card's. Rows of two tables are paired by pixel; a
detection near the threshold may be missing in one of them.

Shape legend: T frames, K rows of a table, n rows in use.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.protocols import Backend, BackendOutput
from blinkloop.schema import DETECTION_COLUMNS, ModelCard

__all__ = ["agreement_problem"]

_Floats = npt.NDArray[np.float32]

_NEIGHBOURS = 5
"""Pixels whose p makes a score: its tolerance is as many times that of p."""


def agreement_problem(
    backend: Backend, reference: Backend, card: ModelCard, frames: _Floats
) -> str:
    """Where two backends disagree; empty when they agree within the card's tolerances.

    Parameters
    ----------
    backend, reference
        Both set up for the same camera and threshold.
    card
        Of the model.
    frames
        (T, H, W) ADU, T >= 3: run as a segment of two calls and its flush.
    """
    calls = ((frames[:2], True), (frames[2:], False), (frames[-1:], False))
    for number, (part, start) in enumerate(calls, 1):
        ours = backend.step(part, segment_start=start)
        theirs = reference.step(part, segment_start=start)
        for row in range(int(start), len(part)):
            problem = _row_problem(ours, theirs, row, card, part.shape[1:])
            if problem:
                return f"{problem} in row {row} of call {number}"
    return ""


def _row_problem(
    ours: BackendOutput,
    theirs: BackendOutput,
    row: int,
    card: ModelCard,
    size: tuple[int, ...],
) -> str:
    # Errors of many pixels add up like a random walk, as in `verify`.
    allowed = card.tolerances.prob * float(np.sqrt(size[0] * size[1]))
    for name in ("count_mean", "count_variance"):
        got, wanted = getattr(ours, name)[row], getattr(theirs, name)[row]
        if not abs(got - wanted) <= allowed:
            return f"{name} is {got:.6g}, the reference's {wanted:.6g}"
    slack = _NEIGHBOURS * card.tolerances.prob
    edge = card.detection.threshold + slack
    return _lost(theirs, ours, row, card, edge, "lost") or _lost(
        ours, theirs, row, card, edge, "added"
    )


def _lost(
    whole: BackendOutput,
    part: BackendOutput,
    row: int,
    card: ModelCard,
    edge: float,
    verb: str,
) -> str:
    """Detections well above the threshold that have no partner; "" when none."""
    here, there = _rows(whole, row), _rows(part, row)
    certain = here[here[:, 0] > edge]
    allowed = _allowed(card, certain)
    for detection, limits in zip(certain, allowed, strict=True):
        if not (np.abs(there - detection) <= limits).all(1).any():
            x, y = detection[1:3]
            return f"a detection at x = {x:.1f}, y = {y:.1f} px is {verb}"
    return ""


def _rows(output: BackendOutput, row: int) -> _Floats:
    table: _Floats = output.detections[row]
    return table[: min(int(output.counts[row]), len(table))]


def _allowed(card: ModelCard, rows: _Floats) -> npt.NDArray[np.float64]:
    tolerances, scaling = card.tolerances, card.scaling
    limits = np.empty(rows.shape)
    for index, column in enumerate(DETECTION_COLUMNS):
        if "photons" in column:
            background = column == "background_photons"
            full = scaling.background_max if background else scaling.photons_max
            size = np.maximum(np.abs(rows[:, index]), 0.01 * full)
            limits[:, index] = tolerances.photons_relative * size
        elif column.endswith("_nm"):
            limits[:, index] = tolerances.z_nm
        elif column.endswith("_px"):
            limits[:, index] = tolerances.position_px
        else:
            limits[:, index] = _NEIGHBOURS * tolerances.prob
    return limits
