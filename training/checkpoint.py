"""Checkpoints: what a run needs to go on, and whether it is still the same run.

Design notes: recipes are compared parsed, never as text, so that a key a run did not
know yet equals its default. Reading executes nothing (`weights_only`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel

from blinkloop.errors import InputError
from blinkloop.training.recipe import Recipe
from blinkloop.training.run_files import as_in_run
from blinkloop.training.schedule import decay_start, in_decay

__all__ = [
    "CHECKPOINT_FILE",
    "RECIPE_FILE",
    "STABLE_FILE",
    "continued",
    "finished_in",
    "load_checkpoint",
    "recipe_of",
    "resumable",
    "write_checkpoint",
]

_Model = TypeVar("_Model", bound=BaseModel)

CHECKPOINT_FILE = "checkpoint.pt"
STABLE_FILE = "stable.pt"
"""State before the decay of a `wsd` run, from which it can be prolonged."""
RECIPE_FILE = "recipe.yaml"

_OWN_SCHEDULE = (
    "checkpoint_every",
    "validate_every",
    "patience",
    "stop_on",
    "max_restarts",
    "divergence_mads",
    "divergence_iterations",
    "stuck_iterations",
    "stuck_loss",
)
"""Keys that watch a training and do not change what it computes."""
_LENGTH = ("iterations", "minutes", "decay_fraction", "decay_shape")
"""Keys a `wsd` run may change in its stable phase."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it (`weights_only`)."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no checkpoint there; train first") from error
    except Exception as error:
        raise InputError(
            f"{path}: not a checkpoint of blinkloop ({type(error).__name__})"
        ) from error
    if not isinstance(state, dict) or state.get("format_version") != 1:
        raise InputError(f"{path}: not a checkpoint of this version of blinkloop")
    return state


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint; the old one stays until the new one is whole."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {"format_version": 1, "torch": str(torch.__version__), **state}, temporary
    )
    temporary.replace(path)


def recipe_of(state: dict[str, Any], path: Path) -> Recipe:
    """The recipe in a checkpoint.

    Raises
    ------
    InputError
        When this version of blinkloop does not understand it.
    """
    try:
        return Recipe.model_validate_json(state["recipe"])
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{path}: its recipe is not one of this version of blinkloop; use the "
            f"version that wrote it"
        ) from error


def continued(given: Recipe, stored: Recipe, folder: Path) -> Recipe:
    """The recipe with which a run of `stored` goes on when `given` is asked for.

    What `given` does not say is the run's (defaults may change between versions), and
    what it leaves to the machine too; what only watches, and the length of a `wsd`
    schedule, is `given`'s.

    Raises
    ------
    InputError
        They differ in what is computed; the first such key is named.
    """
    length = {key: getattr(given.schedule, key) for key in _LENGTH}
    given = _filled(given, stored)
    update = length if given.schedule.schedule == "wsd" else {}
    if given.schedule.precision == "auto":
        update["precision"] = stored.schedule.precision
    schedule = given.schedule.model_copy(update=update)
    given = given.model_copy(update={"schedule": schedule})
    if given.network_units is None:
        given = given.model_copy(update={"network_units": stored.network_units})
    free = set(_OWN_SCHEDULE)
    if schedule.schedule == "wsd":
        free |= set(_LENGTH)
    ours, theirs = _flat(given), _flat(stored)
    for key in sorted(ours.keys() | theirs.keys()):
        if key.removeprefix("schedule.") in free or ours.get(key) == theirs.get(key):
            continue
        raise InputError(
            f"{folder}: holds a run of another recipe ({key} is {theirs.get(key)!r} "
            f"there, {ours.get(key)!r} here); resume with its own {RECIPE_FILE}, or "
            f"choose an empty folder"
        )
    return given


