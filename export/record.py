"""What a network answered when it was exported, kept in its own model card.

A damaged weight changes a model file on both sides of a comparison with itself; the
record is the third party. `provenance["weights_sha256"]` tells that the weights differ,
`provenance["record"]` how much that matters, in physical units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.export.comparison import Comparison, VerifyRow
from blinkloop.export.probe import PROBE_VERSION, record_photons
from blinkloop.export.reference import reference_maps
from blinkloop.export.weights import weights_of, weights_sha256
from blinkloop.schema import ModelCard
from blinkloop.training.detection import PHYSICAL_CHANNELS
from blinkloop.training.network import TwoStageNetwork

__all__ = ["compare_with_record", "with_record"]

_ROWS, _COLUMNS = slice(2, None, 5), slice(3, None, 7)
_DIGITS = 7


def _answer(network: TwoStageNetwork, card: ModelCard) -> npt.NDArray[np.float32]:
    """Maps (10, 4, 4) of the middle frame of the record's movie, at a few pixels."""
    maps = reference_maps(network, card, record_photons(card))
    return np.ascontiguousarray(maps[1, :, _ROWS, _COLUMNS])


def with_record(network: TwoStageNetwork, card: ModelCard) -> ModelCard:
    """The card with the digest of the network's weights and its recorded answer."""
    values = {
        channel: [float(f"{value:.{_DIGITS}g}") for value in answer.ravel().tolist()]
        for channel, answer in zip(
            PHYSICAL_CHANNELS, _answer(network, card), strict=True
        )
    }
    provenance: dict[str, Any] = {
        **card.provenance,
        "weights_sha256": weights_sha256(weights_of(network)),
        "record": {"probe": PROBE_VERSION, "values": values},
    }
    return card.model_copy(update={"provenance": provenance})


def compare_with_record(
    network: TwoStageNetwork, card: ModelCard, digest: str
) -> VerifyRow:
    """Compare a network rebuilt from a model file with the record in its card.

    Parameters
    ----------
    network
        Rebuilt from the file.
    card
        Of the file.
    digest
        `weights_sha256` of the weights in the file.
    """
    comparison = Comparison("pytorch", card)
    recorded = card.provenance.get("weights_sha256")
    record = card.provenance.get("record")
    if recorded is None and record is None:
        comparison.fail(
            "the card holds no record of the exported weights to compare with; give "
            "the run it was exported from, or export it again"
        )
    if record is not None:
        _compare_values(comparison, record, _answer(network, card))
    if recorded is not None and recorded != digest:
        comparison.fail(
            f"the weights are not those that were exported (sha256 {digest[:12]}..., "
            f"exported {str(recorded)[:12]}...)"
        )
    return comparison.row()


def _compare_values(
    comparison: Comparison, record: Any, answer: npt.NDArray[np.float32]
) -> None:
    try:
        if record["probe"] != PROBE_VERSION:
            return  # of another version; the digest decides alone
        values = [record["values"][channel] for channel in PHYSICAL_CHANNELS]
        expected = np.array(values, np.float32).reshape(answer.shape)
    except (KeyError, TypeError, ValueError):
        comparison.fail("the record in the card is damaged; export the model again")
        return
    comparison.maps("the record of the export", answer, expected)
