"""`fit` of some frames, a region or tiles equals the whole movie's result there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from verb_helpers import Verb, assert_same_table

from blinkloop.cli import main
from blinkloop.cli._fit_progress import progress_line
from blinkloop.integrations.formats import read_table
from blinkloop.runtime import PipelineStatus

Rows = npt.NDArray[np.void]
Fit = Callable[..., tuple[dict[str, Any], Rows, str]]


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 frames of 150 x 20 px."""
    rng = np.random.default_rng(5)
    pixels = rng.poisson(40, (5, 20, 150)) + 100
    for frame in pixels:
        frame[rng.integers(0, 20, 40), rng.integers(0, 150, 40)] += 1500
    path = tmp_path_factory.mktemp("wide") / "wide.npy"
    np.save(path, pixels.astype(np.uint16))
    return path


@pytest.fixture(scope="module")
def whole(wide: Path, model: Path) -> Rows:
    """The table of the whole movie."""
    out = wide.with_name("whole.zarr")
    words = ["fit", str(wide), "-m", str(model), "-o", str(out)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    assert "tiles" not in result.stderr
    return read_table(out).data


@pytest.fixture
def fit(good: Verb, model: Path, wide: Path, tmp_path: Path) -> Fit:
    """Fits the movie with more words; the JSON, the table and what was said."""

    def run(*words: object) -> tuple[dict[str, Any], Rows, str]:
        out = tmp_path / "o.zarr"
        said = good("fit", wide, "-m", model, "-o", out, "--json", *words)
        return said.json, read_table(out).data, said.err

    return run


@pytest.mark.parametrize(
    ("words", "start", "stop"), [("1:3", 1, 3), (":1", 0, 1), ("4:99", 4, 5)]
)
def test_frames(fit: Fit, whole: Rows, words: str, start: int, stop: int) -> None:
    """Their neighbours are their context, as in the whole movie."""
    record, rows, _ = fit("--frames", words)
    assert record["frames"] == stop - start
    expected = whole[(whole["frame"] >= start) & (whole["frame"] < stop)]
    assert record["localizations"] == len(rows) == len(expected) > 0
    assert_same_table(rows, expected)


def test_region(fit: Fit, whole: Rows) -> None:
    record, rows, _ = fit("--roi", "90,3,21,9")
    x, y = whole["x_px"], whole["y_px"]
    inside = (x >= 89.5) & (x < 110.5) & (y >= 2.5) & (y < 11.5)
    assert record["tiles"] == 1
    assert record["localizations"] == len(rows) > 0
    assert_same_table(rows, whole[inside])


def test_tiles(fit: Fit, whole: Rows) -> None:
    record, rows, _ = fit("--tile", "16x80")
    assert record["tiles"] == 2 * 2
    assert_same_table(rows, whole)


def test_memory_makes_tiles(fit: Fit, whole: Rows) -> None:
    """Too little for anything: tiles that still make sense, and it is said."""
    record, rows, said = fit("--memory", 0.5)
    assert record["tiles"] > 1
    assert f"in {record['tiles']} tiles to stay below 0.5 MB" in said
    assert_same_table(rows, whole)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--frames", "7:9"), "the movie has frames 0 to 4"),
        (("--frames", "3:3"), "holds no frame"),
        (("--frames", "all"), "START:STOP"),
        (("--roi", "1,2,3"), "X,Y,WIDTH,HEIGHT"),
        (("--roi", "140,0,20,20"), "not inside the frames"),
        (("--tile", "big"), "HEIGHTxWIDTH"),
        (("--tile", "0x9"), "at least 1 x 1 px"),
    ],
)
def test_parts_that_cannot_be(
    words: tuple[str, str], match: str, verb: Verb, model: Path, wide: Path
) -> None:
    said = verb("fit", wide, "-m", model, "-o", wide.with_name("o.csv"), *words)
    assert said.code == 2
    assert match in said.error
    assert not list(wide.parent.glob("o.csv*"))


@pytest.mark.parametrize(
    ("frames", "seconds", "before", "expected"),
    [
        (50, 10.0, 0, "50/200 frames  5 frames/s  9 localizations  30 s left"),
        (50, 1.0, 100, "150/200 frames  50 frames/s  9 localizations  1 s left"),
        (1, 40.0, 0, "1/200 frames  0.025 frames/s  9 localizations  2:12:40 left"),
        (0, 0.0, 7, "7/200 frames  0 frames/s  9 localizations"),
        (202, 2.0, 0, "200/200 frames  101 frames/s  9 localizations  0 s left"),
    ],
)
def test_progress_line(frames: int, seconds: float, before: int, expected: str) -> None:
    status = PipelineStatus(
        "running", frames_localized=frames, localizations=9, elapsed_s=seconds
    )
    line = progress_line(status, 200, before)
    assert line == expected
