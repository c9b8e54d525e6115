"""A run with a measured PSF and a camera map, carried away from all it came from."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from golden_psf import golden_calibration
from verb_helpers import Verb

from blinkloop.errors import InputError

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("h5py", reason="needs the extra `train`")
pytest.importorskip("onnxscript", reason="needs the extra `export`")

RECIPE = """\
format_version: 1
name: carried
seed: 1
architecture: {features: 4, depth: 0, stem_stride: 2}
psf: {kind: spline, file: ../measured/beads.h5, z_range_nm: [-400.0, 400.0]}
camera: {kind: scmos, baseline_adu: 100.0, e_per_adu: 0.5, pixel_size_nm: 100.0}
camera_maps: ../measured/chip.npz
sample: {photons: [1000.0, 6000.0], background_photons: [5.0, 60.0],
  density_per_um2: [0.05, 2.0], on_time_frames: [2.0, 6.0]}
schedule: {iterations: 3, batch: 2, targets_per_movie: 1, patch_px: 16,
  warmup_iterations: 1, checkpoint_every: 2, validate_every: 100}
"""


def write_measured(folder: Path) -> dict[str, str]:
    """A PSF and a camera map; returns their hashes."""
    from blinkloop.psf_file import write_psf

    calibration = golden_calibration()
    write_psf(folder / "beads.h5", calibration)
    even = np.ones((30, 41))
    np.savez(
        folder / "chip.npz",
        offset_adu=100 * even,
        e_per_adu=0.5 * even,
        read_noise_e=1.5 * even,
    )
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
    }


@pytest.fixture
def moved(good: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run folder, elsewhere; recipe and measured files are gone."""
    here = tmp_path / "here"
    for name in ("recipes", "measured"):
        (here / name).mkdir(parents=True)
    hashes = write_measured(here / "measured")
    recipe = here / "recipes" / "carried.yaml"
    recipe.write_text(RECIPE)
    good("train", recipe, "-o", here / "run", "--device", "cpu", "--threads", 1)
    elsewhere = tmp_path / "another computer"
    elsewhere.mkdir()
    shutil.move(here / "run", elsewhere / "mine")
    shutil.rmtree(here)
    monkeypatch.chdir(elsewhere)
    inside = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (elsewhere / "mine").rglob("*")
        if path.name in hashes
    }
    assert inside == hashes
    return elsewhere / "mine"


SMALL = ("--frames", 3, "--size", "16x21", "--json")


def test_it_is_exported_evaluated_and_verified_where_it_lies(
    verb: Verb, good: Verb, moved: Path
) -> None:
    from blinkloop.export.verify_frames import condition_beside
    from blinkloop.runtime.model import read_card

    # The command that export names finds the run's PSF.
    psf, file = Path("mine") / "psf" / "beads.h5", Path("carried.onnx")
    said = good("export", moved.name, "-o", file)
    assert said.err.splitlines()[-1] == (
        f"next: blinkloop evaluate {file} --psf {psf} --write-card"
    )
    card = read_card(file)
    assert card.psf.file == "psf/beads.h5"
    recipe = card.provenance["recipe"]
    assert recipe["camera_maps"] == "camera/chip.npz"
    assert len(recipe["camera_maps_sha256"]) == 64
    refused = verb("evaluate", file, *SMALL)
    assert refused.code == 2
    assert "give it with --psf FILE" in refused.error
    record = good("evaluate", file, "--psf", psf, *SMALL).json
    assert record["model"] == "carried"
    assert record["n_truth"] > 0
    rows = good("verify", file, "--run", moved, "--json").json
    assert all(row["passed"] for row in rows)
    # `--precision` simulates frames, too, and looks into the run.
    condition_beside(card, [Path(), moved])
    with pytest.raises(InputError, match="put that file beside the model"):
        condition_beside(card, [Path()])
    # In the run, or with the PSF beside it, nothing has to be said.
    shutil.copy(file, moved)
    assert good("evaluate", moved / file.name, *SMALL).json["n_truth"] > 0
    shutil.copy(psf, "beads.h5")
    again = good("evaluate", file, *SMALL).json
    for key in ("n_truth", "n_predicted", "jaccard"):
        assert again[key] == record[key]
