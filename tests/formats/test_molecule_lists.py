"""Tables of storm-analysis, Insight3 and Vutara are read where their emitters are."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.formats import read_table, write_table

h5py = pytest.importorskip("h5py")


def write_storm(path: Path, frames: dict[int, dict[str, Any]], pixel: float) -> None:
    """As `sa_h5py.py` writes it; `dx, dy, dz` in a frame is its drift."""
    with h5py.File(path, "w") as file:
        file.attrs["sa_type"], file.attrs["version"] = "3D-DAOSTORM", 0.1
        file.attrs["n_channels"], file.attrs["analysis_finished"] = 1, 1
        if pixel:
            file.attrs["pixel_size"] = pixel
        file["metadata.xml"] = "<settings/>"
        for number, columns in frames.items():
            group = file.create_group(f"fr_{number}")
            group.attrs["n_locs"] = len(columns.get("x", ()))
            for name in ("dx", "dy", "dz"):
                group.attrs[name] = columns.get(name, 0.0)
            for name, values in columns.items():
                if not name.startswith("d"):
                    group[name] = np.array(values)
        file.create_group("tracks").attrs["n_groups"] = 0


def test_storm_analysis(tmp_path: Path) -> None:
    path = tmp_path / "movie.hdf5"
    shift = {"dx": 0.5, "dy": -0.25, "dz": 0.01}
    first = {"x": [0.0, 3.0], "y": [2.0, 7.0], "z": [-0.03, 0.2], "sum": [900.0, 800.0]}
    write_storm(
        path,
        {
            # In the order of text: "fr_10" before "fr_2".
            2: {**first, "background": [4.0, 5.0]},
            10: {"x": [8.0], "y": [1.0], "z": [0.1], "sum": [700.0], **shift},
            3: {},
        },
        104.0,
    )
    table = read_table(path)
    data = table.data
    np.testing.assert_array_equal(data["frame"], [2, 2, 10])
    np.testing.assert_allclose(data["x_px"], [0, 3, 8.5])
    np.testing.assert_allclose(data["y_px"], [2, 7, 0.75])
    np.testing.assert_allclose(data["z_nm"], [-30, 200, 110], rtol=1e-5)
    np.testing.assert_allclose(data["photons"], [900, 800, 700])
    np.testing.assert_allclose(data["background_photons"], [4, 5, np.nan])
    assert table.meta["pixel_size_nm"] == 104
    assert read_table(path, 90.0).meta["pixel_size_nm"] == 90
    written = tmp_path / "out.csv"
    write_table(table, written)
    np.testing.assert_allclose(read_table(written).data["x_px"], data["x_px"])


def test_storm_analysis_without_localizations(tmp_path: Path) -> None:
    path = tmp_path / "movie.hdf5"
    write_storm(path, {0: {}}, 0.0)
    assert len(read_table(path)) == 0
    write_storm(path, {0: {"x": [1.0]}}, 0.0)
    with pytest.raises(InputError, match="frame 0 has no column y"):
        read_table(path)
    write_storm(path, {0: {"x": [1.0, 2.0], "y": [1.0]}}, 0.0)
    with pytest.raises(InputError, match="damaged"):
        read_table(path)


def write_insight(path: Path, rows: list[dict[str, float]], tail: bytes = b"") -> None:
    """As `writeinsight3.py` writes it; what is not given is 1."""
    real = ("x", "y", "xc", "yc", "h", "a", "w", "phi", "ax", "bg", "i")
    whole = ("c", "fi", "fr", "tl", "lk")
    body = b"".join(
        struct.pack("<11f", *(row.get(name, 1.0) for name in real))
        + struct.pack("<5i", *(int(row.get(name, 1)) for name in whole))
        + struct.pack("<2f", row.get("z", 1.0), row.get("zc", 1.0))
        for row in rows
    )
    head = b"M425" + struct.pack("<3i", 1, 6, len(rows))
    path.write_bytes(head + body + struct.pack("<i", 0) + tail)


ROWS = [
    {"x": 99, "y": 99, "xc": 1, "yc": 2.5, "fr": 1, "zc": -30, "a": 5000},
    {"x": 99, "y": 99, "xc": 11.1, "yc": 1, "fr": 3, "zc": 250, "a": 4000},
]


def test_insight3(tmp_path: Path) -> None:
    path = tmp_path / "movie_mlist.bin"
    write_insight(path, ROWS, b"<?xml?><xml><settings><pixel_size type='float'>104.0<")
    table = read_table(path)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    np.testing.assert_allclose(table.data["x_px"], [0, 10.1], rtol=1e-6)
    np.testing.assert_allclose(table.data["y_px"], [1.5, 0])
    np.testing.assert_allclose(table.data["z_nm"], [-30, 250])
    assert np.isnan(table.data["photons"]).all()  # counts, of an unknown camera
    assert table.meta["pixel_size_nm"] == 104
    # Insight3 itself puts the frames' lists behind, and no pixel size.
    write_insight(path, ROWS, bytes(200))
    assert "pixel_size_nm" not in read_table(path).meta
    assert read_table(path, 100.0).meta["pixel_size_nm"] == 100


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [(8, 2, "was not completed"), (12, 9, "holds 2 of 9 molecules"), (12, -1, "not")],
)
def test_molecule_lists_that_were_cut(
    at: int, value: int, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "movie_mlist.bin"
    write_insight(path, ROWS)
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, at, value)
    path.write_bytes(data)
    with pytest.raises(InputError, match=says):
        read_table(path)
    path.write_bytes(data[:9])
    with pytest.raises(InputError, match="was not completed"):
        read_table(path)


def test_a_molecule_without_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "movie_mlist.bin"
    write_insight(path, [ROWS[0], {**ROWS[1], "xc": float("nan")}])
    with pytest.raises(InputError, match=r"column xc.* row 2"):
        read_table(path)


VUTARA = (
    "image-ID,time-point,cycle,z-step,frame,accum,probe,photon-count,photon-count11,"
    "psfx,x,y,z,stdev,background11,valid,precisionx,precisiony,precisionz\n"
    "0,0,0,0,0,1,0,900,450,1.1,50,200,-30,9,4,1,12,10,25\n"
    "12,0,1,0,2,1,0,800,400,1.1,1060,50,0,9,5,1,12,11,25\n"
)


def test_vutara(tmp_path: Path) -> None:
    path = tmp_path / "particles.csv"
    path.write_text(VUTARA)
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_table(path)
    table = read_table(path, 100.0)
    data = table.data
    # The number of the image, not of the frame in its cycle.
    np.testing.assert_array_equal(data["frame"], [0, 12])
    np.testing.assert_allclose(data["x_px"], [0, 10.1])
    np.testing.assert_allclose(data["y_px"], [1.5, 0])
    np.testing.assert_allclose(data["z_nm"], [-30, 0])
    np.testing.assert_allclose(data["photons"], [900, 800])
    np.testing.assert_allclose(data["y_sigma_px"], [0.1, 0.11], rtol=1e-6)
    np.testing.assert_allclose(data["z_sigma_nm"], [25, 25])
    assert table.meta["generated_by"] == "Vutara SRX"


QUICKPALM = (
    " \tIntensity\tX (px)\tY (px)\tX (nm)\tY (nm)\tZ (nm)\tLeft-Width(px)\t"
    "Right-Width (px)\tUp-Height (px)\tDown-Height (px)\tX Symmetry (%)\t"
    "Y Symmetry (%)\tWidth minus Height (px)\tFrame Number\n"
    "1\t250\t0.0\t1.5\t0.0\t156.0\t-30.0\t1\t1\t1\t1\t99\t99\t0.1\t1.0\n"
    "2\t200\t10.1\t8.0\t1050.4\t832.0\t40.0\t1\t1\t1\t1\t99\t99\t0.1\t3.0\n"
)


def test_quickpalm(tmp_path: Path) -> None:
    path = tmp_path / "Particles Table.xls"
    path.write_text(QUICKPALM)
    table = read_table(path)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    np.testing.assert_allclose(table.data["x_px"], [0, 10.1], atol=1e-6)
    np.testing.assert_allclose(table.data["y_px"], [1.5, 8], atol=1e-6)
    np.testing.assert_allclose(table.data["z_nm"], [-30, 40])
    assert np.isnan(table.data["photons"]).all()
    assert table.meta["pixel_size_nm"] == 104
