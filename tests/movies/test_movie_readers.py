"""Every reader gives the same frames, lazily, and says what is wrong in one line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from blinkloop.errors import InputError
from blinkloop.integrations.movies import (
    Movie,
    MovieDamagedError,
    MovieSource,
    find_movies,
    frame_blocks,
    open_movie,
)

tifffile = pytest.importorskip("tifffile", reason="TIFF files are written by tifffile")
Stack = npt.NDArray[Any]


def _folder(path: Path, stack: Stack) -> Path:
    path.mkdir()
    for i, frame in enumerate(stack, 5):  # 5 .. 11: text order is not frame order
        tifffile.imwrite(path / f"img_{i}.tif", frame)
    return path


def _raw(path: Path, stack: Stack, **more: Any) -> Path:
    path.write_bytes(stack.tobytes())
    n, height, width = stack.shape
    described = {
        "Byte Order": "<" if stack.dtype.byteorder != ">" else ">",
        "Data Type": stack.dtype.name,
        "Frames": n,
        "Height": height,
        "Width": width,
    } | more
    path.with_suffix(".yaml").write_text(yaml.safe_dump(described))
    return path


def _npy(path: Path, stack: Stack) -> Path:
    np.save(path, stack)
    return path


def _zarr(path: Path, stack: Stack) -> Path:
    zarr = pytest.importorskip("zarr")
    array = zarr.create_array(
        str(path), shape=stack.shape, dtype=stack.dtype, chunks=(2, *stack.shape[1:])
    )
    array[:] = stack
    return path


def _ome_zarr(path: Path, stack: Stack) -> Path:
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(str(path))
    array = group.create_array(
        "0", shape=(len(stack), 1, *stack.shape[1:]), dtype=stack.dtype
    )
    array[:] = stack[:, None]
    axes = [{"name": n} for n in "tc"]
    axes += [{"name": n, "unit": "micrometer"} for n in "yx"]
    scale = [{"type": "scale", "scale": [1, 1, 0.11, 0.11]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [level]}]}
    return path


def _tiff(**options: Any) -> Callable[[Path, Stack], Path]:
    def write(path: Path, stack: Stack) -> Path:
        tifffile.imwrite(path, stack, **options)
        return path

    return write


def _pages(path: Path, stack: Stack) -> Path:
    """One directory per page, as most cameras' programs write."""
    with tifffile.TiffWriter(path) as writer:
        for frame in stack:
            writer.write(frame, contiguous=False, metadata=None)
    return path


WRITERS = {
    "tiff": ("m.tif", _tiff()),
    "tiff_big_endian": ("m.tif", _tiff(byteorder=">")),
    "tiff_pages": ("m.tif", _pages),
    "tiff_deflate": ("m.tif", _tiff(compression="zlib")),
    "tiff_strips": ("m.tif", _tiff(rowsperstrip=2)),
    "bigtiff": ("m.tif", _tiff(bigtiff=True)),
    "bigtiff_big_endian": ("m.tif", _tiff(bigtiff=True, byteorder=">")),
    "imagej": ("m.tif", _tiff(imagej=True, metadata={"axes": "TYX"})),
    "ome": ("m.ome.tif", _tiff(ome=True, metadata={"axes": "TYX"})),
    "ome_z": ("m.ome.tif", _tiff(ome=True, metadata={"axes": "ZYX"})),
    "one_directory": ("m.tif", _tiff(contiguous=True, photometric="minisblack")),
    "wrong_ending": ("m.dat", _tiff()),
    "folder": ("m", _folder),
    "raw": ("m.raw", _raw),
    "npy": ("m.npy", _npy),
    "zarr": ("m_zarr", _zarr),
    "ome_zarr": ("m_ome_zarr", _ome_zarr),
}


@pytest.fixture(params=WRITERS.items(), ids=WRITERS.keys())
def written(request: pytest.FixtureRequest, tmp_path: Path, stack: Stack) -> Path:
    name, write = request.param[1]
    return write(tmp_path / name, stack)


