"""Which rows count and how they pair: rules with a name, and the wobble correction.

`STANDARD` counts truth from 50 photons on in the whole field. `CHALLENGE` is the rule
of the SMLM challenge 2016 (Sage et al. 2019, doi:10.1038/s41592-019-0364-4; REFERENCE
section 8): 450 nm of border excluded from both sets, the dimmest quarter of the truth
dropped together with the predictions at it, pairs within 250 nm laterally and 500 nm
axially.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.metrics.accuracy import Field, PairedTables, pair_tables
from blinkloop.metrics.matching import MatchingRule

__all__ = ["RULES", "Rules", "pair_by_rules", "photon_threshold", "without_wobble"]

Table = npt.NDArray[np.void]

_WOBBLE_PAIRS = 50
"""Pairs in a slice of z from which its shift is taken."""
_WOBBLE_SLICES = 20


@dataclass(frozen=True, slots=True)
class Rules:
    """Selection and pairing.

    Parameters
    ----------
    name
        Of the rules, for reports.
    border_nm
        Above 0, both sets are limited to the field less this border.
    min_photons
        Dimmer truth does not count.
    photon_quantile
        This share of the truth in the field, the dimmest, does not count either.
    lateral_nm, axial_nm
        Limits of a pair, inclusive.
    forgive_dropped
        Predictions at emitters too dim to count are left out instead of being false.
    matching
        How pairs are chosen.
    wobble
        Lateral shifts common to all emitters of one z are taken off the predictions.
    """

    name: str = "standard"
    border_nm: float = 0.0
    min_photons: float = 50.0
    photon_quantile: float = 0.0
    lateral_nm: float = 250.0
    axial_nm: float = 500.0
    forgive_dropped: bool = False
    matching: MatchingRule = "greedy"
    wobble: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.photon_quantile < 1:
            raise InputError(
                f"rules: the photon quantile must be at least 0 and below 1, got "
                f"{self.photon_quantile}; 0.25 keeps the brightest 75 %"
            )
        if not (self.border_nm >= 0 and math.isfinite(self.border_nm)):
            raise InputError(
                f"rules: the border must be 0 nm or more, got {self.border_nm}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Names and values, in order."""
        return asdict(self)


RULES: Final[Mapping[str, Rules]] = MappingProxyType(
    {
        "standard": Rules(),
        "challenge": Rules(
            name="challenge",
            border_nm=450.0,
            min_photons=0.0,
            photon_quantile=0.25,
            forgive_dropped=True,
        ),
    }
)
"""Rules by name."""


def photon_threshold(photons: npt.ArrayLike, quantile: float) -> float:
    """Photons that the brightest 1 - `quantile` of the emitters reach.

    Parameters
    ----------
    photons
        (N,) of the truth; infinite where a table does not know them.
    quantile
        ceil(quantile N) emitters lie below, unless values are equal.

    Returns
    -------
    float
        0 without truth.
    """
    bright = np.sort(np.asarray(photons, np.float64))
    if not len(bright):
        return 0.0
    # Rounded first: 0.07 x 100 is 7.000000000000001 in binary.
    below = math.ceil(round(quantile * len(bright), 6))
    return float(bright[min(below, len(bright) - 1)])


def pair_by_rules(
    truth: Table,
    predicted: Table,
    pixel_size_nm: float,
    rules: Rules,
    *,
    field: Field | None = None,
    three_dimensional: bool = True,
) -> PairedTables:
    """Select the rows that count and pair them; errors as for `pair_tables`.

    The photon quantile is that of the truth inside the field less the border.
    """
    minimum = rules.min_photons
    if rules.photon_quantile > 0:
        inside = truth
        if field is not None:
            border_px = rules.border_nm / pixel_size_nm
            inside = truth[field.contains(truth["x_px"], truth["y_px"], border_px)]
        minimum = max(
            minimum, photon_threshold(inside["photons"], rules.photon_quantile)
        )

    def pair(rows: Table) -> PairedTables:
        return pair_tables(
            truth,
            rows,
            pixel_size_nm,
            field=field,
            border_nm=rules.border_nm,
            min_photons=minimum,
            lateral_nm=rules.lateral_nm,
            axial_nm=rules.axial_nm,
            three_dimensional=three_dimensional,
            forgive_dropped=rules.forgive_dropped,
            rule=rules.matching,
        )

    paired = pair(predicted)
    return pair(without_wobble(predicted, paired)) if rules.wobble else paired


def without_wobble(predicted: Table, paired: PairedTables) -> Table:
    """Predictions less the lateral shift that emitters of their z have in common.

    The median shift of the pairs is taken in up to 20 slices of predicted z with equal
    numbers of pairs, and interpolated in between. The truth itself tells the shift, as
    in the challenge, where it took out calibrations with another origin.

    Parameters
    ----------
    predicted
        `LOCALIZATION_DTYPE`; a copy is returned.
    paired
        Pairs of these predictions with the truth.
    """
    found = paired.matching
    truth, near = (
        paired.truth[found.truth_index],
        paired.predicted[found.predicted_index],
    )
    moved = predicted.copy()
    if not len(near):
        return moved
    slices = max(1, min(_WOBBLE_SLICES, len(near) // _WOBBLE_PAIRS))
    if paired.truth_nm.shape[1] == 2:
        slices = 1
    parts = np.array_split(np.argsort(near["z_nm"], kind="stable"), slices)
    z_nm = [float(np.median(near["z_nm"][part])) for part in parts]
    for name in ("x_px", "y_px"):
        shift = near[name] - truth[name]
        medians = [float(np.median(shift[part])) for part in parts]
        moved[name] -= np.interp(predicted["z_nm"], z_nm, medians)
    return moved
