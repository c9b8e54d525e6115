"""Raw data: every frame that came is there or counted; what is there is readable."""

from __future__ import annotations

import errno
import json
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_doubles import (
    PATIENCE_S,
    ROI,
    STEP,
    make_frame,
    make_recorder,
    pixels_of,
    wait_for,
)

from blinkloop.errors import DeviceError, InputError, MissingExtraError
from blinkloop.integrations.movies import MovieSource, open_movie
from blinkloop.runtime.raw import (
    DISK_BEHIND,
    RawRecorder,
    RawStore,
    RawStoreReader,
    is_raw_store,
)
from blinkloop.runtime.records import Frame, Gap, Roi

pytest.importorskip("yaozarrs", reason="needs the extra `raw`")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "raw.ome.zarr"


def check_pixels(reader: RawStoreReader) -> None:
    image = np.asarray(reader.image[:])
    for index in reader.frames()["index"]:
        np.testing.assert_array_equal(image[index], pixels_of(int(index)))


def has_frames(path: Path, least: int) -> bool:
    return len(RawStoreReader(path).frames()) >= least


def record(recorder: RawRecorder, numbers: Any) -> None:
    recorder.open({"pixel_size_nm": 110.0, "camera": {"exposure_ms": 20.0}})
    last = None
    for index in numbers:
        if last is not None and index > last + 1:
            recorder.mark(Gap(last + 1, index - last - 1, "lost: jump"))
        recorder.put(make_frame(index))
        last = index


