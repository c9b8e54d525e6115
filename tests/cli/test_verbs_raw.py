"""`run --raw`, `--policy every`, `fit --resume`: no frame that came is left out."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_verbs_live import check_record, laser_rows
from verb_helpers import Said, Verb, assert_same_table

from blinkloop.integrations.formats import read_table
from blinkloop.integrations.micromanager import MicroManagerSource
from blinkloop.runtime import LiveStore, Pipeline, StreamLocalizer
from blinkloop.runtime.raw import RawStoreReader
from blinkloop.runtime.records import Frame
from blinkloop.runtime.run_settings import PipelineState
from blinkloop.runtime.sinks import LiveStoreReader

pytest.importorskip("yaozarrs", reason="needs the extra `raw`")
pytest.importorskip("pymmcore_plus", reason="needs the extra `micromanager`")
pytest.importorskip("mm_test_adapters", reason="needs mm-test-adapters")

DEMO = (
    *("--pixel-size-nm", 100, "--exposure-ms", 2, "--threshold", 0.6),
    *("--set", "Camera.PixelType=16bit"),
    *("--set", "Camera.OnCameraCCDXSize=33", "--set", "Camera.OnCameraCCDYSize=21"),
)
"""The C++ DemoCamera of the real core, some 400 frames/s of 33 x 21 px."""


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is too slow for any camera, and little room to wait.

    Its first call lasts until the camera has given all its frames, on any machine.
    """
    push, frames_of = StreamLocalizer.push, MicroManagerSource.frames
    given = threading.Event()

    def slowly(self: StreamLocalizer, frames: Any) -> Any:
        assert given.wait(240)
        time.sleep(0.02)
        return push(self, frames)

    def until_all_are_given(self: MicroManagerSource) -> Iterator[Frame]:
        try:
            yield from frames_of(self)
        finally:
            given.set()

    monkeypatch.setattr(StreamLocalizer, "push", slowly)
    monkeypatch.setattr(MicroManagerSource, "frames", until_all_are_given)
    monkeypatch.setattr("blinkloop.cli._live._RING_S", 0.04)


def fit_of_raw(good: Verb, model: Path, run: Path, out: Path) -> LiveStoreReader:
    words = ("-m", model, "--threshold", 0.6, "-o", out)
    good("fit", run / "raw.ome.zarr", *words)
    return LiveStoreReader(out)


def check_whole(folder: Path, whole: LiveStoreReader) -> None:
    """The run's table is that of one fit of its raw data."""
    done = LiveStoreReader(folder / "localizations.zarr")
    assert done.finished
    for column in ("index", "localizations", "rows_end", "segment"):
        np.testing.assert_array_equal(done.frames()[column], whole.frames()[column])
    np.testing.assert_allclose(
        done.frames()["timestamp_s"], whole.frames()["timestamp_s"]
    )
    assert_same_table(done.rows(), whole.rows())
    assert len(done.rows()) > 0
    assert len(read_table(folder / "localizations.hdf5")) == len(done)
    left = {path.name for path in folder.glob("*.zarr")}
    assert left == {"localizations.zarr", "raw.ome.zarr"}


