"""Change what may change in the card of a finished model file: accuracy, thresholds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blinkloop.errors import InputError
from blinkloop.export.model_file import load_model, replacing
from blinkloop.schema import CARD_KEY, DetectionSettings, ModelCard

__all__ = ["update_card"]


def update_card(
    path: str | os.PathLike[str],
    *,
    accuracy: Mapping[str, Any] | None = None,
    detection: DetectionSettings | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Write a card with new entries into a model file; graph and weights stay.

    Parameters
    ----------
    path
        Model file; replaced in one step.
    accuracy
        Takes the place of the card's accuracy.
    detection
        Takes the place of the thresholds. Only `threshold` is an input of the graph;
        the others are part of it and must stay.
    provenance
        Added to the card's provenance; the record of the export must stay.

    Returns
    -------
    The card as written.

    Raises
    ------
    InputError
        Not a model file, or a change that would make the card lie of the graph.
    MissingExtraError
        onnx is not installed.
    """
    file = Path(path)
    model, card = load_model(file)
    changes: dict[str, Any] = {}
    if accuracy is not None:
        changes["accuracy"] = dict(accuracy)
    if detection is not None:
        for name in ("raw_threshold", "split", "max_detections"):
            old, new = getattr(card.detection, name), getattr(detection, name)
            if new != old:
                raise InputError(
                    f"{file}: its {name} is {old}, which is part of the graph; export "
                    f"the model again to get {new}"
                )
        changes["detection"] = detection
    if provenance is not None:
        frozen = sorted(provenance.keys() & {"record", "weights_sha256"})
        if frozen:
            raise InputError(
                f"{file}: {frozen[0]!r} in the card tells what was exported and must "
                f"stay; export the model again"
            )
        changes["provenance"] = {**card.provenance, **provenance}
    updated = card.model_copy(update=changes)
    for entry in model.metadata_props:
        if entry.key == CARD_KEY:
            entry.value = updated.to_json()
    with replacing(file) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return updated
