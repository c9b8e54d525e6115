"""`fit` killed at any moment and started again gives the table of one fit."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from verb_helpers import Verb, assert_same_table

from blinkloop.cli import main
from blinkloop.integrations.formats import read_table
from blinkloop.runtime import LiveStore
from blinkloop.runtime.records import FrameResult
from blinkloop.runtime.sinks import LiveStoreReader

Frames = npt.NDArray[np.uint16]
SLOW = """
import sys, time
from blinkloop.integrations.movies.source import MovieSource
quick = MovieSource.frames
def slow(self):
    for frame in quick(self):
        time.sleep(0.02 if frame.index < 200 else 3600)
        yield frame
MovieSource.frames = slow
from blinkloop.cli import main
main(sys.argv[1:])
"""
"""A child whose disk gives 50 frames a second, and then no more, so that a kill comes
in between however late it is."""


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
    deadline = time.monotonic() + 240
    try:
        while not (written.is_dir() and any(written.iterdir())):
            assert process.poll() is None
            assert time.monotonic() < deadline, "the fit never wrote"
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0, "the fit was through before the kill"


@pytest.mark.parametrize("name", ["o.csv", "o.zarr"])
def test_killed_fit_goes_on(
    name: str, good: Verb, model: Path, longer: Path, tmp_path: Path
) -> None:
    out = tmp_path / name
    store = out if out.suffix == ".zarr" else tmp_path / f"{name}.live.zarr"
    words = ("fit", longer, "-m", model, "-o", out, "--json", "--batch", 16)
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


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, frames: Frames, model: Path
) -> Path:
    """`movie.npy` and the whole result of its fit beside it, `whole.zarr`."""
    folder = tmp_path_factory.mktemp("whole")
    np.save(folder / "movie.npy", frames)
    out = folder / "whole.zarr"
    words = ["fit", str(folder / "movie.npy"), "-m", str(model), "-o", str(out)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.stderr
    return out


Cut = Callable[..., tuple[Any, ...]]


@pytest.fixture
def cut(whole: Path, model: Path, tmp_path: Path) -> Cut:
    """Words of the fit, after a kill or a Ctrl-C that left so many frames."""

    def make(kept: int, *, asked: bool = False) -> tuple[Any, ...]:
        out = tmp_path / "o.zarr"
        shutil.copytree(whole, out)
        store = LiveStore(out, if_exists="resume", resume_at=kept)
        store.open({})
        if asked:
            store.close({})
        else:
            store.flush()
        assert len(LiveStoreReader(out).frames()) == kept
        return "fit", whole.with_name("movie.npy"), "-m", model, "-o", out

    return make


@pytest.mark.parametrize(
    ("kept", "asked"), [(0, False), (1, False), (2, True), (7, False), (11, True)]
)
def test_goes_on_after_any_number_of_frames(
    kept: int, asked: bool, cut: Cut, good: Verb, whole: Path
) -> None:
    words = cut(kept, asked=asked)
    record = good(*words, "--json").json
    assert record["frames"] == 12
    assert record["frames_resumed"] == (kept - 1 if kept > 1 else 0)
    assert_same_table(read_table(words[-1]).data, read_table(whole).data)


def test_last_frame_of_an_interrupted_fit_is_done_again(
    cut: Cut, good: Verb, whole: Path
) -> None:
    """A run that is asked to end analyses its last frame without the next one."""
    zarr = pytest.importorskip("zarr")
    words = cut(6, asked=True)
    photons = zarr.open_group(str(words[-1]), mode="r+")["localizations"]["photons"]
    last = int(LiveStoreReader(words[-1]).frames()["rows_end"][4])
    photons[last:] = np.full(photons.shape[0] - last, 1e6, np.float32)
    good(*words)
    assert_same_table(read_table(words[-1]).data, read_table(whole).data)


def test_other_settings_do_not_go_on(
    cut: Cut, verb: Verb, good: Verb, model: Path
) -> None:
    words = cut(6)
    for other, what in (
        (("--threshold", 0.6), "the threshold"),
        (("--baseline", 90), "the camera facts"),
        (("--frames", "0:11"), "the frames"),
        (("--roi", "0,0,9,9"), "the region"),
        (("-m", model.with_name("tiny_full.onnx")), "the model"),
    ):
        said = verb(*words, *other)
        assert said.code == 2
        assert f"differs in {what};" in said.error
        assert "--restart" in said.error
    assert len(LiveStoreReader(words[-1]).frames()) == 6
    restarted = good(*words, "--threshold", 0.6, "--restart", "--json").json
    assert (restarted["frames"], restarted["frames_resumed"]) == (12, 0)


def test_changed_movie_does_not_go_on(cut: Cut, verb: Verb) -> None:
    words = cut(6)
    before = words[1].stat()
    os.utime(words[1], ns=(1, 1))
    try:
        said = verb(*words)
    finally:
        os.utime(words[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert said.code == 2
    assert "differs in the movie;" in said.error


def test_whole_store_without_a_table_becomes_one(
    verb: Verb, good: Verb, whole: Path, model: Path, tmp_path: Path
) -> None:
    """The disk had no room for the table: the store holds results."""
    store, out = tmp_path / "o.csv.live.zarr", tmp_path / "o.csv"
    shutil.copytree(whole, store)
    words = ("fit", whole.with_name("movie.npy"), "-m", model, "-o", out)
    said = verb(*words, "--threshold", 0.6)
    assert said.code == 2
    assert "blinkloop convert" in said.error
    record = good(*words, "--json").json
    assert (record["frames"], record["frames_resumed"]) == (12, 11)
    assert not store.exists()
    good("convert", whole, tmp_path / "whole.csv")
    expected = read_table(tmp_path / "whole.csv").data
    assert_same_table(read_table(out).data, expected)


def test_results_among_the_pictures_are_no_part_of_the_movie(
    good: Verb, model: Path, frames: Frames, tmp_path: Path
) -> None:
    tifffile = pytest.importorskip("tifffile")
    for number, frame in enumerate(frames):
        tifffile.imwrite(tmp_path / f"{number}.tif", frame)
    words = ("fit", tmp_path, "-m", model, "-o", tmp_path / "o.zarr")
    assert "was changed" not in good(*words).err
    store = LiveStore(tmp_path / "o.zarr", if_exists="resume", resume_at=6)
    store.open({})
    store.flush()
    assert "going on with frame 5" in good(*words).err


def test_a_movie_that_grows_meanwhile_is_told(
    good: Verb,
    model: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    movie = tmp_path / "movie.npy"
    shutil.copy(whole.with_name("movie.npy"), movie)
    words = ("fit", movie, "-m", model, "--json", "-o")
    assert not any(
        "was changed" in w for w in good(*words, tmp_path / "a.csv").json["warnings"]
    )
    appended = LiveStore.write

    def grow(store: LiveStore, results: Sequence[FrameResult]) -> None:
        appended(store, results)
        with movie.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(LiveStore, "write", grow)
    said = good(*words, tmp_path / "b.csv").json["warnings"]
    assert any("frames beyond 11 are missing" in line for line in said)


@pytest.mark.parametrize(
    ("out", "there", "says"),
    [
        ("movie.hdf5", "movie.raw", "movie.yaml describes the movie movie.raw"),
        ("recipe.hdf5", "recipe.yaml", "recipe.yaml exists already"),
        ("o.csv", "o.csv.json", r"o.csv.json exists already"),
    ],
)
def test_files_beside_the_table_are_looked_at_before_the_work(
    out: str,
    there: str,
    says: str,
    verb: Verb,
    whole: Path,
    model: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / there).write_text("mine")
    said = verb("fit", whole.with_name("movie.npy"), "-m", model, "-o", tmp_path / out)
    assert said.code == 2
    assert says in said.error
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "mine"


def test_a_disk_that_is_full_twice_says_what_is_missing(
    verb: Verb,
    whole: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First the store cannot be written, then the table."""
    appended = LiveStore.write

    def full(store: LiveStore, results: Sequence[FrameResult]) -> None:
        fits = [result for result in results if result.index < 7]
        appended(store, fits)
        if len(fits) < len(results):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(LiveStore, "write", full)
    monkeypatch.setattr(
        "blinkloop.integrations.formats.thunderstorm.np.savetxt",
        lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No room for the table")),
    )
    out = tmp_path / "o.csv"
    said = verb("fit", whole.with_name("movie.npy"), "-m", model, "-o", out)
    assert said.code == 2
    assert "No space left on device" in said.error
    assert "No room for the table" in said.error
    assert "safe in" in said.error
    monkeypatch.undo()
    record = verb("fit", whole.with_name("movie.npy"), "-m", model, "-o", out, "--json")
    assert (record.json["frames"], record.json["frames_resumed"]) == (12, 6)


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
