"""Files as other programs leave them: data sets in parts, renamed, of makers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import find_movies, movie_identity, open_movie

tifffile = pytest.importorskip("tifffile", reason="TIFF files are written by tifffile")
h5py = pytest.importorskip("h5py")
Stack = npt.NDArray[Any]


@pytest.fixture
def wide() -> Stack:
    """(7, 9, 13): as `stack`, and large enough for a dataset to be a movie."""
    return (np.arange(7 * 9 * 13, dtype=np.uint16) * 3 + 100).reshape(7, 9, 13)


def _hdf5(path: Path, stack: Stack) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("cam/frames", data=stack, chunks=True, compression="gzip")
        file["time_s"] = np.arange(len(stack))
        file["mean"] = stack.mean(0)
    return path


def _hdf5_5d(path: Path, stack: Stack) -> Path:
    with h5py.File(path, "w") as file:
        file["t0"] = stack[:, None, None]
    return path


def _matlab(path: Path, stack: Stack) -> Path:
    """`save('m.mat', 'movie', '-v7.3')` of an array (rows, columns, frames)."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["movie"] = stack.swapaxes(1, 2)
        file["movie"].attrs["MATLAB_class"] = np.bytes_("uint16")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116))
    return path


def _dax(order: str, word: str) -> Callable[[Path, Stack], Path]:
    def write(path: Path, stack: Stack) -> Path:
        stack.astype(f"{order}u2").tofile(path)
        n, height, width = stack.shape
        path.with_suffix(".inf").write_text(
            f"binning = 1 x 1\r\nframe dimensions = {width} x {height}\r\n"
            f"number of frames = {n}\r\n"
            f" data type = 16 bit integers (binary, {word} endian)\r\n"
            f"x_start = 65\r\ny_start = 33\r\n"
        )
        return path

    return write


def _ndtiff(path: Path, stack: Stack) -> Path:
    storage = pytest.importorskip("ndstorage")
    made = storage.NDTiffDataset(
        str(path.parent), name=path.name, summary_metadata={"a": 1}, writable=True
    )
    for t, frame in enumerate(stack):
        made.put_image({"channel": 0, "time": t}, frame, {"PixelSizeUm": 0.11})
    made.finish()
    made.close()
    return path.parent / f"{path.name}_1"


def _group(layout: str) -> Callable[[Path, Stack], Path]:
    def write(path: Path, stack: Stack) -> Path:
        zarr = pytest.importorskip("zarr")
        group = zarr.create_group(str(path))
        if layout == "single":
            group.create_array("movie", data=stack)
            return path
        group.attrs["ome"] = {"bioformats2raw.layout": 3, "version": "0.5"}
        group.create_group("OME")
        image = group.create_group("0")
        image.create_array("0", data=stack[:, None, None])
        image.attrs["ome"] = {
            "multiscales": [{"datasets": [{"path": "0"}], "axes": list("tczyx")}]
        }
        return path

    return write


WRITERS = {
    "hdf5": ("m.h5", _hdf5),
    "hdf5_5d": ("m.hdf5", _hdf5_5d),
    "matlab": ("m.mat", _matlab),
    "dax": ("m.dax", _dax(">", "big")),
    "dax_little": ("m.dax", _dax("<", "little")),
    "ndtiff": ("m", _ndtiff),
    "zarr_group": ("m.zarr", _group("single")),
    "bioformats2raw": ("m.zarr", _group("bf")),
}


# ndstorage leaves files open.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "write"), WRITERS.values(), ids=WRITERS.keys())
def test_frames_are_those_written(
    name: str, write: Callable[[Path, Stack], Path], tmp_path: Path, wide: Stack
) -> None:
    path = write(tmp_path / name, wide)
    assert find_movies(path) == [path]
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), wide)
        np.testing.assert_array_equal(movie.read(5, 6), wide[5:6])
        got = movie.read_rows(2, 4, 3, 8)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(got, wide[2:4, 3:8])
        assert movie.dtype == np.uint16
        assert movie_identity(path, movie)["frames"] == 7
        if name.endswith(".dax"):
            assert movie.origin == (64, 32)
        if write is _ndtiff:
            assert movie.facts()["pixel_size_nm"] == pytest.approx(110)


