"""From a training run to a model file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from blinkloop.errors import InputError
from blinkloop.export.onnx_file import export_onnx
from blinkloop.export.weights import make_network
from blinkloop.schema import DetectionSettings, ModelCard
from blinkloop.training.card import card_from_recipe
from blinkloop.training.checkpoint import CHECKPOINT_FILE, load_checkpoint
from blinkloop.training.network import TwoStageNetwork
from blinkloop.training.recipe import Recipe

__all__ = ["TrainedRun", "export_run", "read_run"]


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A network from a checkpoint, and how far its training got.

    Parameters
    ----------
    network
        With the averaged weights.
    recipe
        What it was trained with.
    provenance
        Iterations, seconds, version of torch; the teacher where there was one.
    """

    network: TwoStageNetwork
    recipe: Recipe
    provenance: dict[str, Any]


def read_run(run: str | os.PathLike[str]) -> TrainedRun:
    """Read a run folder or a checkpoint; nothing in it is executed.

    Raises
    ------
    InputError
        No checkpoint there, or not one of this version.
    """
    path = Path(run)
    if path.is_dir():
        path = path / CHECKPOINT_FILE
    state = load_checkpoint(path)
    try:
        recipe = Recipe.model_validate_json(state["recipe"])
        averaged = state["averaged"]
        weights = {name: value.float().numpy() for name, value in averaged.items()}
        provenance: dict[str, Any] = {
            "iterations": int(state["iteration"]),
            "training_seconds": round(float(state["seconds"]), 1),
            "torch": str(state["torch"]),
        }
        if state.get("settled"):
            provenance["sigma"] = state["settled"]
        if state.get("teacher"):
            provenance["teacher"] = _without_folders(state["teacher"])
        if recipe.distillation is not None:
            # A card travels; the folders of the machine that trained it stay there.
            learned = {"teacher": Path(recipe.distillation.teacher).name}
            distillation = recipe.distillation.model_copy(update=learned)
            recipe = recipe.model_copy(update={"distillation": distillation})
    except (KeyError, AttributeError, TypeError, ValidationError) as error:
        raise InputError(
            f"{path}: not a checkpoint of this version of blinkloop "
            f"({type(error).__name__}); train again, or use the version that made it"
        ) from error
    network = make_network(recipe.architecture, weights, source=str(path))
    return TrainedRun(network, recipe, provenance)


def _without_folders(teacher: Mapping[str, str]) -> dict[str, str]:
    """The record of a teacher with the name of its file alone."""
    return {**teacher, "source": Path(teacher["source"]).name}


def export_run(
    run: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    detection: DetectionSettings | None = None,
    accuracy: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Export the averaged network of a run, finished or not.

    Parameters
    ----------
    run
        Run folder or checkpoint.
    path
        Model file to write.
    detection
        Thresholds for the card; the defaults when None.
    accuracy
        Measured accuracy for the card.
    provenance
        More facts for the card, e.g. hardware.

    Returns
    -------
    The card as written.

    Raises
    ------
    CheckFailedError
        The exported graph is not the network; see `export_onnx`.
    InputError
        The run or the target cannot be used.
    """
    trained = read_run(run)
    card = card_from_recipe(
        trained.recipe,
        detection=detection,
        accuracy=accuracy,
        provenance={**trained.provenance, **(provenance or {})},
    )
    return export_onnx(trained.network, card, path)
