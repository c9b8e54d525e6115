"""Folders of pictures that are not one movie, or not all of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import MovieDamagedError, find_movies, open_movie

tifffile = pytest.importorskip("tifffile", reason="TIFF files are written by tifffile")
Stack = npt.NDArray[Any]


def _pictures(folder: Path, names: list[str], stack: Stack) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        tifffile.imwrite(folder / name, stack[i % len(stack)], metadata=None)
    return folder


MIXED = {
    "text": (
        [f"img_{t:09}_{c}_000.tif" for t in range(3) for c in ("Cy3", "DAPI")],
        r"2 series of pictures \(img_#_Cy#_#.tif \(3\), img_#_DAPI_#.tif \(3\)\)",
    ),
    "channel": (
        [f"img_channel{c:03}_position000_time{0:09}_z000.tif" for c in range(3)],
        "3 channels or positions .*channel 000, 001, 002",
    ),
    "position": (
        [
            f"img_channel000_position{p:03}_time{t:09}.tif"
            for p in (0, 1)
            for t in (0, 1)
        ],
        "2 channels or positions .*position 000, 001",
    ),
    "letter": (
        [f"cell_t{t:04}_c{c}.tif" for t in range(3) for c in (1, 2)],
        "2 channels or positions .*c 1, 2",
    ),
}


@pytest.mark.parametrize(("names", "says"), MIXED.values(), ids=MIXED.keys())
def test_channels_are_not_frames(
    names: list[str], says: str, tmp_path: Path, stack: Stack
) -> None:
    folder = _pictures(tmp_path / "m", names, stack)
    with pytest.raises(InputError, match=says) as caught:
        open_movie(folder)
    assert "\n" not in str(caught.value)


REMARKS = {
    "all there": ([f"img_{t:09}_Cy5_000.tif" for t in range(5)], None),
    "counted by the camera": ([f"run2_c{t:04}.tif" for t in range(5)], None),
    "every second": ([f"{t}.tif" for t in range(3, 13, 2)], None),
    "times": ([f"t{t}.tif" for t in (0, 33, 67, 100, 133)], None),
    "date and time": (
        [f"2024-05-01 12-{m}-{s}.tif" for m in (1, 2) for s in (1, 9)],
        None,
    ),
    "gap": ([f"img_{t}.tif" for t in (1, 2, 3, 7, 8)], "3 numbers .* first after 3"),
    "stray": (["dark.tif", *(f"img_{t}.tif" for t in range(4))], "dark.tif = frame 0"),
}


@pytest.mark.parametrize(("names", "says"), REMARKS.values(), ids=REMARKS.keys())
def test_names_that_leave_doubts(
    names: list[str], says: str | None, tmp_path: Path, stack: Stack
) -> None:
    folder = _pictures(tmp_path / "m", names, stack)
    with open_movie(folder) as movie:
        np.testing.assert_array_equal(movie.read(0, len(names)), stack[: len(names)])
        notes = movie.notes()
    if says is None:
        assert notes == ()
        return
    (note,) = notes
    assert re.search(says, note)


def test_a_snapshot_before_the_movies(tmp_path: Path, stack: Stack) -> None:
    folder = _pictures(tmp_path / "m", ["brightfield.tif"], stack)
    tifffile.imwrite(folder / "cell_1.tif", stack, metadata=None)
    names = [path.name for path in find_movies(folder)]
    assert names == ["brightfield.tif", "cell_1.tif"]


def test_a_picture_that_does_not_fit_is_to_be_taken_out(
    tmp_path: Path, stack: Stack
) -> None:
    folder = _pictures(tmp_path / "m", ["1.tif", "2.tif"], stack)
    tifffile.imwrite(folder / "3.tif", stack[0, :4], metadata=None)
    with (
        open_movie(folder) as movie,
        pytest.raises(MovieDamagedError, match="take it out of the folder"),
    ):
        movie.read(0, 3)


def test_movies_that_are_tiff_under_other_endings(tmp_path: Path, stack: Stack) -> None:
    for name in ("a.stk", "b.LSM", "c.btf"):
        tifffile.imwrite(tmp_path / name, stack, metadata=None)
    found = find_movies(tmp_path)
    assert [path.name for path in found] == ["a.stk", "b.LSM", "c.btf"]
    for path in found:
        with open_movie(path) as movie:
            np.testing.assert_array_equal(movie.read(0, 7), stack)


@pytest.mark.parametrize("first", [b"", b"II*\0\x08\0\0\0", None])
def test_a_broken_file_does_not_stop_the_movies(
    first: bytes | None, tmp_path: Path, stack: Stack
) -> None:
    for name in ("b.tif", "c.tif"):
        tifffile.imwrite(tmp_path / name, stack, metadata=None)
    if first is None:
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 9, 3), np.uint8))
    else:
        (tmp_path / "a.tif").write_bytes(first)
    names = [path.name for path in find_movies(tmp_path)]
    assert names == ["a.tif", "b.tif", "c.tif"]


def test_a_link_to_nowhere_does_not_stop_the_movies(
    tmp_path: Path, stack: Stack
) -> None:
    for name in ("b.tif", "c.tif"):
        tifffile.imwrite(tmp_path / name, stack, metadata=None)
    try:
        (tmp_path / "a.tif").symlink_to("nowhere.tif")
    except OSError:
        pytest.skip("this system lets nobody make links")
    assert len(find_movies(tmp_path)) == 3
