"""A run keeps the files its recipe names, and goes on wherever it is carried."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from golden_psf import golden_calibration
from tiny_recipes import tiny

from blinkloop.errors import InputError
from blinkloop.psf_file import file_sha256, write_psf
from blinkloop.training.recipe import Recipe
from blinkloop.training.silence import silence_of_run
from blinkloop.training.simulate import Simulator
from blinkloop.training.trainer import Trainer

pytest.importorskip("h5py", reason="needs the extra `train`")
KINDS = ["psf", "camera_maps"]


def write_bead_psf(path: Path, scale: float = 1.0) -> None:
    calibration = golden_calibration(scale)
    write_psf(path, calibration)


def write_chip(path: Path, offset: float = 100.0) -> None:
    even = np.ones((30, 41))
    np.savez(path, offset_adu=offset * even, e_per_adu=even, read_noise_e=1.5 * even)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Recipes in a folder, what they name in another."""
    for name in ("recipes", "measured"):
        (tmp_path / name).mkdir()
    write_bead_psf(tmp_path / "measured" / "beads.h5")
    write_chip(tmp_path / "measured" / "chip.npz")
    return tmp_path / "recipes"


def recipe_in(folder: Path, *, absolute: bool = False, iterations: int = 4) -> Recipe:
    """A recipe that says no hashes, saved beside nothing."""
    measured = str(folder.parent / "measured") if absolute else "../measured"
    psf = {"kind": "spline", "file": f"{measured}/beads.h5", "z_range_nm": [-400, 400]}
    data = tiny(iterations=iterations).model_dump(exclude={"psf", "camera_maps_sha256"})
    data |= {"psf": psf, "camera_maps": f"{measured}/chip.npz"}
    return Recipe.model_validate(data)


def copies(run: Path) -> dict[str, Path]:
    return {"psf": run / "psf" / "beads.h5", "camera_maps": run / "camera" / "chip.npz"}


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_a_run_carried_elsewhere_goes_on(
    there: Path, tmp_path: Path, absolute: bool
) -> None:
    recipe, run = recipe_in(there, absolute=absolute), tmp_path / "run"
    straight: list[float] = []
    Trainer(recipe, tmp_path / "straight", base=there).train(
        lambda p: straight.append(p.loss)
    )
    losses: list[float] = []
    first = Trainer(recipe, run, base=there)
    first.train(lambda p: losses.append(p.loss), until=2)
    names = json.loads((run / "run.json").read_text())["files"]
    assert names == [
        {"kind": kind, "file": str(path.relative_to(run)), "sha256": file_sha256(path)}
        for kind, path in copies(run).items()
    ]
    saved = Recipe.load(run / "recipe.yaml")
    assert saved == first.recipe
    assert saved.psf.file == "psf/beads.h5"
    assert saved.psf.sha256 == file_sha256(run / "psf" / "beads.h5")
    assert saved.camera_maps == "camera/chip.npz"
    # Another computer: nothing but the run folder, and under another name.
    moved = tmp_path / "elsewhere" / "carried"
    shutil.copytree(run, moved)
    for gone in (run, there, there.parent / "measured"):
        shutil.rmtree(gone)
    again = Trainer(Recipe.load(moved / "recipe.yaml"), moved, base=moved)
    assert again.iteration == 2
    again.train(lambda p: losses.append(p.loss))
    assert losses == straight
    assert Path(again.simulated.psf.file).is_file()
    assert again.recipe == saved
    assert Simulator(again.recipe, moved).batch(0).frames.shape[0] == 2
    assert silence_of_run(again.averaged, again.recipe, moved) is None


def test_the_first_recipe_resumes_too_with_its_files_or_without(
    there: Path, tmp_path: Path
) -> None:
    recipe, run = recipe_in(there), tmp_path / "run"
    first = Trainer(recipe, run, base=there)
    first.train(lambda p: None, until=1)
    assert Trainer(recipe, run, base=there).recipe == first.recipe
    shutil.rmtree(there.parent / "measured")
    assert Trainer(recipe, run, base=there).recipe == first.recipe
    copies(run)["camera_maps"].unlink()
    with pytest.raises(InputError, match=r"chip\.npz") as caught:
        Trainer(recipe, run, base=there)
    assert "\n" not in str(caught.value)


def change(kind: str, path: Path) -> None:
    if kind == "psf":
        write_bead_psf(path, 0.9)
    else:
        write_chip(path, 110.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [True, False], ids=["run's recipe", "first recipe"])
def test_a_changed_copy_is_one_line(
    there: Path, tmp_path: Path, kind: str, own: bool
) -> None:
    recipe, run = recipe_in(there), tmp_path / "run"
    Trainer(recipe, run, base=there).train(lambda p: None, until=1)
    change(kind, copies(run)[kind])
    if own:
        recipe, base = Recipe.load(run / "recipe.yaml"), run
    else:
        base = there
    before = (run / "checkpoint.pt").read_bytes()
    with pytest.raises(InputError, match=r"run's copy of its .* has changed") as caught:
        Trainer(recipe, run, base=base)
    assert str(copies(run)[kind]) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (run / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_whose_file_has_changed_is_another_one(
    there: Path, tmp_path: Path, kind: str
) -> None:
    recipe, run = recipe_in(there), tmp_path / "run"
    Trainer(recipe, run, base=there).train(lambda p: None, until=1)
    change(kind, there.parent / "measured" / copies(run)[kind].name)
    with pytest.raises(InputError, match="was begun with another") as caught:
        Trainer(recipe, run, base=there)
    assert "\n" not in str(caught.value)
    # Its own recipe has its own copies.
    assert Trainer(Recipe.load(run / "recipe.yaml"), run, base=run).iteration == 1


def test_a_run_that_named_a_file_elsewhere_is_completed(
    there: Path, tmp_path: Path
) -> None:
    """Runs of earlier versions: no copy, no hash, the recipe's name."""
    from blinkloop.training.checkpoint import load_checkpoint, write_checkpoint

    recipe, run = recipe_in(there), tmp_path / "run"
    Trainer(recipe, run, base=there).train(lambda p: None, until=1)
    state = load_checkpoint(run / "checkpoint.pt")
    state["recipe"] = recipe.model_dump_json()
    write_checkpoint(state, run / "checkpoint.pt")
    for copy in copies(run).values():
        copy.unlink()
    other = recipe.model_copy(update={"camera_maps": "../measured/beads.h5"})
    with pytest.raises(InputError, match="camera_maps"):
        Trainer(other, run, base=there)
    trainer = Trainer(recipe, run, base=there)
    trainer.train(lambda p: None)
    assert all(copy.is_file() for copy in copies(run).values())
    assert Trainer(Recipe.load(run / "recipe.yaml"), run, base=run).finished


def test_a_wrong_hash_in_a_new_recipe_is_one_line(there: Path, tmp_path: Path) -> None:
    recipe = recipe_in(there).model_copy(update={"camera_maps_sha256": "0" * 64})
    with pytest.raises(InputError, match="not the one that was described") as caught:
        Trainer(recipe, tmp_path / "run", base=there)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="camera maps are not those"):
        Simulator(recipe, there).batch(0)
