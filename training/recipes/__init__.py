"""Bundled recipes, found by name."""

from __future__ import annotations

from pathlib import Path

from blinkloop.errors import InputError
from blinkloop.training.recipe import Recipe

__all__ = ["bundled_recipes", "load_recipe"]


def bundled_recipes() -> dict[str, Path]:
    """Recipes that come with the package: name -> file."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def load_recipe(name: str) -> Recipe:
    """A recipe by path, or by the name of a bundled one.

    Raises
    ------
    InputError
        When there is neither, or it is not a valid recipe.
    """
    path = Path(name)
    bundled = bundled_recipes()
    # A run folder may have the recipe's name.
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return Recipe.load(path)
    if name in bundled:
        return Recipe.load(bundled[name])
    raise InputError(
        f"there is no recipe {name!r} (bundled: {', '.join(bundled) or 'none'}); give "
        f"one of these or the path of a YAML recipe"
    )
