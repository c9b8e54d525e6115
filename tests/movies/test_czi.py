"""Zeiss .czi: files written segment by segment, as ZEN lays them out."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import MovieDamagedError, find_movies, open_movie

TEXT = b"""<?xml version="1.0"?>
<ImageDocument><Metadata><Information><Image><Dimensions>
<Channels><Channel><ExposureTime>30000000</ExposureTime></Channel></Channels>
</Dimensions></Image></Information><Scaling><Items><Distance Id="X"><Value>9.7E-08
</Value></Distance><Distance Id="Z"><Value>5E-08</Value></Distance></Items></Scaling>
</Metadata></ImageDocument>"""
KINDS = {"u1": 0, "u2": 1, "f4": 2}
Place = dict[str, int]


def _segment(name: bytes, data: bytes) -> bytes:
    return name.ljust(16, b"\0") + struct.pack("<qq", len(data), len(data)) + data


def _entry(
    frame: npt.NDArray[Any], place: Place, at: int, compression: int, stored: int
) -> bytes:
    height, width = frame.shape
    sizes = {"X": width, "Y": height}
    dimensions = [(key, 0, size, max(size // stored, 1)) for key, size in sizes.items()]
    dimensions += [(key, start, 1, 1) for key, start in place.items()]
    kind = KINDS[frame.dtype.str[1:]]
    packed = struct.pack(
        "<2siqiiB5xi", b"DV", kind, at, 0, compression, 0, 2 + len(place)
    )
    for key, start, size, kept in dimensions:
        packed += struct.pack("<4siifi", key.encode(), start, size, 0.0, kept)
    return packed


def write_czi(
    path: Path,
    frames: npt.NDArray[Any],
    places: list[Place] | None = None,
    *,
    compression: int = 0,
    about: bytes = b"<METADATA/>",
    stored: int = 1,
    listed: bool = True,
) -> None:
    """One picture per place (T = 0, 1, ... unless said); the list at the end."""
    places = places or [{"T": k, "C": 0} for k in range(len(frames))]
    file = bytearray(32 + 512)
    entries = b""
    for frame, place in zip(frames, places, strict=True):
        entry = _entry(frame, place, len(file), compression, stored)
        entries += entry
        head = struct.pack("<iiq", len(about), 0, frame.nbytes) + entry
        file += _segment(
            b"ZISRAWSUBBLOCK", head.ljust(256, b"\0") + about + frame.tobytes()
        )
    text_at = len(file)
    head = struct.pack("<ii", len(TEXT), 0).ljust(256, b"\0")
    file += _segment(b"ZISRAWMETADATA", head + TEXT)
    listed_at = len(file) if listed else 0
    head = struct.pack("<i", len(places)).ljust(128, b"\0")
    file += _segment(b"ZISRAWDIRECTORY", head + entries)
    file[: 32 + 512] = _segment(b"ZISRAWFILE", bytes(512))
    struct.pack_into("<qq", file, 32 + 52, listed_at, text_at)
    path.write_bytes(bytes(file))


def counts(shape: tuple[int, ...], kind: str = "u2") -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, 250, shape).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 7, 9), (5, 21, 34)], ids=["one", "odd"])
def test_frames_are_those_written(
    shape: tuple[int, int, int], kind: str, tmp_path: Path
) -> None:
    frames = counts(shape, kind)
    write_czi(tmp_path / "m.czi", frames, about=b"<METADATA/>" * 40)
    with open_movie(tmp_path / "m.czi") as movie:
        assert (movie.n_frames, movie.height, movie.width) == shape
        assert movie.dtype == np.dtype(kind)
        np.testing.assert_array_equal(movie.read(0, shape[0]), frames)
        assert movie.facts() == {
            "pixel_size_nm": pytest.approx(97),
            "exposure_ms": pytest.approx(30),
        }
        assert movie.notes() == ()
    assert find_movies(tmp_path) == [tmp_path / "m.czi"]


def test_long_entries_push_the_pixels_back(tmp_path: Path) -> None:
    frames = counts((3, 8, 9))
    more = dict.fromkeys("CZSMHRIBVQ", 0)
    write_czi(tmp_path / "m.czi", frames, [{"T": k, **more} for k in range(3)])
    with open_movie(tmp_path / "m.czi") as movie:
        np.testing.assert_array_equal(movie.read(0, 3), frames)


def test_frames_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    frames = counts((4, 8, 9))
    # Each entry has as many dimensions as its picture says, so lengths differ.
    places: list[Place] = [{"T": 3}, {"T": 0, "C": 0, "B": 0}, {"T": 7}, {"T": 2}]
    write_czi(tmp_path / "m.czi", frames, places)
    with open_movie(tmp_path / "m.czi") as movie:
        np.testing.assert_array_equal(movie.read(0, 4), frames[[1, 3, 0, 2]])
        (note,) = movie.notes()
        assert "4 of 8 times are missing" in note


@pytest.mark.parametrize(
    ("axis", "says"),
    [
        ("C", "2 channels.*Subset"),
        ("Z", "2 planes along z"),
        ("S", "2 scenes"),
        ("M", "2 tiles of a mosaic"),
        ("Q", "2 steps of axis Q"),
    ],
)
def test_other_axes_are_not_read_as_frames(
    axis: str, says: str, tmp_path: Path
) -> None:
    places = [{"T": k // 2, axis: k % 2} for k in range(6)]
    write_czi(tmp_path / "m.czi", counts((6, 8, 9)), places)
    with pytest.raises(InputError, match=says) as caught:
        open_movie(tmp_path / "m.czi")
    assert "\n" not in str(caught.value)


def test_a_stack_of_beads(tmp_path: Path) -> None:
    """Planes at one time: what `calibrate` needs; for a movie it is said."""
    path = tmp_path / "m.czi"
    frames = counts((4, 8, 9))
    write_czi(path, frames, [{"T": 0, "Z": z} for z in (2, 0, 3, 1)])
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 4), frames[[1, 3, 0, 2]])
        assert movie.z_step_nm == pytest.approx(50)  # type: ignore[attr-defined]
        assert "z_step_nm" not in movie.facts()
        (note,) = movie.notes()
        assert "planes along z are read as frames" in note
    write_czi(path, frames, [{"Z": 0}, {"Z": 1}, {"Z": 1}, {"Z": 2}])
    with pytest.raises(InputError, match="several pictures of one"):
        open_movie(path)
    write_czi(path, frames)
    with open_movie(path) as movie:
        assert movie.z_step_nm is None  # type: ignore[attr-defined]
        assert movie.notes() == ()


def test_what_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "m.czi"
    write_czi(path, counts((3, 8, 9)), compression=6)
    with pytest.raises(InputError, match=r"compression 6.*OME-TIFF"):
        open_movie(path)
    write_czi(path, counts((3, 8, 9)), [{"T": 0}, {"T": 1}, {"T": 1}])
    with pytest.raises(InputError, match="several pictures of one time"):
        open_movie(path)
    write_czi(path, counts((3, 8, 9)), stored=2)  # only small ones, for looking at
    with pytest.raises(InputError, match="list of pictures cannot be read"):
        open_movie(path)
    write_czi(path, counts((3, 8, 9)), listed=False)
    with pytest.raises(InputError, match="was the recording stopped") as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [20, 600, -40])
def test_a_file_that_was_cut_is_one_line(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "m.czi"
    write_czi(path, counts((3, 8, 9)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="or the copy"):
        open_movie(path)


def test_a_picture_that_is_not_there_ends_the_movie(tmp_path: Path) -> None:
    path = tmp_path / "m.czi"
    frames = counts((4, 8, 9))
    write_czi(path, frames)
    content = path.read_bytes()
    third = [k for k in range(len(content)) if content.startswith(b"ZISRAWSUBB", k)][2]
    path.write_bytes(content[:third] + b"X" + content[third + 1 :])
    with open_movie(path) as movie:
        with pytest.raises(MovieDamagedError, match="frame 2 of 4") as caught:
            movie.read(0, 4)
        assert caught.value.readable == 2
        np.testing.assert_array_equal(movie.read(0, 2), frames[:2])
