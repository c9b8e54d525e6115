"""From a recipe to the model card that travels with the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blinkloop.schema import DetectionSettings, ModelCard
from blinkloop.training.recipe import Recipe

__all__ = ["card_from_recipe"]


def card_from_recipe(
    recipe: Recipe,
    *,
    detection: DetectionSettings | None = None,
    accuracy: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> ModelCard:
    """The card of a network trained with a recipe.

    Parameters
    ----------
    recipe
        What the network was trained with; it is kept whole in the provenance.
    detection
        Thresholds; the defaults when None.
    accuracy
        Measured accuracy, with the command and seed that measured it.
    provenance
        Iterations, seconds, hardware, versions.
    """
    return ModelCard(
        name=recipe.name,
        description=recipe.description,
        architecture=recipe.architecture,
        pixel_size_nm=recipe.camera.pixel_size_nm,
        pixel_size_range_nm=recipe.pixel_size_range_nm,
        z_range_nm=recipe.psf.z_range_nm,
        psf=recipe.psf,
        camera=recipe.camera,
        scaling=recipe.scaling(),
        training_ranges=recipe.sample.training_ranges(),
        detection=detection or DetectionSettings(),
        accuracy=dict(accuracy or {}),
        provenance={"recipe": recipe.model_dump(mode="json"), **(provenance or {})},
    )
