"""Which files of an official run belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blinkloop.errors import InputError

__all__ = ["OfficialFiles", "find_files"]

_PARAMETERS = ("param_run.yaml", "param_run.yml", "param_run.json")
_PARAMETER_SUFFIXES = (".yaml", ".yml", ".json")
_AS_GIVEN = "param_run_in"
"""The file as the user wrote it, beside the one that DECODE filled in."""
_RESUME = "ckpt.pt"


@dataclass(frozen=True, slots=True)
class OfficialFiles:
    """Weights and parameters of one network.

    Parameters
    ----------
    weights
        `model_*.pt`.
    parameters
        `param_run.yaml`, or one of the user's.
    """

    weights: Path
    parameters: Path


def find_files(given: Path, parameters: Path | None = None) -> OfficialFiles:
    """The weights and parameter file of an official network.

    Parameters
    ----------
    given
        Weights file, or a folder that holds one.
    parameters
        Parameter file, where it lies elsewhere.

    Raises
    ------
    InputError
        None there, or several and no telling which; names them.
    """
    folder = given if given.is_dir() else given.parent
    weights = _weights(given) if given.is_dir() else given
    if parameters is not None:
        return OfficialFiles(weights, parameters)
    for name in _PARAMETERS:
        if (folder / name).is_file():
            return OfficialFiles(weights, folder / name)
    candidates = [
        path for path in _files(folder, _PARAMETER_SUFFIXES) if path.stem != _AS_GIVEN
    ]
    if len(candidates) != 1:
        found = _names(candidates) if candidates else "no .yaml or .json"
        raise InputError(
            f"{given}: DECODE's parameter file is needed, and there is {found} beside "
            f"the weights; name it with --param"
        )
    return OfficialFiles(weights, candidates[0])


def _weights(folder: Path) -> Path:
    found = _files(folder, (".pt", ".pth"))
    models = [path for path in found if path.name != _RESUME] or found
    if not models:
        raise InputError(
            f"{folder}: holds no run of blinkloop and no model_*.pt of DECODE; give "
            f"the folder that a training wrote"
        )
    if len(models) > 1:
        # DECODE writes three names in turn, so the highest number tells nothing.
        newest = max(models, key=lambda path: path.stat().st_mtime)
        raise InputError(
            f"{folder}: holds {_names(models)}; name the one to export (the last "
            f"written is {newest.name})"
        )
    return models[0]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in suffixes
    )


def _names(paths: list[Path]) -> str:
    shown = [path.name for path in paths[:5]]
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(shown) + more
