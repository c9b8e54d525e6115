"""`fit`: every kind of movie, every kind of table, and its JSON."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from verb_helpers import Verb, assert_same_table

from blinkloop.integrations.formats import read_table
from blinkloop.runtime import read_model

KEYS = {"frames", "localizations", "seconds", "frames_per_second", "out"}
Frames = npt.NDArray[np.uint16]


def save_pages(folder: Path, frames: Frames) -> Path:
    tifffile = pytest.importorskip("tifffile")
    path = folder / "movie.tif"
    tifffile.imwrite(path, frames)
    return path


def save_files(folder: Path, frames: Frames) -> Path:
    tifffile = pytest.importorskip("tifffile")
    path = folder / "frames"
    path.mkdir()
    for number, frame in enumerate(frames, start=1):
        tifffile.imwrite(path / f"{number}.tif", frame)
    return path


def save_npy(folder: Path, frames: Frames) -> Path:
    path = folder / "movie.npy"
    np.save(path, frames)
    return path


def save_raw(folder: Path, frames: Frames) -> Path:
    path = folder / "movie.raw"
    frames.tofile(path)
    n, height, width = frames.shape
    facts = {"Frames": n, "Height": height, "Width": width, "Data Type": "uint16"}
    lines = [f"{key}: {value}" for key, value in facts.items()]
    lines.append("Byte Order: <")
    path.with_suffix(".yaml").write_text("\n".join(lines) + "\n")
    return path


KINDS = [
    pytest.param(save_pages, id="multi-page TIFF"),
    pytest.param(save_files, id="folder of TIFFs"),
    pytest.param(save_npy, id="npy"),
    pytest.param(save_raw, id="Picasso raw"),
]


@pytest.mark.parametrize("save", KINDS)
def test_every_kind_of_movie_gives_the_same(
    save: object, good: Verb, model: Path, frames: Frames, tmp_path: Path
) -> None:
    reference = tmp_path / "reference"
    reference.mkdir()
    good("fit", save_npy(reference, frames), "-m", model, "-o", tmp_path / "r.zarr")
    movie = save(tmp_path, frames)  # type: ignore[operator]
    said = good("fit", movie, "-m", model, "-o", tmp_path / "o.zarr", "--json")
    record = said.json
    assert record.keys() >= KEYS
    assert record["frames"] == len(frames)
    assert record["out"] == str(tmp_path / "o.zarr")
    assert record["failure"] is None
    expected = read_table(tmp_path / "r.zarr").data
    assert record["localizations"] == len(expected) > 0
    table = read_table(tmp_path / "o.zarr").data
    assert_same_table(table, expected)


@pytest.mark.parametrize(
    ("name", "beside", "then"),
    [
        ("o.hdf5", "o.yaml", "next: blinkloop render "),
        ("o.csv", "o.csv.json", "ThunderSTORM"),
        ("o.zarr", "o.zarr", "next: blinkloop convert "),
        ("o.decode.h5", "o.decode.h5", "next: blinkloop render "),
        ("o_sml.mat", "o_sml.mat", "next: blinkloop render "),
        ("o.parquet", "o.parquet", "next: blinkloop render "),
    ],
)
def test_every_kind_of_table(
    name: str, beside: str, then: str, good: Verb, model: Path, movie: Path
) -> None:
    out = movie.with_name(name)
    said = good("fit", movie, "-m", model, "-o", out)
    table = read_table(out)
    assert f"{len(table)} localizations in 12 frames" in said.out
    assert then in said.err.splitlines()[-1]
    assert str(out) in said.err.splitlines()[-1]
    assert out.with_name(beside).exists()
    assert not list(out.parent.glob("*.live.zarr"))
    assert table.meta["pixel_size_nm"] == 100


def test_json_comes_alone_and_says_where_the_camera_facts_are_from(
    good: Verb, model: Path, movie: Path
) -> None:
    out = movie.with_name("o.csv")
    said = good("fit", movie, "-m", model, "-o", out, "--json", "--baseline", 90)
    record = said.json
    assert record["camera"]["baseline_adu"] == 90
    assert record["camera_origin"]["baseline_adu"] == "flag"
    assert record["camera_origin"]["e_per_adu"] == "model card"
    assert record["frames_per_second"] > 0
    assert "baseline 90 ADU (from the flags)" in said.err


def test_results_are_replaced_only_when_told(
    verb: Verb, good: Verb, model: Path, movie: Path
) -> None:
    out = movie.with_name("o.csv")
    good("fit", movie, "-m", model, "-o", out)
    before = out.read_bytes()
    said = verb("fit", movie, "-m", model, "-o", out, "--threshold", 0.6)
    assert said.code == 2
    assert "--overwrite" in said.error
    assert out.read_bytes() == before
    good("fit", movie, "-m", model, "-o", out, "--threshold", 0.6, "--overwrite")
    assert len(out.read_bytes()) < len(before)


def test_folder_of_movies(
    verb: Verb, good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "movies"
    folder.mkdir()
    for name in ("b.tif", "a.tif"):
        shutil.copy(movie, folder / name)
    out = tmp_path / "tables.of.today"
    records = good("fit", folder, "-m", model, "-o", out, "--json").json
    assert [Path(record["out"]).name for record in records] == ["a.hdf5", "b.hdf5"]
    assert all(record["frames"] == 12 for record in records)
    again = verb("fit", folder, "-m", model, "-o", out)
    assert again.code == 2
    assert "a.hdf5 exists already" in again.error
    for name in ("o.csv", "o.parquet", "o.zarr"):
        as_table = verb("fit", folder, "-m", model, "-o", tmp_path / name)
        assert as_table.code == 2
        assert "folder of 2 movies" in as_table.error


def test_damaged_movie_in_a_folder_does_not_stop_the_others(
    verb: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "movies"
    folder.mkdir()
    whole = movie.read_bytes()
    (folder / "a.tif").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "b.tif").write_bytes(whole)
    said = verb("fit", folder, "-m", model, "-o", tmp_path / "out", "--json")
    assert said.code == 1
    assert "1 of 2 movies" in said.error
    damaged, fine = said.json
    assert "damaged" in damaged["failure"]
    assert 0 < damaged["frames"] < 12
    assert len(read_table(damaged["out"])) == damaged["localizations"]
    assert fine["failure"] is None
    assert fine["frames"] == 12


@pytest.mark.skipif(sys.platform == "win32", reason="no such name can be made there")
def test_a_name_too_long_for_a_table_does_not_stop_the_others(
    verb: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "movies"
    folder.mkdir()
    # Just short enough for a file; beside its table lies a store of a longer name.
    for name in ("a" * 246, "b"):
        shutil.copy(movie, folder / f"{name}.tif")
    said = verb("fit", folder, "-m", model, "-o", tmp_path / "out", "--json")
    assert said.code == 1
    assert "cannot be written (File name too long)" in said.error
    assert [record.get("frames") for record in said.json][-1] == 12


def test_movies_of_one_name_get_tables_of_their_own(
    good: Verb, model: Path, movie: Path, frames: Frames, tmp_path: Path
) -> None:
    folder = tmp_path / "movies"
    folder.mkdir()
    shutil.copy(movie, folder / "a.tif")
    np.save(folder / "a.npy", frames[:5])
    records = good("fit", folder, "-m", model, "-o", tmp_path / "out", "--json").json
    assert sorted(record["frames"] for record in records) == [5, 12]
    assert len({record["out"] for record in records}) == 2


def test_one_frame_and_no_localization(
    good: Verb, model: Path, frames: Frames, tmp_path: Path
) -> None:
    path = save_npy(tmp_path, np.full_like(frames[:1], 120))
    out = tmp_path / "o.hdf5"
    record = good(
        "fit", path, "-m", model, "-o", out, "--json", "--threshold", 0.999
    ).json
    assert (record["frames"], record["localizations"]) == (1, 0)
    assert len(read_table(out)) == 0


def noise(folder: Path) -> Path:
    """Two frames in which the untrained network finds emitters everywhere."""
    rng = np.random.default_rng(0)
    return save_npy(folder, rng.integers(0, 65535, (2, 120, 130), np.uint16))


def test_no_frame_has_too_many_detections(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    """The card's 2048 rows would be too few; in tiles they are not."""
    words = ("fit", noise(tmp_path), "-m", model, "--threshold", 0.02, "--json", "-o")
    whole = good(*words, tmp_path / "whole.csv")
    assert whole.json["tables_full"] == 0
    assert "more detections" not in whole.err
    assert whole.json["localizations"] > 2 * 2048
    tiled = good(*words, tmp_path / "tiled.csv", "--tile", "64x64")
    assert tiled.json["localizations"] == whole.json["localizations"]
    tables = (read_table(tmp_path / f"{name}.csv").data for name in ("whole", "tiled"))
    one, other = tables
    # Sorted one by one: some lie on top of each other, and those would change places.
    for name in ("frame", "x_px", "y_px", "photons"):
        np.testing.assert_allclose(
            np.sort(one[name]), np.sort(other[name]), rtol=1e-4, atol=5e-3
        )


