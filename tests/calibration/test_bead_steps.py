"""The step of the stage is taken from where programs write it; HDF5 may hold beads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.cli._bead_stacks import read_stacks, step_in_file
from blinkloop.cli._options import CameraFlags
from blinkloop.errors import InputError
from blinkloop.training.calibration.files import is_calibration, read_calibration

tifffile = pytest.importorskip("tifffile")
h5py = pytest.importorskip("h5py")

STACK = np.arange(6 * 9 * 11, dtype=np.uint16).reshape(6, 9, 11)


def _micro_manager(path: Path, heights_um: list[float]) -> Path:
    """Pages with Micro-Manager's record each, as its NDTiff and OME-TIFF files have."""
    with tifffile.TiffWriter(path) as writer:
        for page, height in zip(STACK, heights_um, strict=True):
            record = json.dumps({"ZPositionUm": height, "PixelSizeUm": 0.1})
            writer.write(
                page,
                contiguous=False,
                metadata=None,
                extratags=[(51123, "s", 0, record, True)],
            )
    return path


@pytest.mark.parametrize(
    ("heights", "step"),
    [
        ([4.0, 4.05, 4.1, 4.15, 4.2, 4.25], 50.0),
        ([4.0, 3.9, 3.8, 3.7, 3.6, 3.5], 100.0),
        ([0.0, 1.0, 1.1, 1.2, 1.3, 1.4], None),
    ],
    ids=["up", "down", "uneven"],
)
def test_heights_of_pages(
    heights: list[float], step: float | None, tmp_path: Path
) -> None:
    found = step_in_file(_micro_manager(tmp_path / "m.tif", heights))
    assert found == (None if step is None else pytest.approx(step))


@pytest.mark.parametrize(("unit", "step"), [("micrometer", 50.0), ("nanometer", 0.05)])
def test_scale_of_an_ome_zarr_image(unit: str, step: float, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.create_group(str(tmp_path / "z.zarr"))
    group.create_array("0", data=STACK)
    axes: list[dict[str, Any]] = [{"name": name, "unit": unit} for name in "zyx"]
    scale = [{"type": "scale", "scale": [0.05, 0.1, 0.1]}]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [level]}]}
    assert step_in_file(tmp_path / "z.zarr") == pytest.approx(step)


def test_an_hdf5_file_of_slices_is_a_stack(tmp_path: Path) -> None:
    path = tmp_path / "beads.h5"
    with h5py.File(path, "w") as file:
        file["stack"] = STACK
    assert not is_calibration(path)
    flags = CameraFlags(None, {"pixel_size_nm": 100.0})
    read = read_stacks([path], dz_nm=50.0, flags=flags)
    np.testing.assert_array_equal(read.stacks[0].pixels, STACK)
    with h5py.File(tmp_path / "psf.h5", "w") as file:
        file.attrs["format"] = "blinkloop-psf"
    assert is_calibration(tmp_path / "psf.h5")
    assert is_calibration(tmp_path / "none.h5")


def test_a_calibration_of_thunderstorm_says_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "cal.yaml"
    path.write_text("!!cz.cuni.lf1.lge.ThunderSTORM.calibration.X\nangle: 0.1\n")
    with pytest.raises(InputError, match="give the bead stack"):
        read_calibration(path)
