"""Write a model file again, in fp32, with the streaming graph of this version."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from blinkloop.export.model_file import load_model
from blinkloop.export.onnx_file import export_onnx
from blinkloop.export.precision_float import float_card, to_float
from blinkloop.export.weights import (
    Weights,
    make_network,
    read_model_weights,
    weights_inside,
)
from blinkloop.schema import ModelCard

__all__ = ["from_int8", "renew"]


def renew(
    model: str | os.PathLike[str], path: str | os.PathLike[str] | None = None
) -> ModelCard:
    """Export the weights of a model file again; its card stays but for the record.

    For files whose graph an older version made. Accuracy in the card is that of the
    weights and stays true as long as the detection rule is the same.

    Parameters
    ----------
    model
        The model file.
    path
        Where to write; None: in its place, when all checks have passed.

    Raises
    ------
    InputError, CheckFailedError, MissingExtraError
        As `read_model_weights` and `export_onnx`.
    """
    weights, card = read_model_weights(model)
    network = make_network(card.architecture, weights, source=os.fspath(model))
    return export_onnx(network, card, model if path is None else path)


def from_int8(
    model: str | os.PathLike[str], path: str | os.PathLike[str], *, name: str
) -> ModelCard:
    """Export the rounded weights of an int8 model file as an fp32 model.

    What was lost when they were rounded stays lost; what rounding between the layers
    costs beside that comes back. The card's provenance says so under `rounded`.

    Parameters
    ----------
    model
        The int8 file.
    path
        Where to write.
    name
        Of the new model.

    Raises
    ------
    InputError, CheckFailedError, MissingExtraError
        As `load_model` and `export_onnx`.
    """
    message, card = load_model(model)
    weights: Weights = weights_inside(to_float(message))
    network = make_network(card.architecture, weights, source=os.fspath(model))
    sha256 = hashlib.sha256(Path(model).read_bytes()).hexdigest()
    card = float_card(card, sha256).model_copy(update={"name": name})
    return export_onnx(network, card, path)
