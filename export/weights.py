"""Weights in and out of model files, by the network's own names.

In the ONNX file the initializer `network.NAME` is the weight NAME of the network's
state dict, unchanged in shape and order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from blinkloop.errors import InputError
from blinkloop.export.model_file import load_model
from blinkloop.extras import require
from blinkloop.schema import Architecture, ModelCard
from blinkloop.training.network import TwoStageNetwork

__all__ = [
    "WEIGHT_PREFIX",
    "Weights",
    "make_network",
    "read_model_weights",
    "weights_inside",
    "weights_of",
    "weights_sha256",
]

WEIGHT_PREFIX = "network."
"""Initializers of the ONNX file that are weights begin with this."""

Weights = Mapping[str, npt.NDArray[np.float32]]
"""State-dict name -> array."""


def weights_of(network: TwoStageNetwork) -> dict[str, npt.NDArray[np.float32]]:
    """The weights of a network as float32 arrays, copied."""
    return {
        name: value.detach().cpu().float().numpy().copy()
        for name, value in network.state_dict().items()
    }


def weights_sha256(weights: Weights) -> str:
    """Hash of names, shapes and little-endian float32 values, hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], "<f4")
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def make_network(
    architecture: Architecture, weights: Weights, *, source: str
) -> TwoStageNetwork:
    """A network of this architecture with these weights, ready to evaluate.

    Raises
    ------
    InputError
        A weight is missing, unexpected or of another shape; `source` names the file.
    """
    network = TwoStageNetwork(architecture)
    expected = {name: tuple(v.shape) for name, v in network.state_dict().items()}
    for name in sorted(expected.keys() | weights.keys()):
        wanted = expected.get(name, "none")
        got = tuple(weights[name].shape) if name in weights else "none"
        if wanted != got:
            raise InputError(
                f"{source}: weight {name!r} has shape {got}, its architecture wants "
                f"{wanted}; the weights and the architecture beside them do not belong "
                f"together, so make the file again"
            )
    network.load_state_dict(
        {name: torch.from_numpy(np.array(v)) for name, v in weights.items()}
    )
    return network.eval()


def read_model_weights(
    path: str | os.PathLike[str],
) -> tuple[dict[str, npt.NDArray[np.float32]], ModelCard]:
    """Weights and card of a model file, read from its own initializers.

    Raises
    ------
    InputError
        The file is missing, not ONNX, not a blinkloop model, or not fp32.
    MissingExtraError
        The package onnx is not installed.
    """
    model, card = load_model(path)
    if card.precision is not None:
        raise InputError(
            f"{os.fspath(path)}: is an {card.precision.name} model, which no longer "
            f"holds the network's weights; give the fp32 model it was made from"
        )
    return weights_inside(model), card


def weights_inside(model: Any) -> dict[str, npt.NDArray[np.float32]]:
    """Weights of an fp32 graph (`onnx.ModelProto`) by their names in the network."""
    onnx = require("onnx", "Reading the weights of a model file", "export")
    return {
        tensor.name.removeprefix(WEIGHT_PREFIX): np.asarray(
            onnx.numpy_helper.to_array(tensor), np.float32
        )
        for tensor in model.graph.initializer
        if tensor.name.startswith(WEIGHT_PREFIX)
    }
