"""From a network of official DECODE to a model file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blinkloop.errors import InputError
from blinkloop.export.onnx_file import export_onnx
from blinkloop.export.weights import make_network
from blinkloop.schema import ModelCard
from blinkloop.training.checkpoint import CHECKPOINT_FILE, load_checkpoint
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.official import (
    card_from_official,
    disable,
    find_files,
    from_official,
    mirror,
    mirrored_axes,
    read_parameters,
    read_state,
)

__all__ = ["ImportedNetwork", "export_official", "looks_official", "read_official"]

_WEIGHTS_SUFFIXES = (".pt", ".pth")


@dataclass(frozen=True, slots=True)
class ImportedNetwork:
    """An official network with our axes, and its card.

    Parameters
    ----------
    network
        Ready to evaluate.
    card
        Made from the parameter file.
    """

    network: TwoStageNetwork
    card: ModelCard


def looks_official(run: Path) -> bool:
    """Whether a file or folder is DECODE's rather than a run of blinkloop."""
    if run.is_dir():
        ours = (run / CHECKPOINT_FILE).exists()
        return not ours and any(p.suffix in _WEIGHTS_SUFFIXES for p in run.iterdir())
    if run.name == CHECKPOINT_FILE or run.suffix not in _WEIGHTS_SUFFIXES:
        return False
    try:
        load_checkpoint(run)
    except InputError:
        return run.is_file()
    return False


def read_official(
    given: str | os.PathLike[str],
    parameters: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    pixel_size_nm: float | None = None,
    calibration: str | os.PathLike[str] | None = None,
    mirrored: Collection[str] | None = None,
    detection: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ImportedNetwork:
    """Read weights and parameters of an official network; nothing is executed.

    Parameters
    ----------
    given
        `model_*.pt`, or the folder of a DECODE training.
    parameters
        Parameter file; by default `param_run.yaml` beside the weights.
    name
        Of the card; by default the weights file's.
    pixel_size_nm, calibration, detection, provenance
        See `blinkloop.training.official.card_from_official`.
    mirrored
        Axes ("rows", "columns") along which frames are mirrored before the official
        network; by default what `Camera.mirror_dim` says.

    Raises
    ------
    InputError
        A file is missing, damaged, or of a network that cannot be imported.
    """
    files = find_files(Path(given), Path(parameters) if parameters else None)
    facts = read_parameters(files.parameters)
    architecture, weights = from_official(read_state(files.weights))
    card = card_from_official(
        facts,
        architecture,
        name=name or files.weights.stem,
        pixel_size_nm=pixel_size_nm,
        calibration=Path(calibration) if calibration else None,
        detection=detection,
    )
    axes = sorted(mirrored_axes(facts) if mirrored is None else mirrored)
    weights = disable(weights, facts.HyperParameter.disabled_attributes or [])
    weights = mirror(weights, axes)
    network = make_network(
        architecture,
        {key: value.numpy() for key, value in weights.items()},
        source=str(files.weights),
    )
    origin = {
        "weights_file": files.weights.name,
        "weights_file_sha256": _sha256(files.weights),
        "parameter_file": files.parameters.name,
        "parameter_file_sha256": _sha256(files.parameters),
        "mirrored": axes,
        **(provenance or {}),
    }
    return ImportedNetwork(
        network, card.model_copy(update={"provenance": {**card.provenance, **origin}})
    )


def export_official(
    given: str | os.PathLike[str],
    path: str | os.PathLike[str],
    parameters: str | os.PathLike[str] | None = None,
    **options: Any,
) -> ModelCard:
    """Export an official network as one model file.

    Parameters
    ----------
    given, parameters, options
        See `read_official`.
    path
        Model file to write.

    Returns
    -------
    The card as written.

    Raises
    ------
    CheckFailedError
        The exported graph is not the network; see `export_onnx`.
    InputError
        The network or the target cannot be used.
    """
    imported = read_official(given, parameters, **options)
    return export_onnx(imported.network, imported.card, path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