def test_a_dataset_behind_a_link_can_be_named(tmp_path: Path, wide: Stack) -> None:
    _hdf5(tmp_path / "data.h5", wide)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["soft"] = h5py.SoftLink("/far")
        file["far"] = h5py.ExternalLink("data.h5", "/cam/frames")
        file["lost"] = h5py.ExternalLink("nowhere.h5", "/cam/frames")
    for name in ("soft", "far"):
        with open_movie(tmp_path / "m.h5" / name) as movie:
            np.testing.assert_array_equal(movie.read(0, 7), wide)
    with pytest.raises(InputError, match="holds no dataset lost"):
        open_movie(tmp_path / "m.h5" / "lost")


def test_of_several_datasets_one_is_named(tmp_path: Path, wide: Stack) -> None:
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file["run/images"] = wide
        file["dark"] = wide[:2]
    with pytest.raises(InputError, match=r"2 datasets .* name one, e\.g\. m\.h5/dark"):
        open_movie(path)
    named = path / "run" / "images"
    with open_movie(named) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), wide)
        assert movie_identity(named, movie)["bytes"] == path.stat().st_size
    with pytest.raises(InputError, match="holds no dataset runs"):
        open_movie(path / "runs")
    with h5py.File(tmp_path / "locs.hdf5", "w") as file:
        file["locs"] = np.zeros(3, [("x", "f4"), ("y", "f4")])
    with pytest.raises(InputError, match="a table of localizations"):
        open_movie(tmp_path / "locs.hdf5")


def _set(folder: Path, positions: dict[str, tuple[list[str], Stack]]) -> None:
    """As Micro-Manager does: the description of all positions in every first file."""
    images = []
    for number, (names, stack) in enumerate(positions.values()):
        part = -(-len(stack) // len(names))
        data = "".join(
            f'<TiffData FirstC="0" FirstT="{t}" FirstZ="0" IFD="{t % part}" '
            f'PlaneCount="1"><UUID FileName="{names[t // part]}">urn:uuid:{number}'
            f"</UUID></TiffData>"
            for t in range(len(stack))
        )
        images.append(
            f'<Image ID="Image:{number}"><Pixels DimensionOrder="XYCZT" SizeC="1" '
            f'SizeT="{len(stack)}" SizeZ="1" PhysicalSizeX="{0.1 + number}">{data}'
            f"</Pixels></Image>"
        )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        f'2016-06">{"".join(images)}</OME>'
    )
    for names, stack in positions.values():
        part = -(-len(stack) // len(names))
        for k, name in enumerate(names):
            with tifffile.TiffWriter(folder / name) as writer:
                for i, frame in enumerate(stack[k * part : (k + 1) * part]):
                    writer.write(
                        frame,
                        contiguous=False,
                        metadata=None,
                        description=xml if i == 0 and k == 0 else None,
                    )


def test_a_position_is_its_own_movie(tmp_path: Path, stack: Stack) -> None:
    other = stack[::-1] + 1
    _set(tmp_path, {"0": (["a_Pos0.ome.tif"], stack), "1": (["a_Pos1.ome.tif"], other)})
    for name, expected, pixel in (("Pos0", stack, 100.0), ("Pos1", other, 1100.0)):
        with open_movie(tmp_path / f"a_{name}.ome.tif") as movie:
            np.testing.assert_array_equal(movie.read(0, 7), expected)
            assert movie.facts()["pixel_size_nm"] == pytest.approx(pixel)


def test_a_renamed_file_is_still_a_movie(tmp_path: Path, stack: Stack) -> None:
    _set(tmp_path, {"0": (["a_Pos0.ome.tif"], stack)})
    path = (tmp_path / "a_Pos0.ome.tif").rename(tmp_path / "cells.tif")
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)
        assert movie.damage is None


def test_a_renamed_part_says_that_others_are_missing(
    tmp_path: Path, stack: Stack
) -> None:
    _set(tmp_path, {"0": (["a.ome.tif", "a_1.ome.tif"], stack)})
    path = (tmp_path / "a.ome.tif").rename(tmp_path / "cells.tif")
    with open_movie(path) as movie:
        assert movie.n_frames == 4
        assert "a_1.ome.tif" in str(movie.damage)


