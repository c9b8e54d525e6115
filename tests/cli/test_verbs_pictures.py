"""`render` and `frc`, through the frame of the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from blinkloop.cli import main
from blinkloop.integrations.formats import write_table
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

pytest.importorskip("h5py", reason="Picasso tables are HDF5")
imread = pytest.importorskip("matplotlib.image").imread


def invoke(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Points in a field of 20 x 13 px of 110 nm, found in every one of 40 frames."""
    rng = np.random.default_rng(0)
    rows = np.zeros(60 * 40, LOCALIZATION_DTYPE)
    rows["frame"] = np.tile(np.arange(40), 60)
    for axis, length in (("x_px", 20), ("y_px", 13)):
        places = np.repeat(rng.uniform(0, length - 1, 60), 40)
        rows[axis] = places + rng.normal(0, 0.1, places.size)
    rows["x_sigma_px"] = rows["y_sigma_px"] = 0.1
    rows["photons"] = 1000
    meta = {"pixel_size_nm": 110.0, "width_px": 20, "height_px": 13, "frames": 40}
    return write_table(LocalizationTable(rows, meta), tmp_path / "a.hdf5")[0]


@pytest.mark.parametrize("method", ["gaussian", "histogram"])
def test_render(table: Path, method: str) -> None:
    out = table.with_name("a.png")
    done = invoke(
        *("render", table, "-o", out, "--pixel-nm", 20, "--method", method, "--json")
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["width"], record["height"]) == (110, 72)  # 2200 x 1430 nm
    assert record["localizations"] == 2400
    assert record["localizations_drawn"] == pytest.approx(2400, abs=5)
    picture = imread(out)
    assert picture.shape[:2] == (72, 110)
    assert picture.max() == 1.0
    assert picture.min() == 0.0


@pytest.mark.parametrize(("most", "pixel_nm"), [(10**6, 10), (10**4, 20), (10, 110)])
def test_pixel_of_a_large_field(
    table: Path, monkeypatch: pytest.MonkeyPatch, most: int, pixel_nm: float
) -> None:
    monkeypatch.setattr("blinkloop.render._USUAL_PIXELS", most)
    done = invoke("render", table, "-o", table.with_name("a.png"), "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["pixel_nm"] == pixel_nm


def test_render_some_frames_and_a_given_blur(table: Path) -> None:
    out = table.with_name("a.png")
    done = invoke(
        *("render", table, "-o", out, "--frames", "10:20", "--blur-nm", 30, "--json")
    )
    assert json.loads(done.stdout)["localizations"] == 600
    again = invoke("render", table, "-o", out)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    assert invoke("render", table, "-o", out, "--overwrite").exit_code == 0


def test_depth_is_a_colour(tmp_path: Path) -> None:
    rows = np.zeros(300, LOCALIZATION_DTYPE)
    rows["x_px"], rows["y_px"] = np.repeat([2, 5, 8], 100), 3
    rows["z_nm"] = np.repeat([-300, 0, 300], 100)
    rows["z_sigma_nm"] = 10
    meta = {"pixel_size_nm": 100.0, "width_px": 11, "height_px": 7, "frames": 1}
    meta["three_dimensional"] = True
    table = write_table(LocalizationTable(rows, meta), tmp_path / "a.hdf5")[0]
    out = tmp_path / "a.png"
    done = invoke(
        *("render", table, "-o", out, "--by-z", "--pixel-nm", 100, "--json"),
        *("--method", "histogram"),
    )
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["z_blue_nm"], record["z_red_nm"]) == (-300, 300)
    red, green, blue = (imread(out)[3, [2, 5, 8], channel] for channel in range(3))
    assert blue.argmax() == 0
    assert green.argmax() == 1
    assert red.argmax() == 2
    assert imread(out)[0, :, :3].max() == 0
    rows["z_nm"] = 0
    write_table(LocalizationTable(rows, meta), table, True)
    flat = invoke("render", table, "-o", out, "--by-z", "--overwrite")
    assert flat.exit_code == 2
    assert "no depth" in flat.stderr


def test_frc(table: Path) -> None:
    curve = table.with_name("a.csv")
    done = invoke("frc", table, "--json", "-o", curve)
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    # 20 localizations of SD 11 nm per half and point: 2 pi 11 / sqrt(ln 121).
    assert record["resolution_nm"] == pytest.approx(31.6, rel=0.1)
    assert record["frames_per_block"] == 2
    numbers = np.loadtxt(curve, delimiter=",", skiprows=1)
    assert numbers.shape[1] == 2
    assert curve.read_text().startswith("frequency [1/nm],correlation\n")
    shown = invoke("frc", table)
    assert "resolution, nm" in shown.stdout


def test_a_pixel_too_coarse_is_said(table: Path) -> None:
    done = invoke("frc", table, "--pixel-nm", 12)
    assert "take a smaller --pixel-nm" in done.stderr


def test_frc_without_structure_is_a_check_that_failed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = np.zeros(5000, LOCALIZATION_DTYPE)
    rows["x_px"], rows["y_px"] = rng.uniform(0, 40, (2, 5000))
    rows["frame"] = np.sort(rng.integers(0, 500, 5000))
    table = write_table(
        LocalizationTable(rows, {"pixel_size_nm": 100.0}), tmp_path / "a.hdf5"
    )[0]
    done = invoke("frc", table)
    assert done.exit_code == 1
    assert "do not agree on any structure" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["render", "none.hdf5", "-o", "a.png"], "no such table"),
        (["render", "a.hdf5", "-o", "a.tif"], "written as .png"),
        (["render", "a.hdf5", "-o", "no/a.png"], "does not exist"),
        (["render", "a.hdf5", "-o", "a.png", "--frames", "40:"], "no localization in"),
        (["render", "a.hdf5", "-o", "a.png", "--frames", "5"], "START:STOP"),
        (["render", "a.hdf5", "-o", "a.png", "--pixel-nm", "0.01"], "too many"),
        (["render", "a.hdf5", "-o", "a.png", "--pixel-nm", "nan"], "finite"),
        (
            [
                "render",
                "a.hdf5",
                "-o",
                "a.png",
                "--method",
                "histogram",
                "--blur-nm",
                "9",
            ],
            "leave one",
        ),
        (["frc", "a.hdf5", "-o", "a.txt"], "written as .csv"),
        (["frc", "a.hdf5", "--block", "21"], "two halves"),
        (["frc", "a.hdf5", "--frames", "0:1"], "too few"),
    ],
)
def test_bad_usage(
    words: list[str], says: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table.parent)
    before = sorted(table.parent.iterdir())
    done = invoke(*words)
    assert done.exit_code == 2, done.output
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 or "Usage" in done.stderr
    assert sorted(table.parent.iterdir()) == before