def test_full_table_is_said(
    good: Verb, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device runs the file's graph, whose table has 2048 rows."""
    onnxruntime_cpu = pytest.importorskip("blinkloop.runtime.backends.onnxruntime_cpu")
    monkeypatch.setattr(onnxruntime_cpu.OnnxRuntimeCpuBackend, "for_cpu", False)
    words = ("--threshold", 0.02, "--backend", "onnxruntime-cpu", "--json")
    movie = noise(tmp_path)
    said = good("fit", movie, "-m", model, "-o", tmp_path / "o.csv", *words)
    assert said.json["tables_full"] == 2
    assert said.json["localizations"] == 2 * 2048
    assert "2 frames have more detections than the model's table" in said.err


def test_noise_that_the_camera_facts_do_not_explain_is_said(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    camera = read_model(model).card.camera
    rng = np.random.default_rng(0)
    electrons = rng.poisson(30, (12, 40, 50)) + rng.normal(0, 1.5, (12, 40, 50))
    adu = np.rint(electrons / camera.e_per_adu + camera.baseline_adu).astype(np.uint16)
    movie = save_npy(tmp_path, adu)
    # The network of the tests is untrained, and finds emitters everywhere.
    words = ("fit", movie, "-m", model, "--qe", 1, "--threshold", 0.999, "--json", "-o")
    right = good(*words, tmp_path / "right.csv").json
    assert right["data"]["noise_ratio"] == pytest.approx(1, abs=0.1)
    assert not any("noise of the frames" in line for line in right["warnings"])
    five = 5 * camera.e_per_adu
    wrong = good(*words, tmp_path / "wrong.csv", "--e-per-adu", five)
    assert "the noise of the frames is" in wrong.err
    assert not wrong.json["in_training_range"]
