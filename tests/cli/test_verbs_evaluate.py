"""`evaluate`, `verify` and `convert`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from verb_helpers import Verb

from blinkloop.evaluation import EvaluationSettings, simulate_movie
from blinkloop.runtime import read_model
from blinkloop.schema import CARD_KEY, VariedGaussianPsfSettings

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


def test_evaluate_tells_everything_at_once(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    words = ("--densities", "0,0.5", "--isolated", "--emitters", 30, "--z-bins", 3)
    words += ("--sigma-repeats", 2, "--across-range", 2, "--camera-kind", "ideal")
    folder = tmp_path / "new" / "figures"
    said = good("evaluate", model, *SHORT, *words, "--figures", folder)
    record = said.json
    assert record.keys() >= KEYS | {"calibration", "subpixel", "sigma_over_repeats"}
    assert record["condition"]["camera"]["kind"] == "ideal"
    assert len(record["by_z"]) == 3
    empty, same = record["by_density"]
    assert (empty["n_truth"], same["n_truth"]) == (0, record["n_truth"])
    assert same["density"] == record["density"]
    assert record["isolated"]["settings"]["emitters"] == 30
    assert record["isolated"]["single"]["n"] == 30
    assert len(record["across_range"]["drawn"]) == 2
    assert json.loads((folder / "evaluation.json").read_text()) == record
    names = {file.name for file in folder.glob("*.png")}
    assert names >= {"by_density.png", "crlb.png", "across_range.png"}
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in names)


def test_tables_of_everything(good: Verb, model: Path) -> None:
    words = ("--densities", "0,0.5", "--isolated", "--emitters", 9, "--across-range", 1)
    said = good("evaluate", model, *SHORT[:-1], *words, "--sigma-repeats", 2)
    for title in ("Calibration", "By z", "By density", "9 isolated emitters", "Across"):
        assert title in said.out
    assert "nan" not in said.out


def test_rules_of_the_challenge(good: Verb, model: Path) -> None:
    standard = good("evaluate", model, *SHORT).json
    challenge = good("evaluate", model, *SHORT, "--rules", "challenge").json
    assert standard["rules"]["name"] == "standard"
    assert challenge["rules"] == {
        "name": "challenge",
        "border_nm": 450.0,
        "min_photons": 0.0,
        "photon_quantile": 0.25,
        "lateral_nm": 250.0,
        "axial_nm": 500.0,
        "forgive_dropped": True,
        "matching": "greedy",
        "wobble": False,
    }
    assert 0 < challenge["n_truth"] < standard["n_truth"]
    words = ("--matching", "hungarian", "--photon-quantile", 0, "--border-nm", 0)
    words += ("--tolerance-lateral-nm", 40, "--tolerance-axial-nm", 1e4, "--wobble")
    own = good("evaluate", model, *SHORT, "--rules", "challenge", *words).json
    assert own["rules"]["matching"] == "hungarian"
    assert own["rules"]["wobble"] is True
    assert own["n_truth"] > challenge["n_truth"]
    assert own["rmse_lateral_nm"] <= 40


def test_a_quantile_alone_forgives_what_it_drops(good: Verb, model: Path) -> None:
    record = good("evaluate", model, *SHORT, "--photon-quantile", 0.5).json
    assert record["rules"]["forgive_dropped"] is True
    assert record["rules"]["min_photons"] == 50


def test_card_gets_the_short_numbers(good: Verb, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    words = ("--densities", "0,0.5", "--isolated", "--emitters", 30, "--write-card")
    record = good("evaluate", copy, *SHORT, *words).json
    entry = read_model(copy).card.accuracy
    assert entry["jaccard"] == record["jaccard"]
    assert entry["z_score_sd"].keys() == {"x", "y", "z"}
    assert entry["density_bias"] == record["density"]["bias"]
    assert len(entry["by_density"]) == 2
    ratio = record["isolated"]["persistent"]["z"]["ratio"]
    assert entry["crlb_ratio"]["persistent"]["z"] == ratio
    assert len(json.dumps(entry)) < 6000


def test_a_measured_psf_is_looked_for_beside_the_model(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from blinkloop.cli._evaluation import _psf
    from blinkloop.errors import InputError

    card = SimpleNamespace(name="mine", psf=SimpleNamespace(file="psf.h5"))
    model = tmp_path / "mine.onnx"
    given = {"psf_file": None}
    with pytest.raises(InputError, match="give it with --psf FILE"):
        _psf(model, card, given)
    (tmp_path / "psf.h5").touch()
    assert _psf(model, card, given)["psf_file"] == tmp_path / "psf.h5"
    other = {"psf_file": tmp_path / "other.h5"}
    assert _psf(model, card, other) == other


def test_a_model_of_a_range_of_psfs(good: Verb, model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(str(model))
    (entry,) = (e for e in graph.metadata_props if e.key == CARD_KEY)
    changes = {
        "psf": VariedGaussianPsfSettings(),
        "z_range_nm": (0.0, 0.0),
        "pixel_size_range_nm": (80.0, 160.0),
    }
    entry.value = read_model(model).card.model_copy(update=changes).to_json()
    path = tmp_path / "ranged.onnx"
    onnx.save(graph, str(path))
    words = ("--pixel-size-nm", 120, "--psf-sigma-px", 1.5, "--isolated")
    words += ("--emitters", 9, "--across-range", 2)
    record = good("evaluate", path, *SHORT, *words).json
    assert record["rmse_axial_nm"] is None
    assert "by_z" not in record
    assert record["condition"]["psf"]["sigma0_px"] == 1.5
    assert record["condition"]["camera"]["pixel_size_nm"] == 120
    assert record["calibration"]["z_scores"].keys() == {"x", "y"}
    assert "z" not in record["isolated"]["single"]
    sizes = {row["pixel_size_nm"] for row in record["across_range"]["drawn"]}
    assert len(sizes) == 2
    assert all(80 <= size <= 160 for size in sizes)
    said = good("evaluate", path, *SHORT[:-1], *words, "--figures", tmp_path / "f")
    assert "Across the range" in said.out


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
        (("--size", "64"), "HEIGHTxWIDTH"),
        (("--densities", "0.1;2"), "numbers with commas"),
        (("--densities", "0.1,-2"), "density_per_um2 = -2"),
        (("--threshold", 0), "between 0 and 1, got 0"),
        (("--photon-quantile", 1), "--photon-quantile"),
        (("--psf-sigma-px", "nan"), "not a finite number"),
        (("--psf", "b.h5"), "has a Gaussian PSF"),
        (("--pixel-size-nm", 120), "120 nm"),
        (("--isolated", "--movie", "m", "--truth", "t"), "--isolated belongs to"),
        (("--psf", "p", "--movie", "m", "--truth", "t"), "--psf belongs to"),
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
