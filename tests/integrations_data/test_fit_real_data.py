"""Real movies through `fit` and `replay`: they pass, and unsuited ones are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from blinkloop.cli import main
from blinkloop.cli._bundled import bundled_models
from blinkloop.integrations.formats import read_table

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
TINY = ROOT / "tests" / "golden" / "tiny_half.onnx"
BUNDLED = "astigmatic-small"
OUTSIDE = "outside the model's training range: "

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"real movies are not at {DATA}"),
]
pytest.importorskip("tifffile", reason="needs the extra `io`")


def blinkloop(*words: object) -> tuple[Any, str]:
    """(JSON, stderr) of a verb that succeeds."""
    result = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout), result.stderr


@pytest.fixture(params=["tiny", "bundled"])
def model(request: pytest.FixtureRequest) -> str:
    """A random network, which shows that the data pass; and the one users have."""
    if request.param == "tiny":
        return str(TINY)
    if BUNDLED not in bundled_models():
        pytest.skip(f"no model {BUNDLED} is bundled with this checkout")
    return BUNDLED


@pytest.fixture
def movie(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The movie of that name; of the 50 large Tetrapod frames the first three."""
    if request.param != "tetrapod":
        return DATA / request.param
    folder = tmp_path / "tetrapod"
    folder.mkdir()
    for number in (1, 2, 3):
        shutil.copy(DATA / "tetrapod_movie" / f"{number}.tif", folder)
    return folder


SIZES = {
    "tetrapod": (3, 332, 492),
    "picasso/testdata.raw": (100, 32, 32),
    "dstorm_5frames.tif": (5, 128, 128),
}
COUNTS = {
    # Per frame, of the bundled model: a few to a few hundred spots are visible.
    "tetrapod": (10, 400),
    "picasso/testdata.raw": (0.5, 10),
    "dstorm_5frames.tif": (5, 600),
}
MOVIES = pytest.mark.parametrize("movie", SIZES, indirect=True, ids=str)


def name_of(movie: Path) -> str:
    return next(name for name in SIZES if movie.match(name))


@MOVIES
def test_fit(movie: Path, model: str, tmp_path: Path) -> None:
    out = tmp_path / "o.hdf5"
    words = ("--pixel-size-nm", 100, "-o", out)
    record, stderr = blinkloop("fit", movie, "-m", model, *words)
    frames, height, width = SIZES[name_of(movie)]
    assert record["frames"] == frames
    rows = read_table(out).data
    assert len(rows) == record["localizations"] > 0
    assert rows["x_px"].min() >= -1
    assert rows["x_px"].max() <= width
    assert rows["y_px"].max() <= height
    assert (rows["photons"] > 0).all()
    assert not record["in_training_range"]
    assert f"warning: {OUTSIDE}" in stderr
    if model == BUNDLED:
        low, high = COUNTS[name_of(movie)]
        assert low * frames <= len(rows) <= high * frames


@MOVIES
def test_replay(movie: Path, model: str, tmp_path: Path) -> None:
    words = ("--pixel-size-nm", 100, "--fps", 100, "-o", tmp_path / "out")
    record, _ = blinkloop("replay", movie, "-m", model, *words)
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert record["frames_seen"] == sum(record[part] for part in parts)
    assert record["frames_seen"] == SIZES[name_of(movie)][0]
    assert record["frames_localized"] > 0
    assert record["localizations"] > 0
    assert any(line.startswith(OUTSIDE) for line in record["warnings"])


@pytest.mark.parametrize("movie", ["tetrapod"], indirect=True)
def test_tetrapod_frames_are_no_data_for_an_astigmatic_model(
    movie: Path, tmp_path: Path
) -> None:
    """Said by the PSF check, also when the camera's offset, 0 here, is told."""
    if BUNDLED not in bundled_models():
        pytest.skip(f"no model {BUNDLED} is bundled with this checkout")
    words = ("--pixel-size-nm", 100, "--baseline", 0, "-o", tmp_path / "o.csv")
    record, stderr = blinkloop("fit", movie, "-m", BUNDLED, *words)
    assert "does not look like the model's PSF" in stderr
    assert not record["in_training_range"]


@pytest.mark.parametrize("movie", ["picasso/testdata.raw"], indirect=True)
def test_picasso_pixel_size_is_told_and_not_used(movie: Path, tmp_path: Path) -> None:
    _, stderr = blinkloop("fit", movie, "-m", TINY, "-o", tmp_path / "o.csv")
    assert "Camera.Pixelsize = 160 nm" in stderr
    assert "--pixel-size-nm 160" in stderr