def test_every_kind_gives_the_frames_in_order(written: Path, stack: Stack) -> None:
    with open_movie(written) as movie:
        assert isinstance(movie, Movie)
        assert (movie.n_frames, movie.height, movie.width) == stack.shape
        assert movie.dtype == np.uint16
        assert movie.damage is None
        np.testing.assert_array_equal(movie.read(0, 7), stack)
        np.testing.assert_array_equal(movie.read(3, 5), stack[3:5])
        assert movie.read(2, 2).shape == (0, 5, 9)
        with pytest.raises(IndexError):
            movie.read(5, 8)


@pytest.mark.parametrize("kind", ["tiff", "folder", "raw", "npy", "zarr"])
def test_one_frame(kind: str, tmp_path: Path, stack: Stack) -> None:
    name, write = WRITERS[kind]
    with open_movie(write(tmp_path / name, stack[:1])) as movie:
        np.testing.assert_array_equal(movie.read(0, 1), stack[:1])


@pytest.mark.parametrize(
    ("stored", "delivered"),
    [
        ("u1", "u1"),
        ("u2", "u2"),
        (">u2", "u2"),
        ("f4", "f4"),
        ("i2", "f4"),
        ("i4", "f4"),
        ("u4", "f4"),
        ("f8", "f4"),
        ("f2", "f4"),
    ],
)
def test_pixel_types_are_handed_on_without_loss(
    stored: str, delivered: str, tmp_path: Path
) -> None:
    values = np.array([[[0, 1, 200], [17, 100, 33]]], stored)
    if np.dtype(stored).kind == "i":
        values[0, 0, 0] = -5
    with open_movie(_npy(tmp_path / "m.npy", values)) as movie:
        assert movie.dtype == np.dtype(delivered)
        assert movie.read(0, 1).dtype == np.dtype(delivered)
        np.testing.assert_array_equal(movie.read(0, 1), values.astype("f8"))


def test_values_that_would_be_rounded_are_refused(tmp_path: Path) -> None:
    values = np.full((1, 2, 3), 2**24 + 1, np.uint32)
    movie = open_movie(_npy(tmp_path / "m.npy", values))
    with movie, pytest.raises(InputError, match="would be rounded"):
        movie.read(0, 1)


def test_folder_of_movies_is_a_list(tmp_path: Path, stack: Stack) -> None:
    for i in (10, 9):
        tifffile.imwrite(tmp_path / f"run{i}.tif", stack)
    names = [path.name for path in find_movies(tmp_path)]
    assert names == ["run9.tif", "run10.tif"]
    with pytest.raises(InputError, match=r"give one of them, e\.g\. run9\.tif"):
        open_movie(tmp_path)
    frames = _folder(tmp_path / "frames", stack)
    assert find_movies(frames) == [frames]


def test_ome_image_in_two_files(tmp_path: Path, stack: Stack) -> None:
    names = ["a.ome.tif", "b.ome.tif"]
    data = "".join(
        f'<TiffData IFD="{t % 4}" FirstT="{t}" PlaneCount="1">'
        f'<UUID FileName="{names[t // 4]}">urn:uuid:{t // 4}</UUID></TiffData>'
        for t in range(7)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/'
        '2016-06"><Image ID="Image:0"><Pixels ID="P:0" DimensionOrder="XYCZT" '
        'Type="uint16" SizeX="9" SizeY="5" SizeC="1" SizeZ="1" SizeT="7" '
        'PhysicalSizeX="108" PhysicalSizeXUnit="nm">'
        f"{data}</Pixels></Image></OME>"
    )
    for name, part in zip(names, (stack[:4], stack[4:]), strict=True):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for i, frame in enumerate(part):
                writer.write(
                    frame,
                    contiguous=False,
                    metadata=None,
                    description=xml if i == 0 else None,
                )
    with open_movie(tmp_path / names[0]) as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)
        assert movie.facts() == {"pixel_size_nm": 108.0}
    (tmp_path / names[1]).unlink()
    with open_movie(tmp_path / names[0]) as movie:
        assert movie.n_frames == 4
        assert "b.ome.tif" in str(movie.damage)