@pytest.mark.usefixtures("slow")
def test_every_frame_is_fitted_after_the_run(
    good: Verb, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = ("--frames", 200, "--policy", "every", "-o", out, "--json")
    record = good("run", "-m", model, *DEMO, *words).json
    check_record(record)
    assert record["frames_seen"] == record["frames_localized"] == 200
    assert record["frames_skipped"] == record["frames_lost"] == 0
    assert record["frames_caught_up"] > 60
    assert record["raw"]["frames"] == 200
    assert record["frames_missing"] == {
        "core": 0,
        "handover": 0,
        "analysis": 0,
        "writer": 0,
        "raw": 0,
    }
    monkeypatch.undo()
    check_whole(out, fit_of_raw(good, model, out, tmp_path / "whole.zarr"))


@pytest.mark.usefixtures("slow")
def test_latest_counts_what_it_skips_and_keeps_it_raw(
    good: Verb, model: Path, tmp_path: Path
) -> None:
    """And `fit --resume` fits it later; a second time there is nothing left to do."""
    out, raw = tmp_path / "out", tmp_path / "elsewhere" / "kept.ome.zarr"
    words = ("--frames", 200, "--raw", raw, "-o", out, "--json")
    record = good("run", "-m", model, *DEMO, *words).json
    check_record(record)
    assert record["frames_skipped"] > 50
    assert record["files"]["raw"] == str(raw)
    kept = RawStoreReader(raw)
    assert kept.frames()["index"].tolist() == list(range(200))
    again = good("fit", "--resume", out, "--json").json
    assert again["frames_localized"] == again["frames_seen"] == 200
    assert again["frames_caught_up"] >= record["frames_skipped"]
    assert good("fit", "--resume", out, "--json").json["frames_caught_up"] == 0


def test_raw_data_know_the_run(good: Verb, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--frames", 20, "--raw", tmp_path / "r.ome.zarr", "-o", out)
    good("run", "-m", model, *DEMO, *words)
    kept = RawStoreReader(tmp_path / "r.ome.zarr")
    meta, run = kept.meta, kept.summary["run"]
    assert meta["camera"]["pixel_size_nm"] == 100
    assert meta["camera_facts"]["exposure_ms"] == 2
    assert meta["camera_device"] == "Camera"
    assert meta["settings"]["settings"][0] == "Camera.PixelType=16bit"
    assert meta["versions"].keys() >= {"blinkloop", "pymmcore", "zarr", "python"}
    assert len(meta["model_sha256"]) == 64
    assert meta["threshold"] == 0.6
    assert meta["policy"] == "latest"
    assert meta["roi_px"] == [0, 0, 33, 21]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", meta["started"])
    assert run["frames_seen"] == 20


@pytest.fixture
def steady(tmp_path: Path) -> Path:
    """A configuration with the Python camera of the other tests, 100 frames/s."""
    path = tmp_path / "steady.cfg"
    path.write_text(
        "#py pyDevice,Cam,verb_devices,SteadyCamera\n"
        "#py Property,Core,Initialize,1\n"
        "#py Property,Core,Camera,Cam\n"
    )
    return path


def kill_in_between(folder: Path, *words: object) -> None:
    """End a run with SIGKILL once raw frames and results are on the disk."""
    said = folder.with_name(folder.name + ".stderr")
    with said.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "blinkloop.cli", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": str(Path(__file__).parent),
            },
        )
    wanted = [folder / "localizations.zarr", folder / "raw.ome.zarr"]
    written = [store / "frames" / "index" / "c" for store in wanted]
    deadline = time.monotonic() + 240
    try:
        while not all(path.is_dir() and any(path.iterdir()) for path in written):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, "the run never wrote"
            time.sleep(0.02)
        time.sleep(np.random.default_rng().uniform(0.3, 1.2))
    finally:
        process.kill()
        process.wait()


