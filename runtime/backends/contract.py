"""Inputs and outputs every streaming graph must have (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.schema import DETECTION_COLUMNS, ModelCard

__all__ = [
    "DETECTIONS",
    "MAPS",
    "STEP_OUTPUTS",
    "Port",
    "block_shape",
    "check_contract",
    "new_outputs",
    "one_line",
    "table_rows",
]

MAPS = "maps"
"""Output with the full channel maps; only `verify` fetches it."""

DETECTIONS = "detections"

STEP_OUTPUTS = (
    DETECTIONS,
    "counts",
    "count_mean",
    "count_variance",
    "block_mean",
    "features_out",
)
"""Outputs of every step, in the order backends fetch them."""

_BLOCK_PX = 8
"""Side of the blocks of `block_mean`, px (docs/architecture.md)."""

_FLOAT, _INT64 = "tensor(float)", "tensor(int64)"


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output: name, type as ONNX Runtime writes it, and shape.

    A dimension is a number when fixed and anything else when dynamic.
    """

    name: str
    type: str
    shape: tuple[object, ...]


def block_shape(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of `block_mean` for such frames; the last blocks are partial."""
    return -(-height // _BLOCK_PX), -(-width // _BLOCK_PX)


def new_outputs(
    rows: int | None, count: int, height: int, width: int
) -> dict[str, npt.NDArray[Any]]:
    """Arrays for `STEP_OUTPUTS`, but the features, of T frames of H x W px.

    Without `detections` where the graph says how many rows they need (`rows` None).
    New ones for every call: results may be kept as long as anybody likes, and memory
    of the runtime's own that is kept would break up what it has for the next call.
    """
    table: dict[str, npt.NDArray[Any]] = {}
    if rows is not None:
        shape = (count, rows, len(DETECTION_COLUMNS))
        table[DETECTIONS] = np.empty(shape, np.float32)
    return {
        **table,
        "counts": np.empty(count, np.int64),
        "count_mean": np.empty(count, np.float32),
        "count_variance": np.empty(count, np.float32),
        "block_mean": np.empty((count, *block_shape(height, width)), np.float32),
    }


def table_rows(outputs: Sequence[Port]) -> int | None:
    """Rows of the detection table of a graph; None = as many as a call needs."""
    for port in outputs:
        if port.name == DETECTIONS and isinstance(port.shape[1], int):
            return port.shape[1]
    return None


def one_line(error: Exception) -> str:
    """What a library's exception says, for a message of ours."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:197] + "..."


def _ports(card: ModelCard) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    channels = card.architecture.kept_channels
    detection = (None, card.detection.max_detections, len(DETECTION_COLUMNS))
    features = (2, channels, None, None)
    inputs = (
        Port("frames", _FLOAT, (None, None, None)),
        Port("features_in", _FLOAT, features),
        Port("segment_start", _FLOAT, (1,)),
        Port("offset_adu", _FLOAT, (None, None)),
        Port("photons_per_adu", _FLOAT, (None, None)),
        Port("threshold", _FLOAT, (1,)),
    )
    outputs = (
        Port(DETECTIONS, _FLOAT, detection),
        Port("counts", _INT64, (None,)),
        Port("count_mean", _FLOAT, (None,)),
        Port("count_variance", _FLOAT, (None,)),
        Port("block_mean", _FLOAT, (None, None, None)),
        Port("features_out", _FLOAT, features),
        Port(MAPS, _FLOAT, (None, 10, None, None)),
    )
    return inputs, outputs


def check_contract(
    path: Path,
    card: ModelCard,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    *,
    taken_out: Collection[str] = (),
) -> None:
    """Compare a graph's ports with the contract.

    `taken_out` are outputs that the file has and the graph was loaded without.

    Fixed dimensions are compared where the graph states them; a graph may leave any
    of them dynamic, but must not fix one that the contract leaves open.

    Raises
    ------
    InputError
        The first difference: a port missing, unexpected, or of wrong type or shape.
    """
    wanted_inputs, wanted_outputs = _ports(card)
    for kind, wanted, found in (
        ("input", wanted_inputs, inputs),
        ("output", wanted_outputs, outputs),
    ):
        names = {port.name: port for port in found}
        unexpected = sorted(set(names) - {port.name for port in wanted})
        if unexpected:
            _refuse(path, f"it has an unknown {kind} {unexpected[0]!r}")
        for port in wanted:
            if port.name in taken_out:
                continue
            if port.name not in names:
                _refuse(path, f"it has no {kind} {port.name!r}")
            got = names[port.name]
            if got.type != port.type:
                _refuse(path, f"{kind} {port.name!r} is {got.type}, not {port.type}")
            if not _shape_fits(port.shape, got.shape):
                _refuse(
                    path,
                    f"{kind} {port.name!r} has shape {_text(got.shape)}, not "
                    f"{_text(port.shape)}",
                )


def _shape_fits(wanted: tuple[object, ...], got: tuple[object, ...]) -> bool:
    if len(wanted) != len(got):
        return False
    return all(
        not isinstance(found, int) or found == expected
        for expected, found in zip(wanted, got, strict=True)
    )


def _text(shape: tuple[object, ...]) -> str:
    return "(" + ", ".join(str(n) if isinstance(n, int) else "?" for n in shape) + ")"


def _refuse(path: Path, difference: str) -> None:
    raise InputError(
        f"{path}: the graph is not a blinkloop streaming graph: {difference}; export "
        f"the model again with this version of blinkloop"
    )
