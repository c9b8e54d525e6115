"""`fit` killed at any moment and started again gives the table of one fit."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from verb_helpers import Verb, assert_same_table

from blinkloop.integrations.formats import read_table
from blinkloop.runtime.sinks import LiveStoreReader

Frames = npt.NDArray[np.uint16]
SLOW = """
import sys, time
from blinkloop.integrations.movies.blocks import BlockMovie
read = BlockMovie.read
def slow(self, start, stop):
    parts = []
    for i in range(start, stop):
        time.sleep(0.01)
        parts.append(read(self, i, i + 1))
    import numpy
    return numpy.concatenate(parts)
BlockMovie.read = slow
BlockMovie.read_rows = None
from blinkloop.integrations.movies import region, source
source._BLOCK_BYTES = 4096
del BlockMovie.read_rows
from blinkloop.cli import main
main(sys.argv[1:])
"""
"""A child whose disk gives 100 frames a second, so that a kill comes in between."""


@pytest.fixture
def longer(tmp_path: Path, frames: Frames) -> Path:
    """240 frames of 13 x 18 px."""
    path = tmp_path / "movie.npy"
    np.save(path, np.concatenate([frames[:, 3:16, 5:23]] * 20))
    return path


def kill_in_between(store: Path, *words: object) -> None:
    """Run a fit and end it with SIGKILL once some frames are on the disk."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, words)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    written = store / "frames" / "index" / "c"
    deadline = time.monotonic() + 60
    while not (written.is_dir() and any(written.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline, "the fit never wrote"
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.5))
    process.kill()
    assert process.wait() != 0, "the fit was through before the kill"


@pytest.mark.parametrize("name", ["o.csv", "o.zarr"])
def test_killed_fit_goes_on(
    name: str, good: Verb, model: Path, longer: Path, tmp_path: Path
) -> None:
    out = tmp_path / name
    store = out if out.suffix == ".zarr" else tmp_path / f"{name}.live.zarr"
    words = ("fit", longer, "-m", model, "-o", out, "--json")
    kill_in_between(store, *words)
    before = len(LiveStoreReader(store).frames())
    assert 0 < before < 240
    said = good(*words)
    assert f"going on with frame {before - 1}" in said.err
    record = said.json
    assert record["frames"] == 240
    assert record["frames_resumed"] == before - 1
    good("fit", longer, "-m", model, "-o", tmp_path / "whole.zarr")
    whole = LiveStoreReader(tmp_path / "whole.zarr")
    table = read_table(out).data
    if out.suffix == ".zarr":
        assert_same_table(table, whole.rows())
        resumed = LiveStoreReader(out)
        assert resumed.finished
        for column in ("index", "segment", "localizations", "rows_end"):
            np.testing.assert_array_equal(
                resumed.frames()[column], whole.frames()[column]
            )
        assert resumed.gaps() == ()
    else:
        assert not store.exists()
        good("convert", tmp_path / "whole.zarr", tmp_path / "whole.csv")
        assert_same_table(table, read_table(tmp_path / "whole.csv").data)
    assert record["localizations"] == len(table) > 0


def cut_short(store: Path, out: Path, frames: int, *, asked: bool) -> None:
    """Make of a whole store what a kill, or a Ctrl-C, after some frames leaves."""
    from blinkloop.runtime import LiveStore

    part = LiveStore(store, if_exists="resume", resume_at=frames)
    part.open({})
    if asked:
        part.close({})
    else:
        part.flush()
    assert store == out or not out.exists()
    assert len(LiveStoreReader(store).frames()) == frames


@pytest.mark.parametrize("kept", [0, 1, 2, 7, 11])
@pytest.mark.parametrize("asked", [False, True], ids=["killed", "Ctrl-C"])
def test_goes_on_after_any_number_of_frames(
    kept: int, asked: bool, good: Verb, model: Path, movie: Path
) -> None:
    out = movie.with_name("o.zarr")
    words = ("fit", movie, "-m", model, "-o", out, "--json")
    good(*words)
    expected = read_table(out).data
    cut_short(out, out, kept, asked=asked)
    record = good(*words).json
    assert record["frames"] == 12
    assert record["frames_resumed"] == (max(kept - 1, 0) if kept > 1 else 0)
    assert_same_table(read_table(out).data, expected)


