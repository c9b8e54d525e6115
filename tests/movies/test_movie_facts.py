"""What files say of the camera, and the real movies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from blinkloop.integrations.movies import open_movie

tifffile = pytest.importorskip("tifffile", reason="TIFF files are written by tifffile")


def _micro_manager(**more: Any) -> list[tuple[Any, ...]]:
    return [(51123, "s", 0, json.dumps(more), False)]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({}, {}),
        (
            {"imagej": True, "metadata": {"unit": "um"}, "resolution": (10.0, 10.0)},
            {"pixel_size_nm": 100.0},
        ),
        ({"imagej": True, "metadata": {"unit": "pixel"}, "resolution": (9, 9)}, {}),
        (
            {"ome": True, "metadata": {"axes": "TYX", "PhysicalSizeX": 0.107}},
            {"pixel_size_nm": 107.0},
        ),
        (
            {
                "extratags": _micro_manager(
                    **{"PixelSizeUm": 0.12, "Exposure-ms": 15, "BitDepth": 12}
                )
            },
            {"pixel_size_nm": 120.0, "exposure_ms": 15.0, "bit_depth": 12},
        ),
        ({"extratags": _micro_manager(PixelSizeUm=0.0)}, {}),
        ({"extratags": [(51123, "s", 0, "{broken", False)]}, {}),
    ],
    ids=["none", "imagej", "imagej_px", "ome", "mm", "mm_not_set", "mm_broken"],
)
def test_tiff_facts(
    options: dict[str, Any],
    facts: dict[str, Any],
    tmp_path: Path,
    stack: npt.NDArray[Any],
) -> None:
    tifffile.imwrite(tmp_path / "m.tif", stack, **options)
    with open_movie(tmp_path / "m.tif") as movie:
        found = movie.facts()
    assert found == pytest.approx(facts)


def test_region_of_the_chip(tmp_path: Path, stack: npt.NDArray[Any]) -> None:
    tifffile.imwrite(
        tmp_path / "m.tif", stack, extratags=_micro_manager(ROI="12-34-9-5")
    )
    with open_movie(tmp_path / "m.tif") as movie:
        assert movie.origin == (12, 34)


def test_picasso_facts(tmp_path: Path, stack: npt.NDArray[Any]) -> None:
    (tmp_path / "m.raw").write_bytes(stack.astype(">u2").tobytes())
    described = {
        "Byte Order": ">",
        "Data Type": "uint16",
        "Frames": 7,
        "Height": 5,
        "Width": 9,
        "Pixelsize": 130,
        "Baseline": 99.5,
        "Gain": 0,
    }
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(described))
    with open_movie(tmp_path / "m.raw") as movie:
        np.testing.assert_array_equal(movie.read(0, 7), stack)
        assert movie.facts() == {"pixel_size_nm": 130.0, "baseline_adu": 99.5}


def test_real_tetrapod_folder(shared_data: Path) -> None:
    with open_movie(shared_data / "tetrapod_movie") as movie:
        assert (movie.n_frames, movie.height, movie.width) == (50, 332, 492)
        assert movie.dtype == np.uint16
        tenth = tifffile.imread(shared_data / "tetrapod_movie" / "10.tif")
        np.testing.assert_array_equal(movie.read(9, 10)[0], tenth)
        assert movie.facts() == {}


def test_real_dstorm_stack(shared_data: Path) -> None:
    path = shared_data / "dstorm_5frames.tif"
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 5), tifffile.imread(path))


def test_real_packbits_bead_stack(shared_data: Path) -> None:
    path = shared_data / "beads" / "crlb1_bead_stack.tiff"
    try:
        expected = tifffile.imread(path)
    except ValueError as error:
        pytest.skip(f"tifffile cannot decode it here: {error}")
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, movie.n_frames), expected)


def test_real_picasso_movie(shared_data: Path) -> None:
    with open_movie(shared_data / "picasso" / "testdata.raw") as movie:
        assert (movie.n_frames, movie.height, movie.width) == (100, 32, 32)
        raw = np.fromfile(shared_data / "picasso" / "testdata.raw", "<u2")
        np.testing.assert_array_equal(movie.read(0, 100).ravel(), raw)
        # The pixel size of the simulation is not the one Picasso itself used.
        assert movie.facts() == {}
        assert "--pixel-size-nm 160" in movie.notes()[0]
