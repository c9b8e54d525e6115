"""`train`, `export`, `verify`: from a recipe to a model file, in a few iterations."""

from __future__ import annotations

from pathlib import Path

import pytest
from verb_helpers import Verb

pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("onnxscript", reason="needs the extra `export`")

RECIPE = """\
format_version: 1
name: tiny
seed: 1
architecture: {features: 4, depth: 1, stem_stride: 2}
psf: {kind: gaussian, sigma0_px: 1.1, astigmatism_nm: 250.0, depth_nm: 280.0,
  z_range_nm: [-500.0, 500.0]}
camera: {kind: scmos, baseline_adu: 100.0, e_per_adu: 0.5, pixel_size_nm: 100.0}
sample: {photons: [1000.0, 6000.0], background_photons: [5.0, 60.0],
  density_per_um2: [0.05, 2.0], on_time_frames: [2.0, 6.0]}
schedule: {iterations: 4, batch: 2, targets_per_movie: 1, patch_px: 16,
  warmup_iterations: 2, checkpoint_every: 2, validate_every: 100}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def train(good: Verb, recipe: Path) -> Verb:
    words = ("--device", "cpu", "--threads", 1)
    return lambda run, *more: good("train", recipe, "-o", run, *words, *more)


def test_train_resumes_and_the_result_is_exported_and_verified(
    verb: Verb, good: Verb, train: Verb, recipe: Path, tmp_path: Path
) -> None:
    run, file = tmp_path / "run", tmp_path / "tiny.onnx"
    first = train(run, "--until", 2)
    assert "stopped at iteration 2 of 4" in first.err
    assert first.err.splitlines()[-1] == f"next: blinkloop train {recipe} -o {run}"
    second = train(run)
    assert f"resuming {run} at iteration 2" in second.err
    assert (
        second.err.splitlines()[-1] == f"next: blinkloop export {run} -o {'tiny.onnx'}"
    )
    assert "trained already: 4 of 4" in train(run).err
    other = verb("train", recipe, "-o", run, "--seed", 9, "--device", "cpu")
    assert other.code == 2
    assert "another recipe" in other.error

    said = good("export", run, "-o", file, "--threshold", 0.4, "--trained-on", "a test")
    assert "compared with PyTorch" in said.err
    rows = good("verify", file, "--run", run, "--json").json
    assert {row["backend"] for row in rows} >= {"onnxruntime-cpu"}
    assert all(row["passed"] for row in rows)
    keys = {"backend", "max_abs_difference", "detections_lost", "detections_added"}
    assert all(row.keys() >= keys for row in rows)
    record = good("evaluate", file, "--frames", 3, "--size", "16x16", "--json").json
    assert record["model"] == "tiny"
    assert record["threshold"] == 0.4
    refused = verb("export", run, "-o", tmp_path / "tiny.txt")
    assert refused.code == 2
    assert "ends in .onnx" in refused.error


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe\x00\xb6", "it is not text"),
        (b"sead: 3", "sead: there is no such key (was seed meant?); correct"),
        (b"a: [", "not valid YAML"),
    ],
    ids=["missing", "binary", "unknown key", "not YAML"],
)
def test_train_refuses_a_recipe(
    content: bytes | None, match: str, verb: Verb, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    said = verb("train", path, "-o", tmp_path / "run")
    assert said.code == 2
    assert match in said.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            "psf: {kind: spline, file: no.h5, pixel_size_nm: 100, "
            "z_range_nm: [-300, 300]}",
            "no such PSF file",
        ),
        ("{camera: {kind: scmos}, camera_maps: no.npz}", "no.npz"),
    ],
)
def test_a_missing_file_leaves_no_run_behind(
    text: str, match: str, verb: Verb, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    said = verb("train", path, "-o", tmp_path / "run")
    assert said.code == 2
    assert match in said.error
    assert not (tmp_path / "run").exists()


def test_train_refuses_a_file_as_folder_and_an_unknown_device(
    verb: Verb, recipe: Path, tmp_path: Path
) -> None:
    said = verb("train", recipe, "-o", recipe)
    assert said.code == 2
    assert "is a file" in said.error
    said = verb("train", recipe, "-o", tmp_path / "run", "--device", "abacus")
    assert said.code == 2
    assert "--device abacus" in said.error


@pytest.mark.parametrize("name", ["none", "empty", "file"])
def test_export_refuses_what_is_no_run(name: str, verb: Verb, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no checkpoint")
    said = verb("export", tmp_path / name, "-o", tmp_path / "m.onnx")
    assert said.code == 2
    assert name in said.error
    assert not (tmp_path / "m.onnx").exists()