def test_last_frame_of_an_interrupted_fit_is_done_again(
    good: Verb, model: Path, movie: Path
) -> None:
    """A run that is asked to end analyses its last frame without the next one."""
    out = movie.with_name("o.zarr")
    words = ("fit", movie, "-m", model, "-o", out)
    good(*words)
    expected = read_table(out).data
    import zarr

    cut_short(out, out, 6, asked=True)
    group = zarr.open_group(str(out), mode="r+")
    photons = group["localizations"]["photons"]
    last = int(LiveStoreReader(out).frames()["rows_end"][4])
    photons[last:] = np.full(photons.shape[0] - last, 1e6, np.float32)
    good(*words)
    assert_same_table(read_table(out).data, expected)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        pytest.param(("--threshold", 0.6), "the threshold", id="threshold"),
        pytest.param(("--baseline", 90), "the camera facts", id="camera"),
        pytest.param(("--frames", "0:11"), "the frames", id="frames"),
        pytest.param(("--roi", "0,0,9,9"), "the region", id="region"),
    ],
)
def test_other_settings_do_not_go_on(
    words: tuple[object, ...],
    what: str,
    verb: Verb,
    good: Verb,
    model: Path,
    movie: Path,
) -> None:
    out = movie.with_name("o.zarr")
    good("fit", movie, "-m", model, "-o", out)
    cut_short(out, out, 6, asked=False)
    said = verb("fit", movie, "-m", model, "-o", out, *words)
    assert said.code == 2
    assert f"differs in {what};" in said.error
    assert "--restart" in said.error
    assert len(LiveStoreReader(out).frames()) == 6
    restarted = good(
        "fit", movie, "-m", model, "-o", out, *words, "--restart", "--json"
    )
    assert restarted.json["frames_resumed"] == 0


def test_other_movie_or_model_does_not_go_on(
    verb: Verb, good: Verb, model: Path, movie: Path
) -> None:
    out = movie.with_name("o.zarr")
    good("fit", movie, "-m", model, "-o", out)
    cut_short(out, out, 6, asked=False)
    said = verb("fit", movie, "-m", model.with_name("tiny_full.onnx"), "-o", out)
    assert "differs in the model;" in said.error
    os.utime(movie, ns=(1, 1))
    said = verb("fit", movie, "-m", model, "-o", out)
    assert said.code == 2
    assert "differs in the movie;" in said.error


def test_whole_store_is_not_gone_on_with(
    verb: Verb, good: Verb, model: Path, movie: Path
) -> None:
    """The table could not be made from it, say: it holds results."""
    out = movie.with_name("o.csv")
    good("fit", movie, "-m", model, "-o", movie.with_name("o.csv.live.zarr"))
    said = verb("fit", movie, "-m", model, "-o", out)
    assert said.code == 2
    assert "blinkloop convert" in said.error


def test_store_killed_at_birth_is_replaced(
    good: Verb, model: Path, movie: Path
) -> None:
    import zarr

    zarr.open_group(str(movie.with_name("o.csv.live.zarr")), mode="w-", zarr_format=3)
    record = good("fit", movie, "-m", model, "-o", movie.with_name("o.csv"), "--json")
    assert record.json["frames"] == 12


def test_folder_goes_on_with_the_movies_that_are_left(
    verb: Verb, good: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "movies", tmp_path / "out"
    folder.mkdir()
    whole = movie.read_bytes()
    for name in ("a.tif", "c.tif"):
        (folder / name).write_bytes(whole)
    (folder / "b.tif").write_bytes(b"II*\0" + bytes(12))
    words = ("fit", folder, "-m", model, "-o", out, "--json")
    said = verb(*words)
    assert said.code == 1
    assert "1 of 3 movies" in said.error
    assert [Path(r["movie"]).name for r in said.json] == ["a.tif", "c.tif"]
    first = (out / "a.hdf5").stat().st_mtime_ns
    (folder / "b.tif").write_bytes(whole)
    again = good(*words)
    assert "a.tif: done before" in again.err
    assert [Path(r["movie"]).name for r in again.json] == ["a.tif", "b.tif", "c.tif"]
    assert (out / "a.hdf5").stat().st_mtime_ns == first
    # Done: from now on the tables are protected as any result is.
    assert not (out / "fit-in-progress.json").exists()
    assert verb(*words).code == 2


def test_folder_with_other_settings_begins_anew(
    verb: Verb, model: Path, movie: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "movies", tmp_path / "out"
    folder.mkdir()
    (folder / "a.tif").write_bytes(movie.read_bytes())
    (folder / "b.tif").write_bytes(b"II*\0" + bytes(12))
    assert verb("fit", folder, "-m", model, "-o", out).code == 1
    assert json.loads((out / "fit-in-progress.json").read_text())["movies"]
    said = verb("fit", folder, "-m", model, "-o", out, "--threshold", 0.6)
    assert said.code == 2
    assert "a.hdf5 exists already" in said.error
