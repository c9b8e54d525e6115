"""The live store: exact, readable while it grows, readable after a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_doubles import (
    DoubleLocalizer,
    DoubleSource,
    assert_rows_equal,
    make_result,
)

from blinkloop.errors import DeviceError, InputError, MissingExtraError
from blinkloop.runtime.pipeline import Pipeline, PipelineSettings
from blinkloop.runtime.records import Gap
from blinkloop.runtime.sinks import (
    LiveStore,
    LiveStoreReader,
    MemorySink,
    growing,
    layout,
    read_live_store,
)
from blinkloop.schema import LOCALIZATION_DTYPE

zarr = pytest.importorskip("zarr", reason="the extra io is not installed")
FORCE_TO_DISK = growing._force_to_disk


def rows_of(numbers: Any) -> np.ndarray:
    """What the double localizer finds in those frames."""
    return np.concatenate(
        [
            np.zeros(0, LOCALIZATION_DTYPE),
            *(make_result(n).localizations for n in numbers),
        ]
    )


@pytest.fixture(autouse=True)
def forced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files forced to the disk, which would take most of the tests' time."""
    files: list[Path] = []
    monkeypatch.setattr(growing, "_force_to_disk", files.append)
    return files


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so small that a few frames fill several."""
    small = {"localizations": 16, "frames": 8, "gaps": 4}
    for name, rows in small.items():
        monkeypatch.setitem(layout.GROUPS, name, (layout.GROUPS[name][0], rows))


@pytest.mark.parametrize("frames", [0, 1, 8, 33], ids=lambda n: f"{n} frames")
@pytest.mark.usefixtures("small_chunks")
def test_what_is_written_is_read(tmp_path: Path, frames: int) -> None:
    store, memory = LiveStore(tmp_path / "a.zarr"), MemorySink()
    numbers = [n for n in range(3, 3 + frames) if n % 7]
    report = Pipeline(
        DoubleSource(numbers),
        DoubleLocalizer(),
        [store, memory],
        settings=PipelineSettings(wait=True),
        meta={"pixel_size_nm": 100.0, "model": {"name": "double"}},
    ).run()
    assert report.failure is None
    assert report.files == {"zarr": str(tmp_path / "a.zarr")}
    reader = LiveStoreReader(tmp_path / "a.zarr")
    assert reader.finished
    assert_rows_equal(reader.table().data, rows_of(numbers))
    assert_rows_equal(reader.frames(), memory.frames())
    assert reader.gaps() == report.gaps
    meta = reader.table().meta
    assert meta["pixel_size_nm"] == 100.0
    assert meta["model"] == {"name": "double"}
    assert meta["width_px"] == 9
    assert meta["height_px"] == 5
    assert meta["run"]["frames_localized"] == len(numbers)
    assert meta["finished"] is True
    # A finished store is plain Zarr v3 without any filling.
    x = zarr.open_array(tmp_path / "a.zarr/localizations/x_px", mode="r")
    assert x.shape == (len(reader),)
    assert x.attrs["unit"] == "px of the camera chip"


@pytest.mark.usefixtures("small_chunks")
def test_it_is_readable_while_it_grows(tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "a.zarr", flush_s=1000)
    store.open({})
    reader = LiveStoreReader(tmp_path / "a.zarr")
    assert len(reader) == 0
    for index in range(16):
        store.write([make_result(index)])
        if index % 5 == 3:
            store.flush()
            reader.refresh()
            assert_rows_equal(reader.table().data, rows_of(range(index + 1)))
            assert len(reader.frames()) == index + 1
            assert not reader.finished
    store.gap(Gap(16, 1, "lost"))
    # Not flushed: the whole frames in full chunks are all a reader sees.
    reader.refresh()
    assert reader.gaps() == ()
    store.close({"frames": 17})
    reader.refresh()
    assert reader.finished
    assert reader.gaps() == (Gap(16, 1, "lost"),)
    assert reader.meta["frames"] == 17


@pytest.mark.usefixtures("small_chunks")
def test_arrays_are_lengthened_by_several_chunks_at_once(tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "a.zarr", flush_s=1000)
    store.open({})
    lengths = set()
    for index in range(110):
        store.write([make_result(index)])
        x = zarr.open_array(tmp_path / "a.zarr/localizations/x_px", mode="r")
        lengths.add(x.shape[0])
    reader = LiveStoreReader(tmp_path / "a.zarr")
    chunk, rows = int(x.chunks[0]), len(reader)
    assert rows > 8 * chunk
    assert sorted(lengths) == [n * 8 * chunk for n in range(rows // (8 * chunk) + 2)]
    assert_rows_equal(reader.table().data, rows_of(range(110))[:rows])


def test_tick_flushes_what_waited_long_enough(tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "a.zarr", flush_s=0.0)
    store.open({})
    store.write([make_result(3)])
    assert len(read_live_store(tmp_path / "a.zarr")) == 3


@pytest.mark.usefixtures("small_chunks")
def test_full_chunks_are_forced_to_the_disk(tmp_path: Path, forced: list[Path]) -> None:
    store = LiveStore(tmp_path / "a.zarr", flush_s=1000)
    store.open({})
    store.write([make_result(3)] * 5)
    chunk = tmp_path / "a.zarr/localizations/frame/c/0"
    assert chunk not in forced
    store.write([make_result(3)])
    assert chunk in forced
    assert all(file.exists() for file in forced)


def test_forcing_to_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    FORCE_TO_DISK(tmp_path / "file")
    FORCE_TO_DISK(tmp_path / "not there")
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.usefixtures("small_chunks")
def test_pieces_are_the_whole(tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "a.zarr")
    store.open({})
    store.write([make_result(n) for n in range(20)])
    store.close({})
    reader = LiveStoreReader(tmp_path / "a.zarr")
    pieces = [piece.data for piece in reader.tables(rows=7)]
    assert max(len(piece) for piece in pieces) == 7
    assert_rows_equal(np.concatenate(pieces), rows_of(range(20)))
    assert_rows_equal(reader.rows(5, 9), rows_of(range(20))[5:9])


def test_a_killed_process_leaves_whole_frames(tmp_path: Path) -> None:
    path = tmp_path / "killed.zarr"
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("store_child.py")), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        child.kill()
    reader = LiveStoreReader(path)
    assert not reader.finished
    frames = reader.frames()["index"]
    assert len(frames) >= 49
    expected = [n for n in range(frames[-1] + 1) if n % 50 != 49]
    np.testing.assert_array_equal(frames, expected)
    assert_rows_equal(reader.table().data, rows_of(expected))
    assert reader.gaps()[0] == Gap(49, 1, "skipped")
    # And a run can go on in it.
    store = LiveStore(path, if_exists="resume")
    store.open({"resumed": True})
    after = int(frames[-1]) + 1
    store.write([make_result(after)])
    store.close({})
    reader.refresh()
    assert reader.finished
    assert reader.meta["resumed"] is True
    assert reader.meta["pixel_size_nm"] == 100.0
    assert_rows_equal(reader.table().data, rows_of([*expected, after]))


@pytest.mark.parametrize("columns", [1, 5, 10, 14], ids=lambda n: f"after {n} columns")
@pytest.mark.usefixtures("small_chunks")
def test_a_write_torn_between_columns_shows_no_half_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    path = tmp_path / "torn.zarr"
    store = LiveStore(path, flush_s=1000)
    store.open({})
    store.write([make_result(n) for n in range(9)])
    store.flush()
    store.write([make_result(n) for n in (9, 10, 11)])
    done = 0

    class PowerCut(BaseException):
        pass

    def write(call: Any) -> None:
        nonlocal done
        if call.func.__name__ == "write":
            if done == columns:
                raise PowerCut
            done += 1
        call()

    monkeypatch.setattr(growing, "retry_refused", write)
    with pytest.raises(PowerCut):
        store.flush()
    reader = LiveStoreReader(path)
    # Rows of the torn flush may be there or not; a frame is there with all its rows.
    count = len(reader.frames())
    assert count in range(9, 13)
    assert_rows_equal(reader.table().data, rows_of(range(count)))


@pytest.mark.parametrize("content", [b"", b"\x00" * 40], ids=["empty", "zeros"])
@pytest.mark.usefixtures("small_chunks")
def test_a_damaged_open_chunk_costs_only_itself(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "power.zarr"
    store = LiveStore(path, flush_s=1000)
    store.open({})
    store.write([make_result(n) for n in range(15)])
    store.flush()
    rows = len(LiveStoreReader(path))
    open_chunk = (rows - 1) // 16
    (path / "localizations/z_nm/c" / str(open_chunk)).write_bytes(content)
    reader = LiveStoreReader(path)
    lost = rows - len(reader)
    assert 0 < lost <= 16 + 3
    count = len(reader.frames())
    assert_rows_equal(reader.table().data, rows_of(range(count)))
    # The resumed store continues after the last whole frame.
    store = LiveStore(path, if_exists="resume")
    store.open({})
    store.write([make_result(100)])
    store.close({})
    reader.refresh()
    assert_rows_equal(reader.table().data, rows_of([*range(count), 100]))


def test_a_store_without_localizations_can_be_gone_on_with(tmp_path: Path) -> None:
    """Frames in which nothing was found are results, too."""
    empty = next(n for n in range(99) if not len(make_result(n).localizations))
    path = tmp_path / "store.zarr"
    for number in (empty, empty + 1):
        store = LiveStore(path, if_exists="resume")
        store.open({})
        store.write([make_result(number)])
        store.close({})
    reader = LiveStoreReader(path)
    assert reader.frames()["index"].tolist() == [empty, empty + 1]
    assert_rows_equal(reader.table().data, rows_of([empty + 1]))


def test_an_existing_path_is_not_touched_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for number in (3, 2):
        store = LiveStore(path, if_exists="overwrite")
        store.open({})
        store.write([make_result(number)])
        store.close({})
    assert len(read_live_store(path)) == 2
    with pytest.raises(InputError, match="exists already"):
        LiveStore(path).open({})
    assert len(read_live_store(path)) == 2
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "photo.txt").write_text("keep me")
    for how in ("overwrite", "resume"):
        with pytest.raises(InputError, match="not a live store"):
            LiveStore(other, if_exists=how).open({})  # type: ignore[arg-type]
    assert (other / "photo.txt").read_text() == "keep me"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        LiveStore(tmp_path / "file" / "a.zarr").open({})


@pytest.mark.parametrize("kind", ["missing", "file", "foreign zarr", "newer"])
def test_what_is_no_store_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    if kind == "file":
        path.write_text("")
    elif kind == "foreign zarr":
        zarr.open_group(str(path), mode="w", zarr_format=3)
    elif kind == "newer":
        attributes = {layout.FORMAT_KEY: 99}
        zarr.open_group(str(path), mode="w", zarr_format=3, attributes=attributes)
    with pytest.raises(InputError) as caught:
        read_live_store(path)
    assert "\n" not in str(caught.value)


def test_a_store_without_an_array_is_called_damaged(tmp_path: Path) -> None:
    store = LiveStore(tmp_path / "a.zarr")
    store.open({})
    store.close({})
    (tmp_path / "a.zarr/frames/index/zarr.json").unlink()
    with pytest.raises(InputError, match="damaged"):
        read_live_store(tmp_path / "a.zarr")


def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"blinkloop\[io\]"):
        LiveStore(tmp_path / "a.zarr").open({})


def test_a_replace_that_windows_refuses_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growing, "_PAUSE_S", 0.0)
    calls = []

    def refuse_twice() -> None:
        calls.append(1)
        if len(calls) < 3:
            raise PermissionError

    growing.retry_refused(refuse_twice)
    assert len(calls) == 3

    def refuse() -> None:
        raise PermissionError("in use")

    with pytest.raises(PermissionError, match="in use"):
        growing.retry_refused(refuse)


def test_a_run_that_does_not_begin_leaves_the_name_free(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    source = DoubleSource([0], start_error=DeviceError("no camera"))
    with pytest.raises(DeviceError, match="no camera"):
        Pipeline(source, DoubleLocalizer(), [LiveStore(path)]).run()
    assert not path.exists()
    store = LiveStore(path)
    store.open({})
    store.write([make_result(3)])
    store.close({})
    resumed = LiveStore(path, if_exists="resume")
    with pytest.raises(DeviceError, match="no camera"):
        Pipeline(source, DoubleLocalizer(), [resumed]).run()
    assert len(read_live_store(path)) == 3


def test_a_live_run_rests_between_columns_but_not_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(growing.time, "sleep", rests.append)
    store = LiveStore(tmp_path / "a.zarr", pause_s=0.002)
    store.open({})
    store.write([make_result(1), make_result(2)])
    store.flush()
    columns = len(LOCALIZATION_DTYPE) + len(layout.FRAME_DTYPE)
    assert rests == [0.002] * columns
    store.flush()  # nothing new
    store.write([make_result(3)])
    store.close({})
    assert len(rests) == columns
    assert_rows_equal(read_live_store(tmp_path / "a.zarr").data, rows_of([1, 2, 3]))