def test_stack_beyond_4_gb_is_read_from_its_end(tmp_path: Path) -> None:
    """ImageJ writes one directory and says how many images follow."""
    path, images, shape = tmp_path / "big.tif", 2_100, (1000, 1024)
    one = np.zeros(shape, np.uint16)
    tifffile.imwrite(
        path, one, description=f"ImageJ=1.53\nimages={images}\nslices={images}\n"
    )
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[0]
    last = np.arange(one.size, dtype=np.uint16).reshape(shape)
    with path.open("r+b") as file:  # sparse: takes no room on disk
        file.seek(offset + (images - 1) * one.nbytes)
        file.write(last.tobytes())
    assert path.stat().st_size > 2**32
    tracemalloc.start()
    with open_movie(path) as movie:
        assert movie.n_frames == images
        np.testing.assert_array_equal(movie.read(images - 1, images)[0], last)
        tracemalloc.reset_peak()
        for _, block in frame_blocks(movie, 0, 60):
            assert not block.any()
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 60 frames are 117 MiB; a block is at most 16 MiB, and two may be alive at once.
    assert peak < 60 * 2**20


def _truncate(path: Path, size: int) -> Path:
    with path.open("r+b") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    "kind", ["tiff", "tiff_pages", "imagej", "bigtiff", "one_directory", "raw", "npy"]
)
def test_truncated_movie_gives_its_good_frames_first(
    kind: str, tmp_path: Path, stack: Stack
) -> None:
    name, write = WRITERS[kind]
    stack = np.tile(stack, (1, 20, 20))  # frames larger than the directories
    path = write(tmp_path / name, stack)
    _truncate(path, path.stat().st_size - int(2.5 * stack[0].nbytes))
    got = []
    with open_movie(path) as movie:
        assert movie.damage is not None
        with pytest.raises(MovieDamagedError) as caught:
            got.extend(frame.pixels for frame in MovieSource(movie).frames())
    assert len(got) in (4, 5)
    assert caught.value.readable == len(got)
    np.testing.assert_array_equal(got, stack[: len(got)])
    assert "\n" not in str(caught.value)


def test_damaged_page_in_the_middle(tmp_path: Path, stack: Stack) -> None:
    noise = np.random.default_rng(4).integers(0, 6000, (7, 40, 31), np.uint16)
    path = _tiff(compression="zlib")(tmp_path / "m.tif", noise)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[4].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 64)
    with open_movie(path) as movie:
        got = []
        with pytest.raises(MovieDamagedError, match="frame 4 of 7") as caught:
            got.extend(f for _, block in frame_blocks(movie, 0, 7) for f in block)
    assert caught.value.readable == 4
    np.testing.assert_array_equal(got, noise[:4])


@pytest.mark.parametrize(
    ("frame", "what"),
    [
        (np.zeros((5, 8), np.uint16), "8 x 5 px"),
        (np.zeros((5, 9), np.uint8), "uint8"),
        (np.zeros((2, 5, 9), np.uint16), "2 pages"),
        (None, "is empty"),
    ],
    ids=["size", "type", "pages", "empty"],
)
def test_folder_with_a_file_that_does_not_fit(
    frame: Stack | None, what: str, tmp_path: Path, stack: Stack
) -> None:
    folder = _folder(tmp_path / "m", stack)
    path = folder / "img_9.tif"
    if frame is None:
        path.write_bytes(b"")
    else:
        tifffile.imwrite(path, frame)
    got = []
    movie = open_movie(folder)
    with movie, pytest.raises(MovieDamagedError, match=what) as caught:
        got.extend(frame.pixels for frame in MovieSource(movie).frames())
    assert caught.value.readable == 4
    np.testing.assert_array_equal(got, stack[:4])