def test_parts_of_a_recording_in_a_folder_are_one_movie(
    tmp_path: Path, stack: Stack
) -> None:
    _set(tmp_path, {"0": (["a_Pos0.ome.tif", "a_Pos0_1.ome.tif"], stack)})
    assert [path.name for path in find_movies(tmp_path)] == ["a_Pos0.ome.tif"]
    with open_movie(tmp_path) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)


def test_colours_and_positions_are_not_mixed_into_a_movie(
    tmp_path: Path, stack: Stack
) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(
        path, stack[:6].reshape(3, 2, 5, 9), imagej=True, metadata={"axes": "TCYX"}
    )
    with pytest.raises(InputError, match="2 channels"):
        open_movie(path)
    # A writer that was not told what the images are calls them all channels.
    tifffile.imwrite(path, stack, imagej=True)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as writer:
        for part in (stack, stack[:3]):
            writer.write(part, metadata={"axes": "TYX"})
    with pytest.raises(InputError, match="2 images"):
        open_movie(tmp_path / "two.ome.tif")


@pytest.mark.parametrize("unit", ["um", "\\u00B5m", "\N{MICRO SIGN}m", "micron"])
def test_units_as_imagej_writes_them(unit: str, tmp_path: Path, stack: Stack) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(
        path,
        stack,
        description=f"ImageJ=1.54f\nimages=7\nframes=7\nunit={unit}\n".encode("latin1"),
        resolution=(9.25, 9.25),
        metadata=None,
    )
    with open_movie(path) as movie:
        assert movie.facts()["pixel_size_nm"] == pytest.approx(1000 / 9.25, rel=1e-4)


@pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("imagecodecs") is not None,
    reason="imagecodecs is here and decodes it",
)
@pytest.mark.parametrize("compression", [5, 50000, 34712], ids=["lzw", "zstd", "j2k"])
def test_a_compression_names_the_package_it_needs(
    compression: int, tmp_path: Path, stack: Stack
) -> None:
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack, compression="deflate", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            page.tags["Compression"].overwrite(compression)
    with (
        open_movie(path) as movie,
        pytest.raises(InputError, match="pip install imagecodecs"),
    ):
        movie.read(0, 1)


@pytest.mark.parametrize(
    ("name", "head", "says"),
    [
        (
            "m.sifx",
            b"Andor Technology Multi-Channel File\n",
            r"acquisitionmetadata\.ini is missing.*export it from Andor Solis",
        ),
        ("m.dat", b"ZISRAWFILE", r"list of pictures.*ZEN"),
        ("m.dcimg", b"DCIMG\0", "HCImage"),
        ("m.fits.fz", b"\0\0", r"compressed FITS.*export"),
        ("m.npz", b"PK\x03\x04", r"numpy\.save"),
        ("m.mat", b"MATLAB 5.0 MAT-file", "-v7.3"),
        ("m.mp4", b"\0\0\0\x18ftypmp42", "changes the values"),
        ("m.dax", b"\0\0", "m.inf is missing"),
    ],
)
def test_files_of_makers_say_what_to_do(
    name: str, head: bytes, says: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(head.ljust(400, b"\0"))
    with pytest.raises(InputError, match=says) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_frames_along_the_last_axis_are_doubted(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((20, 20, 50), np.uint16))
    np.save(tmp_path / "n.npy", np.zeros((50, 20, 20), np.uint16))
    with open_movie(tmp_path / "m.npy") as movie:
        assert "50 frames of 20 x 20 px" in movie.notes()[0]
    with open_movie(tmp_path / "n.npy") as movie:
        assert movie.notes() == ()


def test_dax_whose_bytes_may_lie_in_either_order(tmp_path: Path, stack: Stack) -> None:
    path = tmp_path / "m.dax"
    _dax("<", "little")(path, stack)
    beside = path.with_suffix(".inf")
    text = beside.read_text()
    beside.write_text(text.title().replace(" X ", " x "))
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, len(stack)), stack)
        assert movie.notes() == ()
    for silent in (text.replace(", little endian", ""), text.replace("data type", "a")):
        beside.write_text(silent)
        with pytest.raises(InputError, match="order of the bytes; add the line"):
            open_movie(path)
    beside.write_text(text.replace(f"frames = {len(stack)}", "frames = 2"))
    with open_movie(path) as movie:
        assert movie.n_frames == 2
        (note,) = movie.notes()
        assert f"{len(stack) - 2} frames more than the 2" in note
