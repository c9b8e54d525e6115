"""Keeps the largest differences between an implementation and its reference.

Design notes: all comparisons run before anything is judged. The tolerances are the
card's; this module does not know where the numbers come from.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from blinkloop.export.reference import ExpectedDetections, expected_variance
from blinkloop.schema import DETECTION_COLUMNS, ModelCard
from blinkloop.training.detection import PHYSICAL_CHANNELS

__all__ = ["Comparison", "VerifyRow", "allowed_difference"]

_Array = npt.NDArray[np.float32]

_PHOTONS_FLOOR = 0.01
"""Photons are compared relative to their value, or to this share of the full scale."""


@dataclass(frozen=True, slots=True)
class VerifyRow:
    """How one implementation compares.

    Parameters
    ----------
    backend
        Its name.
    max_abs_difference
        Channel -> largest difference, in the unit of the channel; infinite when one of
        the two is not a number.
    detections_lost, detections_added
        Detections the reference has and the backend has not, and the other way round.
    passed
        Whether all is within the card's tolerances.
    problem
        What failed most, with the largest difference; empty when passed.
    """

    backend: str
    max_abs_difference: dict[str, float]
    detections_lost: int
    detections_added: int
    passed: bool
    problem: str = ""


def allowed_difference(card: ModelCard, channel: str, reference: _Array) -> _Array:
    """Largest allowed difference for each value of a map or table column.

    Parameters
    ----------
    card
        With the tolerances.
    channel
        Of `PHYSICAL_CHANNELS` or `DETECTION_COLUMNS`.
    reference
        Values of any shape.
    """
    tolerances, scaling = card.tolerances, card.scaling
    if channel in ("photons", "photons_sigma", "background_photons"):
        background = channel == "background_photons"
        full = scaling.background_max if background else scaling.photons_max
        size = np.maximum(np.abs(reference), _PHOTONS_FLOOR * full)
        return np.asarray(tolerances.photons_relative * size, np.float32)
    constant = {"z_nm": tolerances.z_nm, "z_sigma_nm": tolerances.z_nm}
    for name in ("p", "prob", "p_pixel"):
        constant[name] = tolerances.prob
    for name in ("x_px", "y_px", "x_sigma_px", "y_sigma_px"):
        constant[name] = tolerances.position_px
    return np.full(reference.shape, constant[channel], np.float32)


def _difference(got: _Array, reference: _Array) -> npt.NDArray[np.float64]:
    """Absolute difference; infinite where it is not a number."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(got.astype(np.float64) - reference)
    difference[~np.isfinite(difference)] = np.inf
    return difference