def resumable(
    folder: Path, given: Recipe, *, finishing: bool, base: Path = Path()
) -> tuple[dict[str, Any], Recipe, list[str]]:
    """The state from which a run goes on, with its recipe.

    Parameters
    ----------
    folder
        Run folder.
    given
        Recipe asked for.
    finishing
        A decay that has begun goes on, whatever length is asked for.
    base
        Paths in the recipe asked for are relative to this folder.

    Returns
    -------
    State, recipe, and lines for the person.

    Raises
    ------
    InputError
        Another recipe or PSF file, or a decay that cannot be undone.
    """
    path = folder / CHECKPOINT_FILE
    state = load_checkpoint(path)
    stored = recipe_of(state, path)
    recipe = continued(as_in_run(given, stored, base, folder), stored, folder)
    old, new = stored.schedule, recipe.schedule
    same = all(getattr(old, key) == getattr(new, key) for key in _LENGTH)
    elapsed = float(state.get("elapsed_s", state.get("seconds", 0.0)))
    if new.schedule != "wsd" or same:
        return state, recipe, []
    if not in_decay(old, int(state["iteration"]), elapsed):
        return _before(state, recipe, folder), recipe, []
    if finishing:
        length = {key: getattr(old, key) for key in _LENGTH}
        kept = recipe.model_copy(update={"schedule": new.model_copy(update=length)})
        return state, kept, []
    back = folder / STABLE_FILE
    state = _before(load_checkpoint(back), recipe, folder)
    said = f"goes back to iteration {int(state['iteration'])}, before the decay"
    return state, recipe, [said]


def finished_in(
    recipe: Recipe, state: dict[str, Any], iterations: int
) -> tuple[Recipe, str]:
    """The recipe of a `wsd` run that comes down within so many iterations from now.

    Parameters
    ----------
    recipe
        Of the run.
    state
        Its checkpoint.
    iterations
        Of the decay. One that has begun goes on as it is.

    Returns
    -------
    The recipe, and a line for the person.

    Raises
    ------
    InputError
        The end of its schedule is fixed from the beginning.
    """
    schedule = recipe.schedule
    if schedule.schedule != "wsd":
        raise InputError(
            f"--finish-in is for schedule: wsd; this recipe has schedule: "
            f"{schedule.schedule}, whose end is fixed from the beginning"
        )
    at = int(state["iteration"])
    if in_decay(schedule, at, float(state.get("elapsed_s", state["seconds"]))):
        return recipe, "the decay has begun already and goes on"
    end = at + iterations
    update = {
        "iterations": end,
        "minutes": None,
        "decay_fraction": iterations / end,
    }
    schedule = schedule.model_copy(update=update)
    said = f"decay from iteration {at} to {end}"
    return recipe.model_copy(update={"schedule": schedule}), said


def _before(state: dict[str, Any], recipe: Recipe, folder: Path) -> dict[str, Any]:
    iteration, elapsed = int(state["iteration"]), float(state.get("elapsed_s", 0.0))
    if in_decay(recipe.schedule, iteration, elapsed):
        start = decay_start(recipe.schedule)
        where = "its time" if recipe.schedule.minutes else f"iteration {start}"
        raise InputError(
            f"{folder}: is at iteration {iteration}, and the decay asked for would "
            f"have begun before, at {where}; give more, or --finish-in N"
        )
    return state


def _filled(given: _Model, stored: BaseModel) -> _Model:
    """The settings of `given` that were named, the others from `stored`."""
    if type(given) is not type(stored):
        return given
    update: dict[str, Any] = {}
    for name in type(given).model_fields:
        ours, theirs = getattr(given, name), getattr(stored, name)
        if name not in given.model_fields_set:
            update[name] = theirs
        elif isinstance(ours, BaseModel) and isinstance(theirs, BaseModel):
            update[name] = _filled(ours, theirs)
    return given.model_copy(update=update)


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Every setting by its dotted name."""
    found: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{name}.{key}" if name else key, item)
        else:
            found[name] = value

    walk("", recipe.model_dump(mode="json"))
    return found
