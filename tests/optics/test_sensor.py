"""Camera maps: the three kinds of file, parts of the chip, files that are wrong."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.optics.sensor import read_sensor_maps

ROWS, COLUMNS = 13, 21
rng = np.random.default_rng(3)
OFFSET = rng.normal(100, 2, (ROWS, COLUMNS))
PER_ADU = rng.uniform(0.4, 0.6, (ROWS, COLUMNS))
READ = rng.uniform(1.0, 5.0, (ROWS, COLUMNS))


def write(folder, kind):
    path = folder / f"maps.{kind}"
    if kind == "npz":
        np.savez(path, offset_adu=OFFSET, e_per_adu=PER_ADU, read_noise_e=READ)
    elif kind == "h5":
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["offset_adu"] = OFFSET
            file["gain_adu_per_e"] = 1 / PER_ADU
            file["variance_adu2"] = (READ / PER_ADU) ** 2
    else:
        tifffile = pytest.importorskip("tifffile")
        pages = np.stack([OFFSET, (READ / PER_ADU) ** 2, 1 / PER_ADU])
        tifffile.imwrite(path, pages.astype(np.float32), photometric="minisblack")
    return path


@pytest.mark.parametrize("kind", ["npz", "h5", "tif"])
def test_maps_are_read(tmp_path, kind):
    maps = read_sensor_maps(write(tmp_path, kind))
    np.testing.assert_allclose(maps.offset_adu, OFFSET, rtol=1e-6)
    np.testing.assert_allclose(maps.e_per_adu, PER_ADU, rtol=1e-6)
    np.testing.assert_allclose(maps.read_noise_e, READ, rtol=1e-6)
    assert maps.offset_adu.dtype == np.float32


def test_parts_are_of_the_chip_and_of_one_place(tmp_path):
    maps = read_sensor_maps(write(tmp_path, "npz"))
    parts = maps.crops(np.random.default_rng(0), 50, 5, 8)
    assert parts.offset_adu.shape == (50, 5, 8)
    corners = set()
    for offset, gain in zip(parts.offset_adu, parts.e_per_adu, strict=True):
        row, column = np.argwhere(maps.offset_adu == offset[0, 0])[0]
        place = slice(row, row + 5), slice(column, column + 8)
        np.testing.assert_array_equal(maps.offset_adu[place], offset)
        np.testing.assert_array_equal(maps.e_per_adu[place], gain)
        corners.add((row, column))
    assert len(corners) > 20
    whole = maps.crops(np.random.default_rng(0), 2, ROWS, COLUMNS)
    np.testing.assert_array_equal(whole.read_noise_e[1], maps.read_noise_e)


def test_a_chip_smaller_than_the_patch_is_one_line(tmp_path):
    maps = read_sensor_maps(write(tmp_path, "npz"))
    with pytest.raises(InputError, match="21 x 13 px") as caught:
        maps.crops(np.random.default_rng(0), 1, 14, 8)
    assert "\n" not in str(caught.value)


def wrong(folder, **maps):
    path = folder / "wrong.npz"
    good = {"offset_adu": OFFSET, "e_per_adu": PER_ADU, "read_noise_e": READ}
    given = {name: v for name, v in {**good, **maps}.items() if v is not None}
    np.savez(path, **given)
    return path


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        ({"offset_adu": None}, "no offset_adu"),
        ({"read_noise_e": None}, "variance_adu2"),
        ({"e_per_adu": PER_ADU[:5]}, "one size"),
        ({"e_per_adu": np.where(PER_ADU > 0.5, 0, PER_ADU)}, "column"),
        ({"offset_adu": np.where(OFFSET > 100, np.nan, OFFSET)}, "median"),
        ({"read_noise_e": -READ}, "read_noise_e is -"),
    ],
    ids=["no-offset", "no-noise", "sizes", "no-gain", "nan", "negative"],
)
def test_wrong_maps_are_one_line(tmp_path, maps, says):
    with pytest.raises(InputError, match=says) as caught:
        read_sensor_maps(wrong(tmp_path, **maps))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["maps.npz", "maps.h5", "maps.tif", "maps.mat"])
def test_unreadable_files_are_one_line(tmp_path, name):
    with pytest.raises(InputError, match="no such file"):
        read_sensor_maps(tmp_path / name)
    (tmp_path / name).write_bytes(b"this is no file of maps")
    with pytest.raises(InputError) as caught:
        read_sensor_maps(tmp_path / name)
    assert "\n" not in str(caught.value)
