"""The files a recipe names - a measured PSF, camera maps - as a run keeps them.

A run must be repeated, resumed and evaluated from its own folder, on whatever computer
that lies. So it has a copy of every such file, its recipe names the copy, and the hash
tells whether the copy is still what the network was trained with.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blinkloop.errors import InputError
from blinkloop.psf_file import file_sha256
from blinkloop.schema import SplinePsfSettings
from blinkloop.training.recipe import Recipe

__all__ = ["RunFile", "as_in_run", "copy_files", "located", "run_files"]

_FOLDERS = {"psf": "psf", "camera_maps": "camera"}
"""Where in a run the copy of a file lies that was not beside the recipe."""
_WORDS = {"psf": "PSF file", "camera_maps": "camera maps"}


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file that a run needs.

    Parameters
    ----------
    kind
        "psf" or "camera_maps".
    source
        Where it is now.
    name
        Where it lies in the run folder, with forward slashes.
    sha256
        Of its content.
    """

    kind: str
    source: Path
    name: str
    sha256: str

    def record(self) -> dict[str, str]:
        """For `run.json`."""
        return {"kind": self.kind, "file": self.name, "sha256": self.sha256}


def _named(recipe: Recipe) -> dict[str, tuple[str, str]]:
    """Kind -> name and hash ("": not known) of what a recipe names."""
    found = {}
    if isinstance(recipe.psf, SplinePsfSettings):
        found["psf"] = (recipe.psf.file, recipe.psf.sha256.lower())
    if recipe.camera_maps is not None:
        found["camera_maps"] = (recipe.camera_maps, recipe.camera_maps_sha256.lower())
    return found


def _renamed(recipe: Recipe, kind: str, name: str, sha256: str) -> Recipe:
    if kind == "psf":
        psf = recipe.psf.model_copy(update={"file": name, "sha256": sha256})
        return recipe.model_copy(update={"psf": psf})
    update: dict[str, Any] = {"camera_maps": name, "camera_maps_sha256": sha256}
    return recipe.model_copy(update=update)


def _find(name: str, folders: list[Path]) -> Path | None:
    for place in [*(folder / name for folder in folders), Path(name)]:
        if place.is_file():
            return place
    return None


def _name_in_run(kind: str, name: str) -> str:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        return f"{_FOLDERS[kind]}/{path.name}"
    return path.as_posix()


def run_files(
    recipe: Recipe, base: Path, run: Path | None = None
) -> tuple[Recipe, list[RunFile]]:
    """The recipe as it stands in its run, and the files to be copied there.

    Parameters
    ----------
    recipe
        As it was given, or as a run has it.
    base
        Paths in the recipe are relative to it; else to the working directory.
    run
        Folder of a run that goes on: its own copies come first.

    Returns
    -------
    The recipe with the names and hashes of the copies, and the files. What is not
    found stays as it is.

    Raises
    ------
    InputError
        A file is not the one whose hash the recipe has.
    """
    files = []
    for kind, (name, known) in _named(recipe).items():
        source = _find(name, [base] if run is None else [run, base])
        if source is None:
            continue
        sha256 = file_sha256(source)
        if known and sha256 != known:
            raise InputError(_changed(kind, source, known, run))
        target = _name_in_run(kind, name)
        recipe = _renamed(recipe, kind, target, sha256)
        files.append(RunFile(kind, source, target, sha256))
    return recipe, files


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _changed(kind: str, source: Path, known: str, run: Path | None) -> str:
    word = _WORDS[kind]
    if run is not None and _inside(source, run):
        return (
            f"{source}: the run's copy of its {word} has changed since the run began "
            f"(its sha256 is no longer {known[:12]}...); put the file back, or train "
            f"into another folder"
        )
    return (
        f"{source}: the {word} of the recipe is not the one that was described (its "
        f"sha256 differs from {known[:12]}...); bring that file back, or describe the "
        f"new one and train into another folder"
    )


def as_in_run(given: Recipe, stored: Recipe, base: Path, run: Path) -> Recipe:
    """The recipe asked for, with the run's names for files that are the run's.

    A file that is no longer where the recipe says is taken to be the run's.

    Raises
    ------
    InputError
        A file that the recipe names is another one than the run was begun with.
    """
    ours = _named(stored)
    for kind, (name, known) in _named(given).items():
        own_name, own = ours.get(kind, ("", ""))
        if not own:
            continue  # an old run does not say: the names must agree
        source = _find(name, [base])
        sha256 = known or own if source is None else file_sha256(source)
        if sha256 != own:
            place = Path(name) if source is None else source
            if _inside(place, run):
                raise InputError(_changed(kind, place, own, run))
            raise InputError(
                f"{run}: was begun with another {_WORDS[kind]} than {place} is now "
                f"(sha256 {own[:12]}... then, {sha256[:12]}... now); bring that file "
                f"back, resume with the run's own recipe.yaml, or train into another "
                f"folder"
            )
        given = _renamed(given, kind, own_name, own)
    return given


def copy_files(files: list[RunFile], run: Path) -> None:
    """Copy what is not in the run yet; an old copy of another content is replaced."""
    for file in files:
        target = run / file.name
        if target.is_file() and file_sha256(target) == file.sha256:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".tmp")
        shutil.copyfile(file.source, temporary)
        temporary.replace(target)


def located(recipe: Recipe, files: list[RunFile]) -> Recipe:
    """The recipe with its files where they are on this computer now."""
    for file in files:
        recipe = _renamed(recipe, file.kind, str(file.source.resolve()), file.sha256)
    return recipe
