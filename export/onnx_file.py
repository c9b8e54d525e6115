"""Write a network as one model file, and only after it has been checked.

The export ends in a comparison: names, axes and shapes of the graph, then numbers and
detections of ONNX Runtime beside PyTorch (`verify`). All checks run; what they found
goes into one error. The file appears under its name only when they passed.
"""

from __future__ import annotations

import os
from pathlib import Path

from blinkloop.errors import CheckFailedError, InputError
from blinkloop.export.graph import OPSET, build_graph, graph_problems
from blinkloop.export.model_file import replacing
from blinkloop.export.record import with_record
from blinkloop.export.verify import verify
from blinkloop.export.weights import WEIGHT_PREFIX
from blinkloop.extras import require
from blinkloop.schema import ModelCard
from blinkloop.training.network import TwoStageNetwork

__all__ = ["export_onnx"]

_BACKEND = "onnxruntime-cpu"


def export_onnx(
    network: TwoStageNetwork,
    card: ModelCard,
    path: str | os.PathLike[str],
    *,
    opset: int = OPSET,
) -> ModelCard:
    """Export a network as a streaming graph with its card, in one ONNX file.

    Parameters
    ----------
    network
        Trained network, on the CPU; it is put into evaluation mode.
    card
        Its card, without a record.
    path
        File to write; an existing one is replaced when all checks have passed.
    opset
        Version of the ONNX operators.

    Returns
    -------
    The card as written: with the digest of the weights and the record for `verify`.

    Raises
    ------
    CheckFailedError
        The graph differs from the contract or from PyTorch; names the differences.
    InputError
        Card and network do not belong together, or the folder cannot be written.
    MissingExtraError
        onnx, onnxscript or onnxruntime are not installed.
    """
    file = Path(path)
    if network.architecture != card.architecture:
        raise InputError(
            f"the card describes {card.architecture}, the network is "
            f"{network.architecture}; make the card from the network's own recipe"
        )
    # Asked for before the minutes of work, not after them.
    require("onnxruntime", "Checking an exported network", "cpu")
    with replacing(file) as temporary:
        network.eval()
        card = with_record(network, card)
        model = build_graph(network, card, opset=opset)
        temporary.write_bytes(model.SerializeToString())
        names = {WEIGHT_PREFIX + name for name in network.state_dict()}
        problems = graph_problems(model, card, names)
        # A graph with wrong ports cannot be run to be compared.
        if not problems:
            rows = verify(temporary, [_BACKEND])
            problems += [f"{row.backend}: {row.problem}" for row in rows if row.problem]
        if problems:
            raise CheckFailedError(
                f"the exported graph is not the network: {'; '.join(problems)}; "
                f"{file} was not written"
            )
    return card
