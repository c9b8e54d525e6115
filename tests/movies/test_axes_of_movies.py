"""Which axes of a data set or an array are time."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import MovieDamagedError, open_movie

tifffile = pytest.importorskip("tifffile", reason="TIFF files are written by tifffile")
Stack = npt.NDArray[Any]


def _ndtiff(folder: Path, stack: Stack, axes: list[dict[str, Any]]) -> Path:
    """A data set of one file, as NDTiff 3 has it; the path of that file."""
    folder.mkdir()
    path = folder / "d_NDTiffStack.tif"
    with tifffile.TiffWriter(path) as file:
        for frame in stack[: len(axes)]:
            file.write(frame, metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as file:
        starts = [page.dataoffsets[0] for page in file.pages]
    records = b""
    for one, start in zip(axes, starts, strict=True):
        for text in (json.dumps(one).encode(), path.name.encode()):
            records += struct.pack("<I", len(text)) + text
        height, width = stack.shape[1:]
        records += struct.pack("<8I", start, width, height, 1, 0, 0, 0, 0)
    (folder / "NDTiff.index").write_bytes(records)
    return path


@pytest.mark.parametrize("axis", ["channel", "position", "row", "column"])
def test_channels_and_positions_are_no_frames(
    axis: str, tmp_path: Path, stack: Stack
) -> None:
    path = _ndtiff(tmp_path / "d", stack, [{axis: name} for name in ("a", "b")])
    for given in (path.parent, path):
        with pytest.raises(InputError, match=f"holds 2 {axis}s, and a movie is one"):
            open_movie(given)


def test_an_image_written_again_takes_the_place(tmp_path: Path, stack: Stack) -> None:
    path = _ndtiff(tmp_path / "d", stack, [{"time": t} for t in (0, 1, 1, 4, 0)])
    for given in (path.parent, path):
        with open_movie(given) as movie:
            np.testing.assert_array_equal(movie.read(0, 3), stack[[4, 2, 3]])
            assert "2 images" in movie.notes()[0]


def test_stacks_at_several_times_are_told(tmp_path: Path, stack: Stack) -> None:
    axes = [{"time": t, "z": z} for t in range(3) for z in range(2)]
    path = _ndtiff(tmp_path / "d", stack, axes)
    with pytest.raises(InputError, match="holds 3 times, 2 zs, and a movie is one"):
        open_movie(path.parent)
    # For bead stacks, as other hyperstacks.
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 6), stack[:6])
        assert "read in their order" in movie.notes()[0]


def test_another_file_in_the_folder_is_itself(tmp_path: Path, stack: Stack) -> None:
    path = _ndtiff(tmp_path / "d", stack, [{"time": t} for t in range(3)])
    other = path.with_name("snap.tif")
    tifffile.imwrite(other, stack[5:], metadata=None)
    with open_movie(other) as movie:
        np.testing.assert_array_equal(movie.read(0, 2), stack[5:])


def test_colours_are_not_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((42, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"\(42, 64, 3\) the last axis is of colours"):
        open_movie(tmp_path / "m.npy")


def test_a_damaged_index_is_one_line(tmp_path: Path, stack: Stack) -> None:
    path = _ndtiff(tmp_path / "d", stack, [{"time": t} for t in range(3)])
    index = path.with_name("NDTiff.index")
    index.write_bytes(index.read_bytes().replace(b'{"time": 1', b'["time: 1'))
    with pytest.raises(InputError, match="damaged"):
        open_movie(path)


def _ome_zarr(path: Path, pixels: Stack, axes: str) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(str(path))
    group.create_array("0", data=pixels)
    kinds = {"t": "time", "c": "channel"}
    described = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    image = {"datasets": [{"path": "0"}], "axes": described}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path


def test_channels_of_an_ome_zarr_are_no_frames(tmp_path: Path, stack: Stack) -> None:
    one = _ome_zarr(tmp_path / "t.zarr", stack[:, None], "tcyx")
    with open_movie(one) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)
    with pytest.raises(InputError, match=r"c\.zarr has 7 channels"):
        open_movie(_ome_zarr(tmp_path / "c.zarr", stack[None], "tcyx"))


@pytest.mark.parametrize("axes", ["txy", "yxt", "xyt"])
def test_axes_that_do_not_end_in_rows_and_columns(
    axes: str, tmp_path: Path, stack: Stack
) -> None:
    turned = stack.transpose(["tyx".index(axis) for axis in axes])
    with pytest.raises(InputError, match=f"axes are {', '.join(axes)}, .* end in y, x"):
        open_movie(_ome_zarr(tmp_path / "m.zarr", turned, axes))
    zarr = pytest.importorskip("zarr")
    # As xarray names them.
    path = tmp_path / "n.zarr"
    zarr.create_array(str(path), data=turned, dimension_names=tuple(axes))
    with pytest.raises(InputError, match="end in y, x; save the array"):
        open_movie(path)


@pytest.mark.parametrize(
    ("level", "image", "unit", "nm"),
    [
        ([1, 0.1, 0.1], None, "micrometer", 100),
        ([1, 1, 1], [1, 0.1, 0.1], "micrometer", 100),
        ([1, 2, 2], [1, 0.05, 0.05], "micrometer", 100),
        (None, [1, 1000, 1000], "angstrom", 100),
        ([1, 0.1, 0.1], None, None, None),
    ],
)
def test_scales_of_an_ome_zarr_multiply(
    level: list[float] | None,
    image: list[float] | None,
    unit: str | None,
    nm: float | None,
    tmp_path: Path,
    stack: Stack,
) -> None:
    """Of the level, and of all levels, as OME-NGFF 0.4 and 0.5 have it."""
    zarr = pytest.importorskip("zarr")
    path = _ome_zarr(tmp_path / "m.zarr", stack, "tyx")
    group = zarr.open_group(str(path))
    ome = group.attrs["ome"]
    (described,) = ome["multiscales"]
    for scale, where in ((level, described["datasets"][0]), (image, described)):
        if scale is not None:
            where["coordinateTransformations"] = [{"type": "scale", "scale": scale}]
    for axis in described["axes"][1:] if unit else ():
        axis["unit"] = unit
    group.attrs["ome"] = ome
    with open_movie(path) as movie:
        assert movie.facts().get("pixel_size_nm") == (nm and pytest.approx(nm))


@pytest.mark.parametrize("ndim", [3, 4])
def test_a_chunk_that_is_damaged_or_missing(
    ndim: int, tmp_path: Path, stack: Stack
) -> None:
    zarr = pytest.importorskip("zarr")
    pixels = stack if ndim == 3 else stack[:, None]
    path = tmp_path / "m.zarr"
    zarr.create_array(str(path), data=pixels, chunks=(1, *pixels.shape[1:]))
    (chunk,) = (file for file in (path / "c" / "4").rglob("*") if file.is_file())
    chunk.write_bytes(b"not a chunk")
    with open_movie(path) as movie:
        assert movie.notes() == ()
        with pytest.raises(MovieDamagedError, match="frame 4 of 7") as caught:
            movie.read(0, 7)
        assert caught.value.readable == 4
        with pytest.raises(MovieDamagedError, match="frame 4 of 7"):
            movie.read_rows(3, 6, 1, 3)  # type: ignore[attr-defined]
    chunk.unlink()
    with open_movie(path) as movie:
        (note,) = movie.notes()
        assert "1 of 7 chunks are not there" in note
        np.testing.assert_array_equal(movie.read(3, 5), [stack[3], 0 * stack[4]])
