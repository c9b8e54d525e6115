"""Change what may change in the card of a finished model file: accuracy, thresholds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.runtime.model import read_card
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
        Takes the place of the thresholds. The number of rows K is part of the graph
        and must stay.
    provenance
        Added to the card's provenance.

    Raises
    ------
    InputError
        Not a model file, or another K.
    MissingExtraError
        onnx is not installed.
    """
    onnx = require("onnx", "Writing a model card", "export")
    file = Path(path)
    card = read_card(file)
    changes: dict[str, Any] = {}
    if accuracy is not None:
        changes["accuracy"] = dict(accuracy)
    if detection is not None:
        if detection.max_detections != card.detection.max_detections:
            raise InputError(
                f"{file}: its table has {card.detection.max_detections} rows, which is "
                f"part of the graph; export the model again to get "
                f"{detection.max_detections}"
            )
        changes["detection"] = detection
    if provenance is not None:
        changes["provenance"] = {**card.provenance, **provenance}
    updated = card.model_copy(update=changes)
    model = onnx.load(os.fspath(file))
    for entry in model.metadata_props:
        if entry.key == CARD_KEY:
            entry.value = updated.to_json()
    temporary = file.with_suffix(".tmp")
    temporary.write_bytes(model.SerializeToString())
    temporary.replace(file)
    return updated
