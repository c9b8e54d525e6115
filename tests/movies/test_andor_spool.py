"""Folders as Andor Solis spools them (doubles), beside what a real one looks like."""

from __future__ import annotations

import shutil
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
    movie_identity,
    open_movie,
)

Frames = npt.NDArray[Any]
PACKED = "Mono12Packed"


def _packed(frame: Frames) -> bytes:
    """Two pixels in three bytes: AAAAAAAA bbbbaaaa BBBBBBBB."""
    rows = b""
    for row in frame.astype(int).tolist():
        for a, b in zip(row[::2], [*row[1::2], 0], strict=False):
            rows += bytes([a >> 4, (b & 15) << 4 | a & 15, b >> 4])
    return rows


def write_spool(
    folder: Path,
    frames: Frames,
    encoding: str = "Mono16",
    *,
    per_file: int = 1,
    padding: int = 0,
    header: bool = True,
    sums: int = 1,
    binning: int = 1,
    tracks: int = 1,
) -> None:
    """What Solis leaves behind; `padding` bytes at the end of every row."""
    folder.mkdir(parents=True)
    count, height, width = frames.shape
    images = []
    for frame in frames:
        pixels = _packed(frame) if encoding == PACKED else frame.tobytes()
        rows = np.frombuffer(pixels, np.uint8).reshape(height, -1)
        stride = rows.shape[1] + padding
        data = np.pad(rows, ((0, 0), (0, padding)), constant_values=7).tobytes()
        images.append(data + b"\1\0remarks of the camera")
    size = len(images[0])
    empty = [bytes(size)] * (-count % per_file)
    for number in range(-(-count // per_file)):
        some = (images + empty)[number * per_file : (number + 1) * per_file]
        (folder / f"{f'{number:010d}'[::-1]}spool.dat").write_bytes(b"".join(some))
    (folder / "acquisitionmetadata.ini").write_text(
        f"[data]\nAOIHeight = {height}\nAOIWidth = {width}\nAOIStride = {stride}\n"
        f"PixelEncoding = {encoding}\nImageSizeBytes = {size}\n\n\n[multiimage]\n"
        f"ImagesPerFile = {per_file}\n",
        encoding="utf-8-sig",
    )
    if header:
        area = f"1 {height * binning} {width * binning} 1"
        (folder / "Spooled files.sifx").write_bytes(
            b"Andor Technology Multi-Channel File\n65538 1\n65567 0 0 1 1688045056 0 "
            b"\0 \n \0 \1 \0 0 0.02 0.03 0.03 "
            + f"{sums} \0 0.03 1e-09 0 1 0\nZYLA-5.5-CL10\n".encode()
            + b"12\nPixel number6\nCounts12\nPixel number65541 "
            + f"{area} {count} {tracks} {count * height * width} ".encode()
            + f"{height * width}\n65538 {area} {binning} {binning} 0\n".encode()
        )


def counts(*shape: int, top: int = 4095, kind: str = "<u2") -> Frames:
    return np.random.default_rng(0).integers(90, top, shape).astype(kind)


@pytest.mark.parametrize(
    ("encoding", "kind", "how"),
    [
        ("Mono16", "<u2", {}),
        ("Mono16", "<u2", {"per_file": 4, "padding": 10}),
        ("Mono12", "<u2", {}),
        ("Mono8", "u1", {"padding": 3}),
        ("Mono32", "<u4", {"per_file": 5}),
        (PACKED, "<u2", {"per_file": 2, "padding": 20}),
        (PACKED, "<u2", {}),
    ],
)
@pytest.mark.parametrize("width", [8, 13])
def test_frames_are_those_of_the_camera(
    encoding: str, kind: str, how: dict[str, Any], width: int, tmp_path: Path
) -> None:
    top = 255 if kind == "u1" else 4095
    frames = counts(13, 7, width, top=top, kind=kind)
    folder = tmp_path / "run 1"
    write_spool(folder, frames, encoding, **how)
    with open_movie(folder) as movie:
        assert (movie.n_frames, movie.height, movie.width) == frames.shape
        np.testing.assert_array_equal(movie.read(0, 13), frames)
        np.testing.assert_array_equal(movie.read(11, 13), frames[11:])
        some = movie.read_rows(3, 6, 2, 5)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(some, frames[3:6, 2:5])
        bits = {"bit_depth": 12} if "12" in encoding else {}
        assert movie.facts() == {"exposure_ms": pytest.approx(20), **bits}
        assert movie.damage is None
        (note,) = movie.notes()
        assert "--baseline" in note
    assert find_movies(tmp_path) == [folder]
    assert find_movies(folder) == [folder]


@pytest.mark.parametrize(
    "name", ["Spooled files.sifx", "acquisitionmetadata.ini", "1000000000spool.dat"]
)
def test_any_of_its_files_is_the_folder(name: str, tmp_path: Path) -> None:
    write_spool(tmp_path / "m", counts(3, 7, 8))
    with open_movie(tmp_path / "m" / name) as movie:
        assert movie.n_frames == 3


def test_sums_and_binning_are_said(tmp_path: Path) -> None:
    write_spool(tmp_path / "m", counts(3, 7, 8), sums=5, binning=2)
    with open_movie(tmp_path / "m") as movie:
        notes = "\n".join(movie.notes())
    assert "sum of 5, so baseline and noise" in notes
    assert "binned 2 x 2" in notes


def test_without_header_all_frames_are_read(tmp_path: Path) -> None:
    frames = counts(6, 7, 8)
    write_spool(tmp_path / "m", frames, per_file=4, header=False)
    with open_movie(tmp_path / "m") as movie:
        assert movie.n_frames == 8
        np.testing.assert_array_equal(movie.read(0, 6), frames)
        assert "the last ones may be empty" in movie.notes()[0]
        assert movie.facts() == {}


def test_files_that_are_missing(tmp_path: Path) -> None:
    frames = counts(13, 7, 8)
    write_spool(tmp_path / "m", frames)
    (tmp_path / "m" / "5000000000spool.dat").unlink()
    with open_movie(tmp_path / "m") as movie:
        assert movie.n_frames == 5
        np.testing.assert_array_equal(movie.read(0, 5), frames[:5])
        assert "file 5 of the spooled ones is missing" in str(movie.damage)
        with pytest.raises(MovieDamagedError):
            list(MovieSource(movie).frames())
    (tmp_path / "m" / "0000000000spool.dat").unlink()
    with pytest.raises(InputError, match="file 0 of the spooled ones is missing"):
        open_movie(tmp_path / "m")


@pytest.mark.parametrize("per_file", [1, 4])
def test_a_recording_that_was_stopped(per_file: int, tmp_path: Path) -> None:
    """The last file was half written, and those after it not at all."""
    frames = counts(11, 7, 8)
    folder = tmp_path / "m"
    write_spool(folder, frames, per_file=per_file)
    last = sorted(folder.glob("*spool.dat"), key=lambda p: p.name[9::-1])[-1]
    if per_file == 1:
        last.unlink()
        last = folder / "9000000000spool.dat"
    last.write_bytes(last.read_bytes()[: -last.stat().st_size // per_file - 30])
    there = 9 if per_file == 1 else 10
    with open_movie(folder) as movie:
        assert movie.n_frames == there
        np.testing.assert_array_equal(movie.read(0, there), frames[:there])
        assert f"after {there} of 11 frames" in str(movie.damage)


def test_a_file_in_the_middle_that_was_cut(tmp_path: Path) -> None:
    frames = counts(6, 7, 8)
    write_spool(tmp_path / "m", frames)
    path = tmp_path / "m" / "2000000000spool.dat"
    path.write_bytes(path.read_bytes()[:50])
    with open_movie(tmp_path / "m") as movie:
        with pytest.raises(MovieDamagedError, match="2000000000spool") as caught:
            movie.read(0, 6)
        assert caught.value.readable == 2


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("AOIHeight", "Height", "does not say how the frames lie.*AOIHeight"),
        ("Mono16", "Mono12Coded", "Mono12Coded, and blinkloop reads.*Solis"),
        ("AOIStride = 16", "AOIStride = 14", "not consistent"),
        ("AOIHeight = 7", "AOIHeight = 70", "not consistent"),
        ("AOIWidth = 8", "AOIWidth = x", "does not say how"),
        ("[data]", "", "does not say how"),
    ],
)
def test_descriptions_that_cannot_be(
    old: str, new: str, says: str, tmp_path: Path
) -> None:
    write_spool(tmp_path / "m", counts(3, 7, 8))
    about = tmp_path / "m" / "acquisitionmetadata.ini"
    about.write_text(about.read_text("utf-8").replace(old, new), "utf-8")
    with pytest.raises(InputError, match=says) as caught:
        open_movie(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_parts_of_a_folder_that_are_missing(tmp_path: Path) -> None:
    write_spool(tmp_path / "m", counts(3, 7, 8), tracks=2)
    with pytest.raises(InputError, match="2 tracks per frame"):
        open_movie(tmp_path / "m")
    (tmp_path / "m" / "acquisitionmetadata.ini").unlink()
    with pytest.raises(InputError, match=r"acquisitionmetadata\.ini is missing"):
        open_movie(tmp_path / "m" / "Spooled files.sifx")
    shutil.rmtree(tmp_path / "m")
    write_spool(tmp_path / "m", counts(1, 7, 8))
    (tmp_path / "m" / "0000000000spool.dat").unlink()
    with pytest.raises(InputError, match=r"files of frames.* are missing"):
        open_movie(tmp_path / "m")


def test_exported_files_are_the_movie_when_only_they_are_left(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    folder = tmp_path / "m"
    frames = counts(3, 7, 8)
    write_spool(folder, frames)
    tifffile.imwrite(folder / "exported.tif", frames[:2])
    with open_movie(folder) as movie:
        assert movie.n_frames == 3
    for path in folder.glob("*spool.dat"):
        path.unlink()
    with open_movie(folder) as movie:
        np.testing.assert_array_equal(movie.read(0, 2), frames[:2])


def test_another_recording_is_another_movie(tmp_path: Path) -> None:
    """An interrupted fit must not go on with other frames in the same folder."""
    folder = tmp_path / "m"
    write_spool(folder, counts(3, 7, 8))
    with open_movie(folder) as movie:
        before = movie_identity(folder, movie)
        assert before["bytes"] > 3 * 7 * 8 * 2
        (folder / "locs.csv").write_text("a table")
        assert movie_identity(folder, movie) == before
        path = folder / "1000000000spool.dat"
        path.write_bytes(path.read_bytes() + b"\0")
        assert movie_identity(folder, movie) != before
