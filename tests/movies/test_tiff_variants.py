"""TIFF files of writers that use the format in ways of their own."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import open_movie

tifffile = pytest.importorskip("tifffile", reason="odd files are decoded by tifffile")
Stack = npt.NDArray[Any]


def _write(path: Path, pixels: bytes, **tags: int | tuple[int, ...]) -> Path:
    """A little-endian TIFF of one directory; pixels start at byte 8."""
    given = {int(tag[1:]): value for tag, value in tags.items()}
    entries, rest = [], b""
    after = 8 + len(pixels) + 2 + 12 * len(given) + 4
    for tag, value in sorted(given.items()):
        values = value if isinstance(value, tuple) else (value,)
        data = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            data, rest = struct.pack("<I", after + len(rest)), rest + data
        # MetaMorph's list of planes is of pairs; how many is what is read.
        entries.append(struct.pack("<HHI4s", tag, 4, len(values), data))
    head = b"II*\0" + struct.pack("<I", 8 + len(pixels))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + b"\0" * 4
    path.write_bytes(head + pixels + directory + rest)
    return path


def _size(frame: Stack) -> dict[str, int]:
    return {"t256": frame.shape[1], "t257": frame.shape[0], "t258": 16, "t277": 1}


def _reversed_bits(path: Path, stack: Stack) -> Stack:
    data = np.frombuffer(stack[0].tobytes(), np.uint8)
    turned = np.packbits(np.unpackbits(data), bitorder="little").tobytes()
    _write(
        path, turned, **_size(stack[0]), t259=1, t262=1, t266=2, t273=8, t279=len(data)
    )
    return stack[:1]


def _tiles_as_strips(path: Path, stack: Stack) -> Stack:
    """libtiff of the nineties: tiles, and their places under the tags of strips."""
    frame = np.resize(stack, (20, 37))
    tiles = np.zeros((2, 3, 16, 16), np.uint16)
    for r in range(2):
        for c in range(3):
            part = frame[16 * r : 16 * r + 16, 16 * c : 16 * c + 16]
            tiles[r, c, : part.shape[0], : part.shape[1]] = part
    starts = tuple(8 + 512 * i for i in range(6))
    where = {"t273": starts, "t279": (512,) * 6, "t322": 16, "t323": 16}
    _write(path, tiles.tobytes(), **_size(frame), t259=1, t262=1, **where)
    return frame[None]


def _padded_strips(path: Path, stack: Stack) -> Stack:
    """Two rows a strip, each strip with room for a third."""
    frame = np.resize(stack, (4, 9))
    rows = np.zeros((2, 3, 9), np.uint16)
    rows[:, :2] = frame.reshape(2, 2, 9)
    where = {"t273": (8, 62), "t278": 2, "t279": (54, 54)}
    _write(path, rows.tobytes(), **_size(frame), t259=1, t262=1, **where)
    return frame[None]


def _metamorph(path: Path, stack: Stack) -> Stack:
    where = {"t273": 8, "t279": stack[0].nbytes, "t33629": tuple(range(len(stack)))}
    _write(path, stack.tobytes(), **_size(stack[0]), t259=1, t262=1, **where)
    return stack


def _thumbnail_first(path: Path, stack: Stack) -> Stack:
    with tifffile.TiffWriter(path) as file:
        file.write(stack[0, ::2, ::2], subfiletype=1, metadata=None)
        for frame in stack:
            file.write(frame, metadata=None)
    return stack


def _thumbnail_alone(path: Path, stack: Stack) -> Stack:
    tifffile.imwrite(path, stack[0], subfiletype=1, metadata=None)
    return stack[:1]


VARIANTS = {
    "reversed_bits": _reversed_bits,
    "tiles_as_strips": _tiles_as_strips,
    "padded_strips": _padded_strips,
    "metamorph": _metamorph,
    "thumbnail_first": _thumbnail_first,
    "thumbnail_alone": _thumbnail_alone,
}


@pytest.mark.parametrize("write", VARIANTS.values(), ids=VARIANTS.keys())
def test_pixels_are_those_meant(write: Any, tmp_path: Path, stack: Stack) -> None:
    path = tmp_path / "m.tif"
    meant = write(path, stack)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, movie.n_frames), meant)
        got = movie.read_rows(0, 1, 1, 3)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(got, meant[:1, 1:3])


def test_a_metamorph_stack_that_was_cut_says_so(tmp_path: Path, stack: Stack) -> None:
    path = tmp_path / "m.stk"
    where = {"t273": 8, "t279": stack[0].nbytes, "t33629": tuple(range(99))}
    _write(path, stack.tobytes(), **_size(stack[0]), t259=1, t262=1, **where)
    with open_movie(path) as movie:
        assert movie.damage is not None
        assert "of 99 frames" in movie.damage
    _write(path, stack.tobytes(), **_size(stack[0]), t259=5, t262=1, **where)
    with pytest.raises(InputError, match="compressed MetaMorph stack of 99 planes"):
        open_movie(path)


def test_pages_without_rows_are_no_movie(tmp_path: Path) -> None:
    size = {"t256": 9, "t257": 0, "t258": 16}
    path = _write(tmp_path / "m.tif", bytes(18), **size, t273=8, t279=18, t33629=(1, 2))
    with pytest.raises(InputError, match="no frame can be read"):
        open_movie(path)


def test_a_damaged_description_is_none(tmp_path: Path, stack: Stack) -> None:
    path, xml = tmp_path / "m.tif", '<?xml version="1.0" encoding="UT--8"?><OME></OME>'
    tifffile.imwrite(path, stack, description=xml, metadata=None)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)


def test_a_part_of_a_recording_says_so(tmp_path: Path, stack: Stack) -> None:
    path = tmp_path / "m_1.ome.tif"
    xml = '<OME><BinaryOnly UUID="urn:uuid:1" MetadataFile="m.ome.tif"/></OME>'
    tifffile.imwrite(path, stack, description=xml, metadata=None)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)
        (note,) = movie.notes()
        assert "listed in m.ome.tif" in note


@pytest.mark.parametrize(
    ("name", "beside", "told"),
    [
        ("m_MMStack_Pos0.ome.tif", "m_MMStack_Pos0_1.ome.tif", True),
        ("m_MMStack.ome.tif", "m_MMStack_1.ome.tif", True),
        ("m_MMStack_Pos0_1.ome.tif", "m_MMStack_Pos0_2.ome.tif", True),
        ("m_MMStack_1-Pos_000_001.ome.tif", "m_MMStack_1-Pos_000_001_1.ome.tif", True),
        ("m_MMStack_1-Pos_000_001.ome.tif", "m_MMStack_1-Pos_000_002.ome.tif", False),
        ("m_MMStack_Pos0.ome.tif", "m_MMStack_Pos1.ome.tif", False),
        ("m.ome.tif", "m_1.ome.tif", False),
    ],
)
def test_files_that_an_interrupted_recording_does_not_list(
    name: str, beside: str, told: bool, tmp_path: Path, stack: Stack
) -> None:
    """Micro-Manager writes the description of all files when it is done."""
    for each in (name, beside):
        tifffile.imwrite(tmp_path / each, stack, ome=False, metadata=None)
    with open_movie(tmp_path / name) as movie:
        assert movie.n_frames == len(stack)
        assert [beside in note for note in movie.notes()] == [True] * told


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_planes_at_several_times_are_told(
    kind: str, tmp_path: Path, stack: Stack
) -> None:
    path = tmp_path / "m.tif"
    both = stack[:6].reshape(3, 2, 1, *stack.shape[1:])
    tifffile.imwrite(path, both, **{kind: True}, metadata={"axes": "TZCYX"})
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 6), stack[:6])
        (note,) = movie.notes()
        assert "2 planes (z) at 3 times" in note
    tifffile.imwrite(path, stack, **{kind: True}, metadata={"axes": "ZYX"})
    with open_movie(path) as movie:
        assert movie.notes() == ()


@pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("imagecodecs") is not None,
    reason="imagecodecs is here and decodes it",
)
def test_a_predictor_names_the_package_it_needs(tmp_path: Path) -> None:
    path, data = tmp_path / "m.tif", zlib.compress(bytes(8 * 9 * 4))
    size = {"t256": 9, "t257": 8, "t258": 32, "t339": 3}
    _write(path, data, **size, t259=8, t262=1, t273=8, t279=len(data), t317=3)
    with (
        open_movie(path) as movie,
        pytest.raises(InputError, match=r"FLOATINGPOINT.*pip install imagecodecs"),
    ):
        movie.read(0, 1)