@given(
    numbers=st.sets(st.integers(0, 60), min_size=1, max_size=40).map(sorted),
    chunk=st.integers(1, 9),
)
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
def test_what_was_put_is_there(path: Path, numbers: list[int], chunk: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    recorder = make_recorder(path, chunk, flush_s=0.002)
    record(recorder, numbers)
    assert recorder.close({"run": {"frames_seen": 3}}) == []
    assert recorder.summary()["frames"] == len(numbers)
    assert recorder.unwritten == 0
    reader = RawStoreReader(path)
    assert reader.finished
    assert reader.frames()["index"].tolist() == numbers
    assert reader.frames()["timestamp_s"] == pytest.approx(np.array(numbers) / 100)
    check_pixels(reader)
    missing = [i for g in reader.gaps() for i in range(g.first, g.first + g.count)]
    assert missing == sorted(set(range(numbers[0], numbers[-1])) - set(numbers))
    assert reader.summary["run"]["frames_seen"] == 3


def test_is_a_valid_ome_zarr_image(path: Path) -> None:
    yaozarrs = pytest.importorskip("yaozarrs")
    recorder = make_recorder(path)
    record(recorder, range(11))
    recorder.close({})
    yaozarrs.validate_zarr_store(str(path))
    ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["t", "y", "x"]
    (scale,) = image["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [0.02, 0.11, 0.11]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_pixel_types_and_frames_of_zeros(path: Path, dtype: type) -> None:
    """A dark camera gives frames of nothing but 0: they are there all the same."""
    roi = Roi(0, 0, 5, 3)
    recorder = RawRecorder(RawStore(path, roi, dtype, frames_per_chunk=4))
    recorder.open({})
    for index in range(9):
        recorder.put(Frame(index, 0.0, np.zeros((3, 5), dtype), roi))
    assert recorder.close({}) == []
    with open_movie(path) as movie:
        assert movie.n_frames == 9
        assert movie.read(0, 9).dtype == dtype
        assert not movie.read(0, 9).any()


def test_movie_has_holes_where_frames_are_missing(path: Path) -> None:
    recorder = make_recorder(path)
    numbers = [2, 3, 4, 9, 10, 30]
    record(recorder, numbers)
    recorder.close({})
    with open_movie(path) as movie:
        assert movie.origin == (ROI.x, ROI.y)
        frames = list(MovieSource(movie).frames())
        assert [frame.index for frame in frames] == numbers
        assert [frame.timestamp_s for frame in frames] == [i / 100 for i in numbers]
        for frame in frames:
            np.testing.assert_array_equal(frame.pixels, pixels_of(frame.index))
        some = MovieSource(movie, start=4, stop=10)
        assert [frame.index for frame in some.frames()] == [4, 9]


def test_chunk_taken_by_a_power_cut_is_told(path: Path) -> None:
    recorder = make_recorder(path)
    record(recorder, range(20))
    recorder.close({})
    shutil.rmtree(path / "0" / "c" / "1")
    with open_movie(path) as movie:
        assert len(movie.read(0, 8)) == 8
        with pytest.raises(InputError, match=r"frame 8 of 20 .*missing"):
            movie.read(6, 12)


class SlowStore(RawStore):
    """A double of a disk that waits until it is told to go on."""

    go_on = threading.Event()

    def write(self, *arguments: Any) -> None:
        assert self.go_on.wait(PATIENCE_S)
        super().write(*arguments)


def test_slow_disk_never_blocks_and_every_frame_is_counted(path: Path) -> None:
    SlowStore.go_on.clear()
    store = SlowStore(path, ROI, np.uint16, frames_per_chunk=8)
    recorder = RawRecorder(store, memory_mb=0.001)
    # Comes back although the disk does not go on before it has.
    record(recorder, range(100))
    SlowStore.go_on.set()
    assert recorder.close({}) == []
    reader = RawStoreReader(path)
    kept = reader.frames()["index"]
    assert recorder.unwritten == 100 - len(kept) == 68
    check_pixels(reader)
    (gap,) = reader.gaps()
    assert gap == Gap(32, 68, DISK_BEHIND)


def test_store_that_is_gone_ends_the_recording(path: Path) -> None:
    told: list[str] = []
    recorder = make_recorder(path, on_failure=told.append)
    record(recorder, range(20))
    wait_for(partial(has_frames, path, 20))
    shutil.rmtree(path)
    recorder.put(make_frame(20))
    wait_for(lambda: recorder.failure is not None)
    with pytest.raises(DeviceError, match=r"moved or deleted.*0 frames are kept"):
        recorder.put(make_frame(21))
    assert len(told) == 1
    assert "\n" not in told[0]
    assert recorder.close({}) == []  # told once is enough
    assert recorder.summary()["frames"] == 0
    assert recorder.unwritten == 22
    assert not (path / "zarr.json").exists()


def test_disk_that_refuses_leaves_what_was_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A double of a full disk; a real one is in test_raw_run.py."""
    recorder = make_recorder(path)
    record(recorder, range(16))
    wait_for(partial(has_frames, path, 16))

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RawStore, "write", full)
    recorder.put(make_frame(16))
    (problem,) = recorder.close({})
    assert "No space left on device" in problem
    assert "16 frames are kept" in problem
    assert recorder.summary()["frames"] == 16
    assert recorder.unwritten == 1
    check_pixels(RawStoreReader(path))


def test_kill_leaves_all_but_the_open_chunk(path: Path) -> None:
    """SIGKILL at a random moment, twice."""
    for attempt in range(2):
        target = path.with_name(f"{attempt}.ome.zarr")
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("raw_child.py")), target],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        try:
            child.stdout.readline()  # the store is open
            # A good part is on the disk while the recording goes on.
            wait_for(partial(has_frames, target, 200), 0.1)
            time.sleep(random.uniform(0, 0.2))
            seen = int(RawStoreReader(target).frames()["index"][-1])
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        *_, put = map(int, child.stdout.read().split())
        child.stdout.close()
        reader = RawStoreReader(target)
        assert not reader.finished
        numbers = reader.frames()["index"]
        # Nothing is missing in between, nor what a reader has seen before.
        assert numbers.tolist() == [i for i in range(numbers[-1] + 1) if i % 50 != 49]
        assert seen <= numbers[-1] <= put + STEP
        check_pixels(reader)
        with open_movie(target) as movie:
            assert movie.n_frames == numbers[-1] + 1


def test_laser_log_is_copied_as_it_grows(path: Path, tmp_path: Path) -> None:
    from blinkloop.runtime.feedback import CommandLog
    from blinkloop.runtime.feedback.log import make_row

    log = CommandLog(tmp_path / "laser.csv")
    recorder = make_recorder(path, laser_log=log.path)
    nan = float("nan")
    log.append(make_row(0.5, "control", 2.0, 2.0, 2.0, None, 0.5, 0.0, "start, armed"))
    record(recorder, range(3))
    wait_for(lambda: len(RawStoreReader(path).laser()[0]) == 1)
    log.append(make_row(1.5, "control", nan, 0.0, 0.0, None, 0.5, 1.0, 'end "of" run'))
    log.close()
    recorder.close({})
    rows, reasons = RawStoreReader(path).laser()
    assert rows["timestamp_s"].tolist() == [0.5, 1.5]
    assert rows["written"].tolist() == [2.0, 0.0]
    assert np.isnan(rows["requested"][1])
    assert np.isnan(rows["frame"]).all()
    assert reasons == ["start, armed", 'end "of" run']


def test_nothing_is_overwritten(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(InputError, match="never overwritten"):
        make_recorder(path).open({})
    assert not is_raw_store(path)


def test_run_that_did_not_begin_leaves_nothing(path: Path) -> None:
    recorder = make_recorder(path)
    recorder.open({})
    recorder.discard()
    assert not path.exists()


def test_extra_that_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaozarrs", None)
    monkeypatch.setattr("blinkloop.extras.installed", lambda name: name != "yaozarrs")
    with pytest.raises(MissingExtraError, match=r'pip install "blinkloop\[raw\]"'):
        make_recorder(path).open({})
    assert not path.exists()
