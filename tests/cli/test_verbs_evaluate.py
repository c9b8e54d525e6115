"""`evaluate`, `verify` and `convert`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from verb_helpers import Verb

from blinkloop.evaluation import EvaluationSettings, simulate_movie
from blinkloop.runtime import read_model

KEYS = {
    "jaccard",
    "precision",
    "recall",
    "rmse_lateral_nm",
    "rmse_axial_nm",
    "rmse_volume_nm",
    "efficiency_lateral",
    "efficiency_axial",
    "efficiency_volume",
    "n_truth",
    "n_predicted",
    "intervals_95",
}
SHORT = ("--frames", 12, "--size", "24x33", "--json")


def test_evaluate_is_the_same_for_the_same_seed(good: Verb, model: Path) -> None:
    one, two = (good("evaluate", model, *SHORT, "--seed", 4).json for _ in range(2))
    other = good("evaluate", model, *SHORT, "--seed", 5).json
    assert one.keys() >= KEYS
    assert one["settings"]["frames"] == 12
    for record in (one, two, other):
        del record["seconds"]
    assert one == two
    assert one["n_truth"] != other["n_truth"]


def test_evaluate_of_the_bundled_model(good: Verb, bundled: str) -> None:
    """The acceptance values with room for a short movie."""
    words = ("--frames", 40, "--size", "48x64", "--json")
    record = good("evaluate", bundled, *words).json
    assert record["jaccard"] > 0.65
    assert record["rmse_lateral_nm"] < 30
    assert record["rmse_axial_nm"] < 60
    assert record["density_estimated_per_um2"] == pytest.approx(
        record["density_true_per_um2"], rel=0.15
    )


def test_evaluate_table(good: Verb, model: Path) -> None:
    said = good("evaluate", model, *SHORT[:-1], "--density", 0)
    assert "n_truth" in said.out
    assert "nan" not in said.out
    assert said.err.splitlines()[-1] == f"next: blinkloop demo -m {model}"


def test_evaluate_of_a_movie_is_that_of_its_simulation(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    settings = EvaluationSettings(frames=12, height_px=24, width_px=33, seed=4)
    scene = simulate_movie(read_model(model).card, settings)
    np.save(tmp_path / "m.npy", scene.frames_adu[0].astype(np.uint16))
    np.savez(tmp_path / "t.npz", emitters=scene.emitters)
    words = ("--movie", tmp_path / "m.npy", "--truth", tmp_path / "t.npz", "--json")
    record = good("evaluate", model, *words, "--seed", 4).json
    expected = good("evaluate", model, *SHORT, "--seed", 4).json
    for key in ("n_truth", "n_predicted"):
        assert record[key] == expected[key] > 0
    # Another camera sees other photons.
    twice = good("evaluate", model, *words, "--e-per-adu", 1).json
    assert twice["n_predicted"] != record["n_predicted"]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--density", -1), "density_per_um2 = -1"),
        (("--flux", 0), "flux_photons = 0"),
        (("--frames", 0), "frames = 0"),
        (("--size", "64"), "height x width"),
        (("--size", "3x3"), "height_px = 3"),
        (("--threshold", 2), "between 0 and 1, got 2"),
        (("--movie", "m.tif"), "go together"),
        (("--movie", "no.tif", "--truth", "no.npz"), "no such file"),
        (("--camera-kind", "emccd"), "give --em-gain"),
    ],
)
def test_evaluate_refuses(
    words: tuple[object, ...],
    match: str,
    verb: Verb,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = verb("evaluate", model, *words)
    assert said.code == 2
    assert match in said.error


def test_truth_that_is_none(verb: Verb, model: Path, movie: Path) -> None:
    np.savez(movie.with_name("t.npz"), other=np.zeros(3))
    words = ("--movie", movie, "--truth", movie.with_name("t.npz"))
    said = verb("evaluate", model, *words)
    assert said.code == 2
    assert "no true emitters in it" in said.error


def test_convert_there_and_back(good: Verb, model: Path, movie: Path) -> None:
    store = movie.with_name("o.zarr")
    count = good("fit", movie, "-m", model, "-o", store, "--json").json["localizations"]
    record = good("convert", store, movie.with_name("o.hdf5"), "--json").json
    assert record["localizations"] == count
    assert [Path(file).name for file in record["files"]] == ["o.hdf5", "o.yaml"]
    said = good("convert", movie.with_name("o.hdf5"), movie.with_name("o.csv"))
    assert "ThunderSTORM" in said.err.splitlines()[-1]
