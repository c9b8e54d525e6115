"""Movies that another process writes at about 100 frames/s: all frames, none torn."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.growing import GrowingSource, open_growing
from blinkloop.runtime.protocols import FrameSource
from blinkloop.runtime.records import Roi

pytest.importorskip("zarr", reason="needs the extra `io`")
pytest.importorskip("tifffile", reason="needs the extra `io`")

WRITER = Path(__file__).with_name("writer.py")
FRAMES = 120
LOST = (40, 41, 42)


@pytest.mark.parametrize(
    ("kind", "name", "package"),
    [
        ("tiff", "movie.tif", "tifffile"),
        ("tiff_in_pieces", "movie.tif", "tifffile"),
        ("ndtiff", "movie_1", "ndstorage"),
        ("zarr_grows", "movie.zarr", "zarr"),
        ("ome_zarr", "movie.ome.zarr", "ome_writers"),
    ],
)
def test_every_frame_of_another_process(tmp_path: Path, kind, name, package) -> None:
    pytest.importorskip(package)
    path, marker, seen = tmp_path / name, tmp_path / "done", tmp_path / "seen"
    written = tmp_path / "movie" if kind == "ndtiff" else path
    command = [
        sys.executable,
        str(WRITER),
        kind,
        str(written),
        str(FRAMES),
        str(marker),
        str(seen),
    ]
    with subprocess.Popen(command) as writer:
        movie = open_growing(path, wait_s=240)
        source = GrowingSource(movie, marker=marker, timeout_s=240)
        assert isinstance(source, FrameSource)
        assert source.roi == Roi(0, 0, 47, 33)
        assert source.dtype == np.uint16
        facts = source.camera_facts()
        numbers, live = [], False
        for frame in source.frames():
            assert np.all(frame.pixels == frame.index + 1), "a torn frame"
            numbers.append(frame.index)
            if len(numbers) == FRAMES // 4:
                # Came while the file was written: the writer waits for this.
                live = writer.poll() is None and not marker.exists()
                seen.touch()
    assert writer.returncode == 0
    expected = [k for k in range(FRAMES) if kind != "zarr_grows" or k not in LOST]
    assert numbers == expected
    assert live
    assert source.ended_by == "marker"
    assert source.lost == 0
    if kind == "ome_zarr":
        assert facts["pixel_size_nm"] == pytest.approx(100.0)


def tiff_bytes(frames: int, tmp_path: Path, **more) -> bytes:
    import tifffile

    path = tmp_path / "whole.tif"
    with tifffile.TiffWriter(path, **more) as file:
        for k in range(frames):
            file.write(np.full((5, 7), k + 1, np.uint16), metadata=None)
    return path.read_bytes()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_cut_at_any_byte(tmp_path: Path, big: bool, order: str) -> None:
    """Whatever is there, only whole frames come out; at full length all of them."""
    data = tiff_bytes(4, tmp_path, bigtiff=big, byteorder=order)
    path = tmp_path / "cut.tif"
    path.write_bytes(b"")
    ready_before = 0
    for cut in range(0, len(data) + 1, 3):
        path.write_bytes(data[:cut])
        try:
            movie = open_growing(path, wait_s=0.0, poll_s=1e-4)
        except InputError:
            continue
        ready = movie.poll()
        for k in range(ready):
            assert np.all(movie.read(k) == k + 1)
        assert ready_before <= ready <= 3
        ready_before = ready
        for k in range(movie.settle()):
            assert np.all(movie.read(k) == k + 1)
        movie.close()
    path.write_bytes(data)
    movie = open_growing(path, wait_s=0.0)
    assert movie.poll() == 3
    assert movie.settle() == 4
    movie.close()


def test_a_tiff_made_at_full_length_first(tmp_path: Path) -> None:
    data = tiff_bytes(3, tmp_path)
    path = tmp_path / "zeros.tif"
    path.write_bytes(bytes(len(data) + 5000))
    with pytest.raises(InputError, match="no whole frame came within 0 s"):
        open_growing(path, wait_s=0.0)
    path.write_bytes(data[: len(data) - 70] + bytes(5070))
    movie = open_growing(path, wait_s=0.0)
    assert movie.poll() == 2
    movie.close()


def write_ndtiff(folder: Path, times: tuple[int, ...]) -> None:
    ndstorage = pytest.importorskip("ndstorage")
    # It leaves files open; they are closed with its objects.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        data = ndstorage.NDTiffDataset(
            folder, name="d", writable=True, summary_metadata={}
        )
        for k in times:
            data.put_image({"time": k}, np.full((5, 7), k + 1, np.uint16), {})
        data.finish()
        data.close()
        del data
        gc.collect()


def test_an_index_cut_at_any_byte(tmp_path: Path) -> None:
    write_ndtiff(tmp_path, (0, 1, 4))  # the acquisition lost 2 and 3
    index = tmp_path / "d_1" / "NDTiff.index"
    whole = index.read_bytes()
    seen = set()
    for cut in range(len(whole) + 1):
        index.write_bytes(whole[:cut])
        try:
            movie = open_growing(tmp_path / "d_1", wait_s=0.0, poll_s=1e-4)
        except InputError:
            continue
        seen.add(movie.poll())
        for k in range(movie.poll()):
            assert np.all(movie.read(k) == movie.number(k) + 1)
        movie.close()
    assert seen == {1, 2, 3}
    movie = open_growing(tmp_path / "d_1", wait_s=0.0)
    frames = list(GrowingSource(movie, timeout_s=0.05).frames())
    assert [f.index for f in frames] == [0, 1, 4]


def test_one_frame_and_a_timeout(tmp_path: Path) -> None:
    path = tmp_path / "one.tif"
    path.write_bytes(tiff_bytes(1, tmp_path))
    source = GrowingSource(open_growing(path, wait_s=0.0), timeout_s=0.1, poll_s=0.01)
    began = time.monotonic()
    (frame,) = source.frames()
    assert time.monotonic() - began > 0.1
    assert frame.index == 0
    assert source.ended_by == "timeout"


def test_stop_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "long.tif"
    path.write_bytes(tiff_bytes(3, tmp_path))
    source = GrowingSource(open_growing(path, wait_s=0.0), timeout_s=60)
    timer = threading.Timer(0.2, source.stop)
    numbers = []
    for frame in source.frames():
        numbers.append(frame.index)
        if frame.index == 1:  # the last one that is known to be whole
            timer.start()
    timer.join()
    assert numbers == [0, 1]
    assert source.ended_by == "stop"


def test_a_shard_whose_writer_died(tmp_path: Path) -> None:
    """Frames of the last file that were never written are not frames."""
    import zarr

    array = zarr.create_array(
        tmp_path / "a.zarr",
        shape=(100, 5, 7),
        chunks=(1, 5, 7),
        shards=(8, 5, 7),
        dtype="uint16",
    )
    for k in range(11):
        array[k] = k + 1
    movie = open_growing(tmp_path / "a.zarr", wait_s=2.0)
    time.sleep(0.25)
    assert movie.poll() == 8
    assert movie.settle() == 11
    assert np.all(movie.read(10) == 11)


def test_what_cannot_be_followed(tmp_path: Path) -> None:
    import tifffile
    import zarr

    text = tmp_path / "a.txt"
    text.write_text("no movie at all, only text")
    with pytest.raises(InputError, match="is no TIFF file"):
        open_growing(text, wait_s=0.0)
    packed = tmp_path / "z.tif"
    tifffile.imwrite(packed, np.ones((2, 5, 7), np.uint16), compression="zlib")
    with pytest.raises(InputError, match="only uncompressed grey pages"):
        open_growing(packed, wait_s=0.0)
    planes = zarr.create_array(
        tmp_path / "p.zarr", shape=(4, 3, 5, 7), chunks=(1, 1, 5, 7), dtype="uint16"
    )
    planes[0] = 1
    with pytest.raises(InputError, match="is not one movie that grows"):
        open_growing(tmp_path / "p.zarr", wait_s=0.0)
    one = tmp_path / "one.tif"
    one.write_bytes(tiff_bytes(1, tmp_path))
    movie = open_growing(one, wait_s=0.0)
    with pytest.raises(InputError, match="times above 0 s"):
        GrowingSource(movie, timeout_s=0)
    movie.close()


def test_a_folder_that_goes_away(tmp_path: Path) -> None:
    write_ndtiff(tmp_path, (0,))
    source = GrowingSource(open_growing(tmp_path / "d_1", wait_s=0.0))
    for name in (tmp_path / "d_1").glob("*.tif"):
        name.unlink()
    with pytest.raises(DeviceError, match="cannot be read any more"):
        next(source.frames())
