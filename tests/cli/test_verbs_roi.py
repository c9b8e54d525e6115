"""`--roi` of live verbs: a part is analysed, everything else is as ever."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_verbs_live import check_record
from verb_helpers import Verb, assert_same_table

from blinkloop.cli._roi import smaller_part
from blinkloop.cli._run_warnings import run_warnings
from blinkloop.cli._truth import true_density, within
from blinkloop.integrations.formats import read_table
from blinkloop.runtime import EndedBy, Roi, RunReport
from blinkloop.runtime.sinks import LiveStoreReader
from blinkloop.schema import EMITTER_DTYPE

SEEN = [4, 4, 20, 12]
"""Of the 34 x 21 px of the movie, in place of 3,5,18,10: the grid is one of 4 px."""


def moved(rows: npt.NDArray[Any], x: int, y: int) -> npt.NDArray[Any]:
    rows = rows.copy()
    rows["x_px"] += x
    rows["y_px"] += y
    return rows


@pytest.fixture
def part_of_movie(tmp_path: Path, frames: npt.NDArray[np.uint16]) -> Path:
    """What --roi leaves of the movie, as a movie."""
    x, y, width, height = SEEN
    path = tmp_path / "part.npy"
    np.save(path, frames[:, y : y + height, x : x + width])
    return path


def test_replay_of_a_part(
    good: Verb, model: Path, movie: Path, part_of_movie: Path, tmp_path: Path
) -> None:
    """As a replay of the cut movie, in the coordinates of the whole one."""
    good("replay", part_of_movie, "-m", model, "--fps", 60, "-o", tmp_path / "cut")
    out = tmp_path / "out"
    words = ("--fps", 60, "-o", out, "--roi", "3,5,18,10", "--json")
    said = good("replay", movie, "-m", model, *words)
    record = said.json
    check_record(record)
    assert record["frames_localized"] == 12
    assert "20 x 12 px from (4, 4) (--roi 3,5,18,10, on the network's" in said.err
    assert "of 34 x 21 px" in said.err
    expected = read_table(tmp_path / "cut" / "localizations.zarr").data
    assert len(expected) > 0
    for name in ("localizations.zarr", "localizations.hdf5"):
        table = read_table(out / name)
        assert table.meta["roi_px"] == table.meta["analysed_roi_px"] == SEEN
        assert table.meta["camera_roi_px"] == [0, 0, 34, 21]
        if name.endswith(".zarr"):
            assert_same_table(table.data, moved(expected, 4, 4))
    report = json.loads((out / "report.json").read_text())
    assert report["analysed_roi_px"] == record["analysed_roi_px"] == SEEN
    # The density is that of the part alone.
    whole = good("replay", part_of_movie, "-m", model, *words[:2], "-o", out / "2")
    assert whole.code == 0
    again = json.loads((out / "2" / "report.json").read_text())
    density = record["density_achieved_per_um2"]
    assert density == pytest.approx(again["density_achieved_per_um2"], rel=1e-3)


def test_the_middle_and_the_whole(
    good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    words = ("replay", movie, "-m", model, "--fps", 100)
    said = good(*words, "-o", tmp_path / "a", "--roi", "center:13x20")
    assert "20 x 16 px from (8, 4) (--roi center:13x20, on the" in said.err
    assert "analysed part, px" in said.out
    assert "20 x 16 from (8, 4)" in said.out
    said = good(*words, "-o", tmp_path / "b", "--roi", "0,0,34,21", "--json")
    assert "only a part" not in said.err
    assert "analysed_roi_px" not in said.json


def test_truth_outside_of_the_part_does_not_count(
    good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    emitters = np.zeros(4, EMITTER_DTYPE)
    emitters["frame"] = (0, 1, 2, 2)
    emitters["x_px"] = (3, 5, 23, 25)
    emitters["y_px"] = (10, 10, 15, 10)
    emitters["photons"] = 1000
    np.savez(tmp_path / "truth.npz", emitters=emitters)
    words = ("--fps", 60, "-o", tmp_path / "out", "--roi", "4,4,20,12", "--json")
    words = (*words, "--truth", tmp_path / "truth.npz")
    assert good("replay", movie, "-m", model, *words).json["n_truth"] == 2


@pytest.mark.parametrize(
    ("words", "match"),
    [
        pytest.param(("4,2,20",), "give X,Y,WIDTH,HEIGHT in whole px", id="three"),
        pytest.param(("middle",), "or center:HEIGHTxWIDTH", id="words"),
        pytest.param(("4,2,-20,5",), "give X,Y,WIDTH,HEIGHT", id="negative"),
        pytest.param(("4,2,20,0",), "'4,2,20,0' has no pixel", id="no height"),
        pytest.param(("center:0x9",), "'center:0x9' has no pixel", id="no middle"),
        pytest.param(
            ("20,2,20,16",),
            r"--roi 20,2,20,16: the region of 20 x 16 px .*from \(20, 2\) is not "
            r"inside the image, which is 34 x 21 px",
            id="leaves the image",
        ),
        pytest.param(("center:22x20",), "--roi center:22x20: .*not inside", id="tall"),
        pytest.param(
            ("4,2,5,5",), "5 x 5 px .*too small.*needs 8 x 8 px; give a larger", id="5"
        ),
        pytest.param(
            ("4,4,16,16", "--region", "24,2,5,5"),
            r"--region 24,2,5,5 lies outside the image.*16 x 16 px at \(4, 4\)",
            id="density elsewhere",
        ),
    ],
)
def test_refused(
    words: tuple[str, ...],
    match: str,
    verb: Verb,
    model: Path,
    movie: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    said = verb("replay", movie, "-m", model, "--fps", 60, "-o", out, "--roi", *words)
    assert said.code == 2
    assert re.search(match, said.error), said.error
    assert not out.exists()


DEMO = (
    *("--pixel-size-nm", 100, "--exposure-ms", 2, "--threshold", 0.3),
    *("--set", "Camera.PixelType=16bit"),
    *("--set", "Camera.OnCameraCCDXSize=33", "--set", "Camera.OnCameraCCDYSize=21"),
)


@pytest.fixture
def _core() -> None:
    pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
    pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")
    pytest.importorskip("yaozarrs", reason="needs the extra `raw`")


@pytest.mark.usefixtures("_core")
def test_run_keeps_whole_frames_and_every_skipped_one_of_the_part(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    """What has no result in the end is fitted later, in that part only."""
    from blinkloop.integrations.movies import RawMovie, RegionMovie
    from blinkloop.integrations.movies.source import MovieSource
    from blinkloop.runtime import StreamLocalizer, localize_movie, read_model
    from blinkloop.runtime.raw import RawStoreReader

    out = tmp_path / "out"
    words = ("--frames", 60, "--raw", out / "raw.ome.zarr", "-o", out, "--json")
    said = good("run", "-m", model, *DEMO, "--roi", "8,4,16,12", *words)
    check_record(said.json)
    assert said.json["raw"]["frames"] == 60
    assert "localize them: blinkloop fit" in said.err
    assert said.json["files"]["raw"] in said.err
    kept = RawStoreReader(out / "raw.ome.zarr")
    assert kept.image.shape[1:] == (21, 33)
    assert kept.meta["roi_px"] == kept.meta["camera_roi_px"] == [0, 0, 33, 21]
    assert kept.meta["analysed_roi_px"] == [8, 4, 16, 12]
    # The run loses its last results, and goes on with its part.
    store = out / "localizations.zarr"
    cut_short(store, 40)
    again = good("fit", "--resume", out, "--json").json
    assert again["frames_localized"] == 60
    assert again["frames_caught_up"] >= 20
    whole = LiveStoreReader(store)
    assert whole.meta["analysed_roi_px"] == [8, 4, 16, 12]
    part = RegionMovie(RawMovie(out / "raw.ome.zarr"), Roi(8, 4, 16, 12))
    network = StreamLocalizer(read_model(model), threads=1, threshold=0.3)
    expected = [
        r.localizations for r in localize_movie(MovieSource(part).frames(), network)
    ]
    assert_same_table(whole.rows(), np.concatenate(expected))
    assert len(whole) > 0
    # A fit of the raw data sees the whole field of every frame.
    fit = ("-m", model, "--threshold", 0.3, "-o", tmp_path / "whole.zarr", "--json")
    done = good("fit", out / "raw.ome.zarr", *fit).json
    assert done["frames"] == 60
    assert done["frames_resumed"] == 0
    field = read_table(tmp_path / "whole.zarr")
    assert field.meta["roi_px"] == [0, 0, 33, 21]
    assert "analysed_roi_px" not in field.meta
    assert field.data["x_px"].max() > 24


def cut_short(store: Path, frames: int) -> None:
    """Leave a store with its first frames only."""
    from blinkloop.runtime import LiveStore

    whole = LiveStoreReader(store)
    assert len(whole.frames()) > frames
    cut = LiveStore(store, if_exists="resume", resume_at=frames)
    cut.open(whole.meta)
    cut.close({})


@pytest.mark.usefixtures("_core")
def test_demo_is_compared_with_the_truth_of_its_part(
    good: Verb, bundled: str, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra `demo`")
    out = tmp_path / "out"
    words = ("--seconds", 3, "--exposure-ms", 100, "-o", out, "--start", "right")
    words = (*words, "--roi", "60,8,40,48", "-m", bundled, "--json")
    record = good("demo", *words).json
    check_record(record)
    assert record["analysed_roi_px"] == [60 - 60 % 8 + 8 * (60 % 8 >= 4), 8, 40, 48]
    assert record["jaccard"] > 0.6
    truth = np.load(out / "truth.npz")
    frames, emitters = truth["frames"], truth["emitters"]
    x, y, width, height = record["analysed_roi_px"]
    inside = (emitters["x_px"] >= x - 0.5) & (emitters["x_px"] <= x + width - 0.5)
    inside &= (emitters["y_px"] >= y - 0.5) & (emitters["y_px"] <= y + height - 0.5)
    last = frames["frame"][-1]
    seen = LiveStoreReader(out / "localizations.zarr").frames()["index"][-1] * 2 // 3
    count = np.count_nonzero(inside & (emitters["frame"] >= seen))
    um2 = width * height * (0.001 * read_pixel(record)) ** 2
    density = count / (last + 1 - seen) / um2
    assert record["density_true_per_um2"] == pytest.approx(density)


def read_pixel(record: dict[str, Any]) -> float:
    return float(record["camera"]["pixel_size_nm"])


@given(st.integers(1, 4000), st.integers(1, 4000), st.floats(0, 1))
def test_the_part_that_is_advised_can_be_followed(
    width: int, height: int, share: float
) -> None:
    advice = smaller_part(width, height, share)
    if advice is None:
        return
    match = re.fullmatch(r"center:(\d+)x(\d+)", advice)
    assert match is not None
    rows, columns = int(match[1]), int(match[2])
    assert 32 <= rows <= height
    assert 32 <= columns <= width
    assert rows * columns <= share * width * height


@pytest.mark.parametrize(
    ("skipped", "roi", "match"),
    [
        pytest.param(
            83, Roi(0, 0, 512, 512), r"--roi center:176x176 should do", id="512"
        ),
        pytest.param(83, Roi(0, 0, 512, 256), r"--roi center:80x176 ", id="not square"),
        pytest.param(99, Roi(0, 0, 128, 128), "; use a longer exposure", id="no"),
        pytest.param(50, None, "; use a longer exposure", id="size not known"),
    ],
)
def test_skipped_frames_advise_a_part(
    skipped: int, roi: Roi | None, match: str
) -> None:
    report = RunReport(
        frames_seen=100,
        frames_localized=100 - skipped,
        frames_skipped=skipped,
        frames_lost=0,
        localizations=0,
        tables_full=0,
        latency_ms={},
        elapsed_s=1.0,
        ended_by=EndedBy.STOP,
    )
    (line,) = run_warnings(report, roi)
    assert re.search(match, line), line
    assert ("--roi" in line) == ("roi" in match)


def test_true_density_counts_what_shines_within() -> None:
    emitters = np.zeros(5, EMITTER_DTYPE)
    emitters["frame"] = (2, 2, 4, 4, 4)
    emitters["x_px"] = (9.5, 9.4, 19.5, 19.6, 12)
    emitters["y_px"] = (4.5, 5, 9.5, 9, 4.4)
    frames = np.zeros(3, [("frame", "<i8")])
    frames["frame"] = (2, 3, 4)
    field = Roi(10, 5, 10, 5)
    assert within(emitters, field).tolist() == [True, False, True, False, False]
    density = true_density(emitters, frames, field, 200.0)
    np.testing.assert_allclose(density, [0.5, 0, 0.5])
