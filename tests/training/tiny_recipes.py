"""Networks that train in milliseconds, for the tests of the training loop."""

from __future__ import annotations

from blinkloop.training.recipe import Recipe


def tiny(**schedule: object) -> Recipe:
    """A recipe of a few iterations; keywords go to its schedule."""
    base = {
        "iterations": 6,
        "batch": 2,
        "patch_px": 16,
        "warmup_iterations": 2,
        "precision": "fp32",
        "checkpoint_every": 100,
        "validate_every": 3,
    }
    return Recipe.model_validate(
        {
            "name": "tiny",
            "architecture": {"features": 4, "depth": 1, "stem_stride": 2},
            "schedule": {**base, **schedule},
        }
    )


def with_sample(recipe: Recipe, **sample: object) -> Recipe:
    """The recipe with other samples."""
    data = recipe.model_dump()
    data["sample"] |= sample
    return Recipe.model_validate(data)
