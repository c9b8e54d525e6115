"""Which pages of a file are slices: hyperstacks of ImageJ, OME and tifffile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blinkloop.cli._bead_stacks import read_stacks
from blinkloop.cli._options import CameraFlags
from blinkloop.errors import InputError

tifffile = pytest.importorskip("tifffile", reason="needs the extra `io`")


def numbered(*sizes: int) -> np.ndarray:
    """(*sizes, 9, 12) uint16: every page holds its place, e.g. 203 for (2, 0, 3)."""
    pages = np.zeros((*sizes, 9, 12), np.uint16)
    for place in np.ndindex(*sizes):
        number = sum(n * 100**k for k, n in enumerate(reversed(place)))
        pages[place] = number + np.arange(9)[:, None] % 2
    return pages


def stacks(path: Path) -> tuple[list[np.ndarray], list[str]]:
    read = read_stacks(
        [path], dz_nm=50.0, flags=CameraFlags(None, {"pixel_size_nm": 99})
    )
    assert all(stack.name == path.name for stack in read.stacks)
    return [stack.pixels for stack in read.stacks], read.notes


def write(path: Path, pages: np.ndarray, axes: str, kind: str) -> Path:
    how: dict[str, object] = {"metadata": {"axes": axes}}
    if kind == "ome":
        path, how["ome"] = path.with_suffix(".ome.tif"), True
    if kind == "imagej":
        how["imagej"] = True
    tifffile.imwrite(path, pages, photometric="minisblack", **how)
    return path


@pytest.mark.parametrize("kind", ["imagej", "ome", "tifffile"])
@pytest.mark.parametrize(
    ("sizes", "axes"),
    [((7,), "ZYX"), ((7,), "TYX"), ((7,), "CYX"), ((1, 7), "TZYX"), ((7, 1), "ZCYX")],
)
def test_one_axis_is_the_stack_whatever_its_name(
    tmp_path: Path, kind: str, sizes: tuple[int, ...], axes: str
) -> None:
    if kind == "ome" and axes == "CYX":
        axes = "TYX"  # colours of OME are refused
    path = write(tmp_path / "a.tif", numbered(*sizes), axes, kind)
    (found,), notes = stacks(path)
    np.testing.assert_array_equal(found, numbered(*sizes).reshape(found.shape))
    assert notes == []


@pytest.mark.parametrize(
    ("kind", "axes"),
    [("imagej", "TZYX"), ("ome", "TZYX"), ("tifffile", "TZYX"), ("tifffile", "ZTYX")],
)
def test_repeats_are_stacks_of_their_own(tmp_path: Path, kind: str, axes: str) -> None:
    pages = numbered(2, 7)
    given = pages if axes == "TZYX" else np.moveaxis(pages, 0, 1)
    found, notes = stacks(write(tmp_path / "a.tif", given, axes, kind))
    np.testing.assert_array_equal(np.array(found), pages)
    assert notes[0].endswith("2 stacks of 7 slices, one after the other")


@pytest.mark.parametrize(
    ("kind", "axes"),
    [
        ("imagej", "ZCYX"),
        ("ome", "ZCYX"),
        ("ome", "CZYX"),
        ("tifffile", "ZCYX"),
        ("tifffile", "CZYX"),
    ],
)
def test_colours_are_refused(tmp_path: Path, kind: str, axes: str) -> None:
    sizes = (7, 2) if axes == "ZCYX" else (2, 7)
    path = write(tmp_path / "a.tif", numbered(*sizes), axes, kind)
    with pytest.raises(InputError, match=r"2 (colour )?channels") as caught:
        stacks(path)
    assert "\n" not in str(caught.value)


def test_pages_of_unknown_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, numbered(2, 7), photometric="minisblack")
    with pytest.raises(InputError, match="holds 2 x 7 pages") as caught:
        stacks(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", "u1", "i2"])
def test_types_and_byte_orders(tmp_path: Path, dtype: str) -> None:
    path, pages = tmp_path / "a.tif", numbered(7).astype(dtype)
    order = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(path, pages, byteorder=order, photometric="minisblack")
    (found,), _ = stacks(path)
    np.testing.assert_array_equal(found, numbered(7))


@pytest.mark.parametrize("name", ["z{}.tif", "img_{:03d}.tif", "bead 0.1um {}.tif"])
def test_planes_of_a_folder_are_in_their_order(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "planes"
    folder.mkdir()
    for number, plane in enumerate(numbered(12)):
        tifffile.imwrite(folder / name.format(number), plane)
    (found,), _ = stacks(folder)
    np.testing.assert_array_equal(found, numbered(12))