def test_killed_run_is_completed_from_its_raw_data(
    good: Verb, verb: Verb, model: Path, steady: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ("--config", steady, "--pixel-size-nm", 100, "--threshold", 0.6)
    kill_in_between(out, "run", "-m", model, *words, "--policy", "every", "-o", out)
    before = LiveStoreReader(out / "localizations.zarr")
    kept = RawStoreReader(out / "raw.ome.zarr").frames()["index"]
    assert not before.finished
    assert kept.tolist() == list(range(len(kept)))
    # A run whose live store was lost altogether is the same, only longer.
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copytree(out / "raw.ome.zarr", bare / "raw.ome.zarr")
    LiveStore(bare / "localizations.zarr").open({})  # killed at its birth
    whole = fit_of_raw(good, model, out, tmp_path / "whole.zarr")
    record = good("fit", "--resume", bare, "--json").json
    assert record["frames_caught_up"] == record["frames_seen"] == len(kept)
    check_whole(bare, whole)
    # What the run itself had: results may be on the disk sooner than raw frames.
    record = good("fit", "--resume", out, "--json").json
    results = LiveStoreReader(out / "localizations.zarr").frames()["index"]
    had = before.frames()["index"]
    np.testing.assert_array_equal(results, np.union1d(kept, had))
    assert record["frames_localized"] == record["frames_seen"] == len(results)
    assert record["frames_skipped"] == record["frames_lost"] == 0
    assert record["frames_caught_up"] <= max(len(kept) - len(had), 0) + 1
    if len(results) == len(kept):
        check_whole(out, whole)
    books = (out / "events.csv").read_text().splitlines()[-1]
    assert f"seen {len(results)}, localized {len(results)}, skipped 0" in books
    said = verb("fit", "--resume", out, "-m", model.with_name("tiny_full.onnx"))
    assert said.code == 0  # nothing left to fit, so no model is needed


def test_catch_up_that_is_killed_goes_on(
    good: Verb, verb: Verb, model: Path, tmp_path: Path
) -> None:
    """Half of the catch-up store is there; the other half is fitted, and no more."""
    out = tmp_path / "out"
    words = ("--frames", 60, "--policy", "every", "-o", out)
    good("run", "-m", model, *DEMO, *words)
    whole = fit_of_raw(good, model, out, tmp_path / "whole.zarr")
    half = tmp_path / "half.zarr"
    fit = ("fit", out / "raw.ome.zarr", "-m", model, "--threshold", 0.6)
    good(*fit, "--frames", ":30", "-o", half)
    # The run's own store cannot be read any more: it is put aside, not removed.
    shutil.rmtree(out / "localizations.zarr" / "frames")
    shutil.move(half, out / "catch-up.live.zarr")
    other = verb("fit", "--resume", out, "-m", model.with_name("tiny_full.onnx"))
    assert other.code == 2
    assert "is not the model of this run" in other.error
    record = good("fit", "--resume", out, "--json").json
    assert record["frames_caught_up"] == 31  # the last one of the half again
    shutil.rmtree(out / "damaged.zarr")
    check_whole(out, whole)


@pytest.mark.usefixtures("slow")
def test_catch_up_that_is_interrupted_goes_on_later(
    good: Verb,
    verb: Verb,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C during the fit after the run: what is there stays, and how to go on."""
    from blinkloop.cli import _complete

    catching_up: list[Pipeline] = []
    heard = threading.Event()

    @contextmanager
    def interrupted(pipeline: Pipeline, total: int) -> Iterator[None]:
        def soon() -> None:
            while not pipeline.status().frames_localized:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
            while pipeline.status().state is PipelineState.RUNNING:
                time.sleep(0.01)
            heard.set()

        catching_up.append(pipeline)
        threading.Thread(target=soon).start()
        yield

    slowly = StreamLocalizer.push

    def held(self: StreamLocalizer, frames: Any) -> Any:
        """Not through before Ctrl-C is heard, however late that is."""
        if catching_up and catching_up[0].status().frames_localized:
            assert heard.wait(240)
        return slowly(self, frames)

    monkeypatch.setattr(StreamLocalizer, "push", held)
    monkeypatch.setattr(_complete, "progress_of", interrupted)
    monkeypatch.setattr("blinkloop.cli._call_size.MOST_FRAMES", 4)
    out = tmp_path / "out"
    words = ("--frames", 150, "--policy", "every", "-o", out, "--json")
    said = verb("run", "-m", model, *DEMO, *words)
    assert said.code == 130, said.err
    check_record(said.json)
    assert said.json["frames_skipped"] > 50
    assert f"blinkloop fit --resume {out}" in said.err
    assert (out / "catch-up.live.zarr").is_dir()
    monkeypatch.undo()
    record = good("fit", "--resume", out, "--json").json
    assert record["frames_localized"] == record["frames_seen"] == 150
    check_whole(out, fit_of_raw(good, model, out, tmp_path / "whole.zarr"))


def test_terminated_run_leaves_the_catch_up_for_later(
    signalled: Callable[..., Said], good: Verb, model: Path, tmp_path: Path
) -> None:
    """SIGTERM: no fit now, but how to come to it; then it is whole."""
    out = tmp_path / "out"
    raw = out / "raw.ome.zarr" / "frames" / "index" / "c"
    words = ("run", "-m", model, *DEMO, "--policy", "every", "-o", out, "--seconds", 60)
    said = signalled(
        signal.SIGTERM, lambda: raw.is_dir() and any(raw.iterdir()), *words
    )
    assert said.code == 143, said.err
    record = good("fit", "--resume", out, "--json").json
    assert record["frames_localized"] == record["frames_seen"] > 0
    if record["frames_caught_up"]:
        assert f"blinkloop fit --resume {out}" in said.err
    check_whole(out, fit_of_raw(good, model, out, tmp_path / "whole.zarr"))


FULL_DISK = """
set -e
mount -t tmpfs -o size=600k none "$1"
shift
exec "$@"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_full_disk_ends_the_run_and_keeps_what_there_is(
    model: Path, steady: Path, tmp_path: Path
) -> None:
    """A real disk of 600 kB for the raw data; results and log lie on another one."""
    small, out = tmp_path / "small", tmp_path / "out"
    small.mkdir()
    unshare = ("unshare", "--map-root-user", "--mount")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount allowed here")
    config = steady.read_text()
    steady.write_text(config + "#py pyDevice,Laser.405,verb_devices,Laser\n")
    words = [
        *("run", "-m", model, "--config", steady, "--pixel-size-nm", 100),
        *("--exposure-ms", 1, "--mode", "control", "--laser", "Laser.405.Power"),
        *("--update-frames", 20, "--start-power", 2, "--seconds", 60),
        *("--raw", small / "raw.ome.zarr", "-o", out),
    ]
    done = subprocess.run(
        [
            *(*unshare, "bash", "-c", FULL_DISK, "-", small),
            *(sys.executable, "-m", "blinkloop.cli", *map(str, words)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.returncode == 1, done.stderr
    (error,) = [x for x in done.stderr.splitlines() if x.startswith("error:")]
    assert "the raw data cannot be written to" in error
    assert "No space left on device" in error
    assert "Traceback" not in done.stderr
    report = json.loads((out / "report.json").read_text())
    parts = ("frames_localized", "frames_skipped", "frames_lost")
    assert report["frames_seen"] == sum(report[part] for part in parts) > 0
    raw = report["raw"]
    assert raw["frames"] > 0
    assert raw["frames"] + raw["frames_unwritten"] >= report["frames_seen"] - 1
    assert report["frames_missing"]["raw"] == raw["frames_unwritten"] > 0
    table = LiveStoreReader(out / "localizations.zarr")
    assert len(table.frames()) == report["frames_localized"]
    *_, last = [row for row in laser_rows(out) if row["written"] != "nan"]
    assert float(last["written"]) == float(last["read_back"]) == 0
    # Where the computer stood still for seconds, stale data made it dark before.
    assert re.search(r"raw data cannot be written|no fresh estimate", last["reason"])
    assert report["laser_final"] == 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        pytest.param(
            ("run", "-m", "MODEL", "--watch", "x.tif", "--policy", "every"),
            r"no camera or laser of ours for --policy",
            id="watch",
        ),
        pytest.param(
            ("run", "-m", "MODEL", "--raw", "HERE"), "exists already", id="there"
        ),
        pytest.param(
            ("fit", "--resume", "HERE"), "no folder of a run with raw data", id="no run"
        ),
        pytest.param(
            ("fit", "--resume", "HERE", "--threshold", "0.3", "-o", "x.csv"),
            "leave out --out, --threshold",
            id="settings",
        ),
        pytest.param(("fit", "HERE"), "Missing option '-m / --model'", id="model"),
        pytest.param(
            ("fit", "HERE", "-m", "MODEL"), "Missing option '-o / --out'", id="out"
        ),
    ],
)
def test_refused(
    words: tuple[str, ...], match: str, verb: Verb, model: Path, tmp_path: Path
) -> None:
    named = {"MODEL": model, "HERE": tmp_path}
    said = verb(*(named.get(word, word) for word in words))
    assert said.code == 2
    assert re.search(match, said.err), said.err
