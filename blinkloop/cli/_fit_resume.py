"""Going on with a fit that was killed, from what its live store holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blinkloop.cli._output import plain
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.integrations.movies import Movie

__all__ = [
    "Resume",
    "changed_meanwhile",
    "clear_unborn",
    "find_resume",
    "frames_and_rows",
    "identity_of",
    "is_unfinished",
]

_NAMES = {
    "movie": "the movie",
    "model_sha256": "the model",
    "threshold": "the threshold",
    "camera": "the camera facts",
    "backend": "the backend",
    "frames": "the frames",
    "region_px": "the region",
    "hot_pixels_masked": "the masked hot pixels",
    "static_light_removed": "whether static light is removed",
}


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a fit begins.

    Parameters
    ----------
    first
        First frame whose result is wanted.
    resumed
        Whether the store holds those before it.
    """

    first: int
    resumed: bool


def identity_of(
    movie: Mapping[str, Any], meta: Mapping[str, Any], plan: Mapping[str, Any]
) -> dict[str, Any]:
    """What must be the same for two fits to be one; kept as `fit` in the store.

    Parameters
    ----------
    movie
        `movie_identity`.
    meta
        Of the session: model, camera, threshold, backend.
    plan
        Frames and region.
    """
    kept = ("model_sha256", "threshold", "camera", "backend")
    made = {"movie": movie, **{key: meta.get(key) for key in kept}, **plan}
    for key in ("hot_pixels_masked", "static_light_removed"):
        if key in meta:  # not without it: fits begun by older versions go on
            made[key] = meta[key]
    found: dict[str, Any] = plain(made)
    return found


def changed_meanwhile(path: Path, movie: Movie, kept: Mapping[str, Any]) -> list[str]:
    """A warning when a movie is not what it was when the fit began.

    Parameters
    ----------
    path, movie
        Of the movie that was fitted.
    kept
        `movie_identity` at the beginning.
    """
    from blinkloop.integrations.movies import movie_identity

    try:
        same = plain(movie_identity(path, movie)) == plain(kept)
    except OSError:  # moved away: what was opened was read to its end
        return []
    if same:
        return []
    return [
        f"{path} was changed while it was fitted: frames beyond {movie.n_frames - 1} "
        f"are missing here; fit it again when it is whole, or follow it with "
        f"'blinkloop run --watch {path}'"
    ]


def is_unfinished(store: Path) -> bool:
    """Whether a folder is the live store of a fit that lacks frames."""
    from blinkloop.runtime.sinks import LiveStoreReader
    from blinkloop.runtime.sinks.store_reader import is_live_store

    if not store.is_dir() or not is_live_store(store):
        return False
    try:
        reader = LiveStoreReader(store)
    except InputError:
        return False
    kept = reader.meta.get("fit")
    if not isinstance(kept, dict):
        return False
    start, stop = kept["frames"]
    wanted = stop - start - kept.get("missing", 0)
    return not reader.finished or len(reader.frames()) < wanted


def find_resume(
    store: Path,
    identity: Mapping[str, Any],
    *,
    restart: bool,
    overwrite: bool,
    runs: Sequence[range] | None = None,
) -> Resume:
    """Where to begin, given what an interrupted fit may have left.

    The last frame it holds is done again: when the run was asked to end, that frame
    was analysed without its next one. So the movie is read from two frames before the
    first missing one.

    Parameters
    ----------
    store, identity
        Where the results are, and what they must be of.
    restart, overwrite
        What a person allows.
    runs
        Frames that the movie has; None = all that are wanted.

    Raises
    ------
    InputError
        The store is of another movie, model or setting.
    """
    from blinkloop.runtime.sinks import LiveStoreReader
    from blinkloop.runtime.sinks.store_reader import is_live_store

    start = int(identity["frames"][0])
    anew = Resume(start, resumed=False)
    if not store.exists() or restart:
        return anew
    whole = not is_unfinished(store)
    if whole and (overwrite or not is_live_store(store)):
        return anew
    reader = LiveStoreReader(store)
    kept = reader.meta.get("fit")
    # A whole one is left when the disk had no room for the table: the same fit makes
    # it now, and nothing else may take its place.
    if kept is None or (whole and kept != identity):
        raise InputError(
            f"{store} is there already and is no interrupted fit; give --restart "
            f"to replace it, or keep it with 'blinkloop convert'"
        )
    different = [
        name for key, name in _NAMES.items() if kept.get(key) != identity.get(key)
    ]
    if different:
        if overwrite:
            return anew
        raise InputError(
            f"{store} holds an interrupted fit that differs in "
            f"{' and '.join(different)}; repeat its command to go on, or give "
            f"--restart to begin anew"
        )
    numbers = reader.frames()["index"]
    stop = int(identity["frames"][1])
    unbroken = 0
    for wanted in (i for run in runs or [range(start, stop)] for i in run):
        if unbroken == len(numbers) or numbers[unbroken] != wanted:
            break
        unbroken += 1
    if unbroken < 2:
        return anew
    return Resume(int(numbers[unbroken - 1]), resumed=True)


def clear_unborn(store: Path) -> None:
    """Remove what a fit left that was killed before its first row: headers only.

    A finished store without rows is a result, and a group without attributes may be
    anybody's unless its name is that of our live stores.
    """
    from blinkloop.runtime.sinks.layout import FORMAT_KEY

    if not store.is_dir() or store.is_symlink():
        return
    files = [path for path in store.rglob("*") if path.is_file()]
    if any(path.name != "zarr.json" for path in files) or len(files) > 64:
        return
    try:
        root = json.loads((store / "zarr.json").read_text(encoding="utf-8"))
        attributes = root.get("attributes", {})
    except (OSError, ValueError, AttributeError):
        attributes = {}
    unborn = FORMAT_KEY in attributes and not attributes.get("finished", False)
    if unborn or (not attributes and store.name.endswith(".live.zarr")):
        shutil.rmtree(store)


def frames_and_rows(store: Path) -> tuple[int, int]:
    """Frames and localizations in a store, of this run and of those it went on with."""
    from blinkloop.runtime.sinks import LiveStoreReader

    reader = LiveStoreReader(store)
    return len(reader.frames()), len(reader)
