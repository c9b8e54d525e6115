"""Write a model file again with the streaming graph of this version."""

from __future__ import annotations

import os

from blinkloop.export.onnx_file import export_onnx
from blinkloop.export.weights import make_network, read_model_weights
from blinkloop.schema import ModelCard

__all__ = ["renew"]


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