@dataclass(slots=True)
class Comparison:
    """Differences of one backend so far; `row` is the verdict."""

    backend: str
    card: ModelCard
    _largest: dict[str, float] = field(default_factory=dict)
    _lost: int = 0
    _added: int = 0
    _worst: float = 1.0
    _problem: str = ""
    _first_detection_problem: str = ""

    def maps(self, where: str, got: _Array, reference: _Array) -> None:
        """Compare maps (..., 10, H, W) in physical units; `where` names them."""
        if got.shape != reference.shape:
            raise ValueError(f"maps of {got.shape} beside {reference.shape} ({where})")
        for index, channel in enumerate(PHYSICAL_CHANNELS):
            ours = np.take(got, index, axis=-3)
            theirs = np.take(reference, index, axis=-3)
            allowed = allowed_difference(self.card, channel, theirs)
            self._note(where, channel, ours, theirs, allowed)

    def sums(
        self,
        where: str,
        count_mean: np.float32,
        count_variance: np.float32,
        block_mean: _Array,
        p: _Array,
    ) -> None:
        """Compare the sums over one frame with those of the reference's p (H, W)."""
        height, width = p.shape
        side = 8
        padded = np.pad(p, ((0, -height % side), (0, -width % side)))
        blocks = padded.reshape(-(-height // side), side, -1, side).sum((1, 3))
        if block_mean.shape != blocks.shape:
            raise ValueError(f"block_mean {block_mean.shape}, not {blocks.shape}")
        for name, got, reference, pixels in (
            ("count_mean", count_mean, p.sum(), p.size),
            ("count_variance", count_variance, expected_variance(p), p.size),
            ("block_mean", block_mean, blocks, side * side),
        ):
            # Differences of single pixels are independent: they add as the root.
            allowed = self.card.tolerances.prob * float(np.sqrt(pixels))
            theirs = np.atleast_1d(np.asarray(reference, np.float32))
            ours = np.atleast_1d(np.asarray(got, np.float32))
            limit = np.full(theirs.shape, allowed, np.float32)
            self._note(where, name, ours, theirs, limit)

    def detections(
        self, where: str, table: _Array, count: int, expected: ExpectedDetections
    ) -> None:
        """Compare the detections of one frame.

        Parameters
        ----------
        where
            Names the frame.
        table
            (K, 11) detection table; rows beyond `count` are ignored.
        count
            Detections found; more than K: the table is full.
        expected
            The reference's.
        """
        got = table[: min(count, len(table))]
        matched, partner = self._match(got, expected.rows)
        certain = expected.certain & ~matched
        if count > len(table) and len(got):
            # What a full table leaves out must not score better than its last row.
            score = expected.rows[:, DETECTION_COLUMNS.index("prob")]
            certain &= score > got[-1, 0] + self.card.tolerances.prob
        lost, added = int(certain.sum()), int(len(got) - partner.sum())
        # A count that does not fit the rows is wrong as well.
        surplus = max(0, count - len(expected.rows))
        missing = max(0, int(expected.certain.sum()) - count)
        self._lost += max(lost, missing)
        self._added += max(added, surplus)
        if lost + added + surplus + missing and not self._first_detection_problem:
            self._first_detection_problem = where

    def fail(self, problem: str) -> None:
        """Note a failure that is no difference between numbers."""
        if not self._problem:
            self._problem = problem

    def row(self) -> VerifyRow:
        """The verdict."""
        problems = [self._problem] if self._problem else []
        if self._lost or self._added:
            problems.append(
                f"{self._lost} detections lost and {self._added} added, first in "
                f"{self._first_detection_problem}"
            )
        return VerifyRow(
            self.backend,
            dict(self._largest),
            self._lost,
            self._added,
            not problems,
            "; ".join(problems),
        )

    def _note(
        self,
        where: str,
        channel: str,
        got: _Array,
        reference: _Array,
        allowed: _Array,
    ) -> None:
        difference = _difference(got, reference)
        self._largest[channel] = max(
            self._largest.get(channel, 0.0), float(difference.max(initial=0.0))
        )
        excess = difference / allowed
        worst = float(excess.max(initial=0.0))
        if worst > self._worst:
            place = np.unravel_index(int(excess.argmax()), excess.shape)
            self._worst = worst
            self._problem = (
                f"{channel} differs by {difference[place]:.4g} in {where} (allowed "
                f"{float(allowed[place]):.4g})"
            )

    def _match(
        self, got: _Array, reference: _Array
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Pair rows that agree in every column; which of either have a partner."""
        theirs = np.zeros(len(reference), np.bool_)
        ours = np.zeros(len(got), np.bool_)
        excess = np.zeros((len(reference), len(got)))
        for index, column in enumerate(DETECTION_COLUMNS):
            expected = reference[:, index]
            allowed = allowed_difference(self.card, column, expected)
            difference = _difference(got[None, :, index], expected[:, None])
            np.maximum(excess, difference / allowed[:, None], out=excess)
        rows, columns = np.nonzero(excess <= 1)
        order = np.argsort(excess[rows, columns], kind="stable")
        for row, column in zip(rows[order], columns[order], strict=True):
            if not theirs[row] and not ours[column]:
                theirs[row] = ours[column] = True
        return theirs, ours