def _bad(kind: str, path: Path, stack: Stack) -> Path:
    """Write one input that is not a movie."""
    tif = path / "bad.tif"
    match kind:
        case "missing":
            return path / "none.tif"
        case "empty":
            tif.write_bytes(b"")
        case "empty folder":
            (path / "folder").mkdir()
            return path / "folder"
        case "text":
            tif.write_text("not a picture at all")
        case "header only":
            tif.write_bytes(b"II*\0\x08\0\0\0")
        case "colour":
            tifffile.imwrite(tif, np.zeros((5, 9, 3), np.uint8), photometric="rgb")
        case "complex":
            tifffile.imwrite(tif, stack.astype(np.complex64))
        case "complex npy":
            return _npy(path / "m.npy", stack.astype(np.complex64))
        case "objects npy":
            (path / "m.npy").write_bytes(b"")
            np.save(path / "m.npy", np.array([{}], object), allow_pickle=True)
            return path / "m.npy"
        case "bool npy":
            return _npy(path / "m.npy", stack > 200)
        case "4D npy":
            return _npy(path / "m.npy", stack.reshape(7, 1, 5, 9).repeat(2, 1))
        case "fortran npy":
            return _npy(path / "m.npy", np.asfortranarray(stack))
        case "mixed sizes":
            with tifffile.TiffWriter(tif) as writer:
                writer.write(stack[0], metadata=None)
                writer.write(stack[0, :4], metadata=None)
        case "channels":
            tifffile.imwrite(
                tif, stack[:6].reshape(3, 2, 5, 9), ome=True, metadata={"axes": "TCYX"}
            )
        case "no yaml":
            _raw(path / "m.raw", stack).with_suffix(".yaml").unlink()
            return path / "m.raw"
        case "unreadable yaml":
            _raw(path / "m.raw", stack).with_suffix(".yaml").write_text("a: [1,\nb: :")
            return path / "m.raw"
        case "yaml without a key":
            _raw(path / "m.raw", stack).with_suffix(".yaml").write_text("Frames: 7\n")
            return path / "m.raw"
        case "yaml with a wrong type":
            return _raw(path / "m.raw", stack, **{"Data Type": "photons"})
        case "raw too long":
            return _raw(path / "m.raw", stack, Frames=6)
        case "raw too short":
            raw = _raw(path / "m.raw", stack)
            raw.write_bytes(b"abc")
            return raw
        case "zarr group":
            zarr = pytest.importorskip("zarr")
            zarr.create_group(str(path / "g"))
            return path / "g"
    return tif


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such file"),
        ("empty", "is empty"),
        ("empty folder", "is empty"),
        ("text", "not a movie blinkloop can read"),
        ("header only", "ends before its first page"),
        ("colour", "3 colours.*minisblack"),
        ("complex", "not camera frames"),
        ("complex npy", "not camera frames"),
        ("objects npy", "not camera frames|not one movie"),
        ("bool npy", "not camera frames"),
        ("4D npy", "not one movie"),
        ("fortran npy", "Fortran order"),
        ("mixed sizes", "split the file"),
        ("channels", "2 channels"),
        ("no yaml", "m.yaml is missing"),
        ("unreadable yaml", "cannot be read as YAML"),
        ("yaml without a key", "Height must be"),
        ("yaml with a wrong type", "'photons'"),
        ("raw too long", "correct the description"),
        ("raw too short", "no frame can be read"),
        ("zarr group", "not an OME-Zarr image"),
    ],
    ids=lambda value: value.split(" (")[0] if isinstance(value, str) else None,
)
def test_bad_input_is_one_clear_line(
    kind: str, says: str, tmp_path: Path, stack: Stack
) -> None:
    path = _bad(kind, tmp_path, stack)
    with pytest.raises(InputError, match=says) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
