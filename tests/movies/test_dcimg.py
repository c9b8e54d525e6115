"""Hamamatsu .dcimg: doubles laid out as dcimg and PYME tell, read by our reader.

The writer was checked with the reader of lens-biophotonics (dcimg, of June 2023, with
NumPy 1), which finds the same pixels, numbers and times in its files.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import (
    MovieDamagedError,
    MovieSource,
    find_movies,
    open_movie,
)

Frames = npt.NDArray[Any]
MARK = (0, 65535, 0, 65535)
START = 112
PIXELS_AT = START + 752
TIME = 1_700_000_000


def _stamps(count: int, numbers: list[int] | None) -> list[bytes]:
    """Number, s and us of frames that came every 30 ms from 0.99 s on."""
    numbers = list(range(count)) if numbers is None else numbers
    us = [990_000 + 30_000 * k for k in range(count)]
    return [
        struct.pack("<III", number, TIME + u // 10**6, u % 10**6)
        for number, u in zip(numbers, us, strict=True)
    ]


def _header(version: int, frames: int, size: int) -> bytearray:
    head = bytearray(PIXELS_AT)
    head[:5] = b"DCIMG"
    struct.pack_into("<I", head, 8, version)
    struct.pack_into("<III", head, 32, 1, frames, START)
    struct.pack_into("<Q", head, 48, size)
    struct.pack_into("<Q", head, 64, size)
    return head


def write_new(
    path: Path,
    frames: Frames,
    *,
    version: int = 0x1000000,
    behind: int = 16,
    row: int | None = None,
    marked: bool = True,
    padding: int = 0,
    place: tuple[int, int] = (0, 0),
    binning: int = 1,
    numbers: list[int] | None = None,
) -> None:
    """Version 2^24 and more; `row`: where the camera overwrote 8 bytes of a frame."""
    count, height, width = frames.shape
    depth = frames.dtype.itemsize
    rows = np.pad(frames, ((0, 0), (0, 0), (0, padding)), constant_values=77)
    size = PIXELS_AT + count * (rows[0].nbytes + behind)
    head = _header(version, count, size)
    session = {60: count, 64: depth, 72: width, 76: height}
    session |= {80: (width + padding) * depth, 84: rows[0].nbytes}
    session |= {116: rows[0].nbytes + behind, 124: behind}
    for at, number in session.items():
        struct.pack_into("<I", head, START + at, number)
    struct.pack_into("<Q", head, START + 96, PIXELS_AT - START)
    chip = (place[0], width * binning, place[1], height * binning)
    struct.pack_into("<4H", head, START + 712, *chip)
    body = b""
    stamps = _stamps(count, numbers)
    for frame, stamp in zip(rows, stamps, strict=True):
        kept = b""
        if row is not None:
            kept = frame[row, : 8 // depth].astype(f"<u{depth}").tobytes()
            frame[row, : 8 // depth] = np.array(MARK, "<u2").view(f"<u{depth}")
            if not marked:
                frame[row, : 8 // depth] = 9
        body += frame.astype(f"<u{depth}").tobytes() + (stamp + kept).ljust(
            behind, b"\0"
        )
    path.write_bytes(bytes(head) + body)


def write_old(
    path: Path,
    frames: Frames,
    *,
    row: int | None = 0,
    numbers: list[int] | None = None,
) -> None:
    """Version 7: numbers, times and overwritten pixels behind the last frame."""
    count, height, width = frames.shape
    depth = frames.dtype.itemsize
    stored = frames.astype(f"<u{depth}")
    head = _header(7, count, 0)[: START + 120]
    session = {32: count, 36: depth, 44: width, 48: width * depth, 52: height}
    session |= {56: frames[0].nbytes, 68: 120}
    for at, number in session.items():
        struct.pack_into("<I", head, START + at, number)
    struct.pack_into("<Q", head, START + 72, 120 + frames.nbytes)
    at_numbers, at_times = 272, 272 + 4 * count
    at_pixels = at_times + 8 * count
    kept = b""
    if row is not None:
        kept = stored[:, row, :4].tobytes()
        stored[:, row, :4] = MARK
    table = bytearray(272)
    struct.pack_into("<I4xQ", table, 0, 7, 152)
    struct.pack_into("<I", table, 40, at_pixels + len(kept))
    struct.pack_into("<Q", table, 152 + 48, at_numbers)
    struct.pack_into("<Q", table, 152 + 64, at_times)
    where = (at_pixels, (row or 0) * width * depth, 8 if row is not None else 0)
    struct.pack_into("<Q4xIQ", table, 152 + 88, *where)
    stamps = _stamps(count, numbers)
    path.write_bytes(
        bytes(head)
        + stored.tobytes()
        + bytes(table)
        + b"".join(stamp[:4] for stamp in stamps)
        + b"".join(stamp[4:] for stamp in stamps)
        + kept
    )


def counts(*shape: int, kind: str = "u2") -> Frames:
    top = 255 if kind == "u1" else 60_000
    return np.random.default_rng(0).integers(100, top, shape).astype(kind)


KINDS = [
    pytest.param(write_new, {}, id="usb"),
    pytest.param(write_new, {"behind": 32, "row": 3, "place": (8, 1020)}, id="link"),
    pytest.param(write_new, {"behind": 32, "place": (0, 1020)}, id="link-unmarked"),
    pytest.param(write_new, {"behind": 32, "place": (0, 4)}, id="link-row-not-there"),
    pytest.param(write_new, {"behind": 32, "row": 2, "place": (0, 4)}, id="link-found"),
    pytest.param(write_new, {"behind": 512, "row": 5, "place": (4, 1018)}, id="512"),
    pytest.param(
        write_new,
        {"behind": 32, "row": 0, "version": 0x2000000, "marked": False},
        id="2e25",
    ),
    pytest.param(write_new, {"padding": 8}, id="longer-rows"),
    pytest.param(write_new, {"version": 0x1050000}, id="fusion"),
    pytest.param(write_old, {"row": 0}, id="old"),
    pytest.param(write_old, {"row": 6}, id="old-row-6"),
    pytest.param(write_old, {"row": None}, id="old-unmarked"),
]


@pytest.mark.parametrize(("write", "how"), KINDS)
def test_frames_are_those_of_the_camera(
    write: Any, how: dict[str, Any], tmp_path: Path
) -> None:
    frames = counts(5, 9, 14)
    write(tmp_path / "m.dcimg", frames.copy(), **how)
    with open_movie(tmp_path / "m.dcimg") as movie:
        assert (movie.n_frames, movie.height, movie.width) == frames.shape
        assert movie.dtype == np.uint16
        np.testing.assert_array_equal(movie.read(0, 5), frames)
        np.testing.assert_array_equal(movie.read(3, 4), frames[3:4])
        some = movie.read_rows(1, 4, 2, 7)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(some, frames[1:4, 2:7])
        assert movie.origin == how.get("place", (0, 0))
        assert movie.damage is None
        (note,) = movie.notes()
        assert "--baseline" in note
    assert find_movies(tmp_path) == [tmp_path / "m.dcimg"]


def test_a_row_that_is_not_marked_as_expected(tmp_path: Path) -> None:
    """Without the mark the row is told by the place on the chip."""
    frames = counts(4, 9, 14)
    how: dict[str, Any] = {"behind": 32, "place": (0, 1020), "marked": False}
    write_new(tmp_path / "m.dcimg", frames.copy(), row=3, **how)
    with open_movie(tmp_path / "m.dcimg") as movie:
        np.testing.assert_array_equal(movie.read(0, 4), frames)


@pytest.mark.parametrize("at", [116, 124])
def test_either_place_tells_what_is_behind_a_frame(at: int, tmp_path: Path) -> None:
    path = tmp_path / "m.dcimg"
    frames = counts(4, 9, 14)
    write_new(path, frames.copy(), behind=32, row=3, place=(0, 1020))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, START + at, 0)
    path.write_bytes(data)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 4), frames)


@pytest.mark.parametrize("marked", [True, False])
def test_binning(marked: bool, tmp_path: Path) -> None:
    frames = counts(3, 9, 14)
    path = tmp_path / "m.dcimg"
    how: dict[str, Any] = {"row": 4, "place": (8, 1014), "binning": 2}
    write_new(path, frames.copy(), behind=32, marked=marked, **how)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 3), frames)
        assert movie.origin == (0, 0)
        assert "binned 2 x 2" in movie.notes()[0]


def test_eight_bits(tmp_path: Path) -> None:
    frames = counts(3, 6, 11, kind="u1")
    path = tmp_path / "m.dcimg"
    write_new(path, frames.copy(), behind=32, row=3, place=(0, 1020))
    with open_movie(path) as movie:
        assert movie.dtype == np.uint8
        np.testing.assert_array_equal(movie.read(0, 3), frames)


@pytest.mark.parametrize("write", [write_new, write_old])
def test_times_of_the_frames(write: Any, tmp_path: Path) -> None:
    write(tmp_path / "m.dcimg", counts(4, 6, 11))
    with open_movie(tmp_path / "m.dcimg") as movie:
        times = [frame.timestamp_s for frame in MovieSource(movie, fps=1.0).frames()]
    np.testing.assert_allclose(times, [0, 0.03, 0.06, 0.09], atol=1e-6)


@pytest.mark.parametrize("write", [write_new, write_old])
@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        ([5, 6, 7, 9, 10, 14], "4 frames were lost.* after frame 2;"),
        ([0, 2, 3, 4, 5, 6], "1 frames were lost.* after frame 0;"),
        ([0, 1, 2, 3, 4, 6], "1 frames were lost.* after frame 4;"),
        ([0, 3, 6, 9, 12, 15], None),
        ([0, 0, 0, 0, 0, 0], None),
        ([9, 1, 2, 3, 4, 5], None),
    ],
    ids=["several", "first", "last", "every third", "none", "not rising"],
)
def test_lost_frames_are_said(
    write: Any, numbers: list[int], says: str | None, tmp_path: Path
) -> None:
    write(tmp_path / "m.dcimg", counts(6, 6, 11), numbers=numbers)
    with open_movie(tmp_path / "m.dcimg") as movie:
        notes = "\n".join(movie.notes())
        assert movie.n_frames == 6
    if says is None:
        assert "lost" not in notes
    else:
        assert re.search(says, notes)


def test_without_times_the_frame_rate_tells(tmp_path: Path) -> None:
    write_new(tmp_path / "m.dcimg", counts(3, 6, 11), behind=0)
    with open_movie(tmp_path / "m.dcimg") as movie:
        times = [frame.timestamp_s for frame in MovieSource(movie, fps=10.0).frames()]
    np.testing.assert_allclose(times, [0, 0.1, 0.2])


@pytest.mark.parametrize("write", [write_new, write_old])
def test_a_cut_file_gives_the_frames_before(write: Any, tmp_path: Path) -> None:
    frames = counts(6, 9, 14)
    path = tmp_path / "m.dcimg"
    write(path, frames.copy(), row=None)
    at = path.read_bytes().index(frames[4].astype("<u2").tobytes()) + 30
    path.write_bytes(path.read_bytes()[:at])
    with open_movie(path) as movie:
        assert movie.n_frames == 4
        np.testing.assert_array_equal(movie.read(0, 4), frames[:4])
        assert movie.damage is not None
        assert "after 4 of 6 frames" in movie.damage
        first_pixels = "table behind the last frame is missing" in movie.notes()[0]
        assert first_pixels == (write is write_old)
        with pytest.raises(MovieDamagedError):
            list(MovieSource(movie).frames())


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "m.dcimg"
    write_new(path, counts(6, 9, 14))
    with open_movie(path) as movie:
        with path.open("r+b") as file:
            file.truncate(PIXELS_AT + 2 * (9 * 14 * 2 + 16) + 10)
        with pytest.raises(MovieDamagedError, match="frame 2 of 6") as caught:
            movie.read(0, 6)
    assert caught.value.readable == 2


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (8, 0x8, r"version 0x8.*HCImage"),
        (START + 64, 4, "not consistent.*HCImage"),
        (START + 80, 8, "not consistent"),
        (START + 76, 10, "not consistent"),
        (START + 60, 0, "says 0 frames; is it still being recorded"),
    ],
    ids=["version", "depth", "row", "height", "frames"],
)
def test_headers_that_cannot_be(at: int, value: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.dcimg"
    write_new(path, counts(2, 9, 14))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, at, value)
    path.write_bytes(data)
    with pytest.raises(InputError, match=says) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [6, 60, 300])
def test_a_cut_header_is_one_line(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "m.dcimg"
    write_new(path, counts(2, 9, 14))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="dcimg") as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_sessions_after_the_first_are_said(tmp_path: Path) -> None:
    path = tmp_path / "m.dcimg"
    write_new(path, counts(2, 9, 14))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 36, 12)
    path.write_bytes(data)
    with open_movie(path) as movie:
        assert "the 2 frames of the first are read, of 12 in all" in movie.notes()[0]
