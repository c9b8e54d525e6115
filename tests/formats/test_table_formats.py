"""What is written can be read again, here and in the program whose format it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.integrations.formats import (
    check_table_path,
    read_table,
    write_table,
)
from blinkloop.schema import (
    LOCALIZATION_DTYPE,
    GaussianPsfSettings,
    LocalizationTable,
)

h5py = pytest.importorskip("h5py", reason="Picasso tables are HDF5")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

HEADER_2D = (
    '"id","frame","x [nm]","y [nm]","sigma [nm]","intensity [photon]",'
    '"offset [photon]","bkgstd [photon]","uncertainty_xy [nm]","probability"'
)
HEADER_3D = (
    '"id","frame","x [nm]","y [nm]","z [nm]","sigma1 [nm]","sigma2 [nm]",'
    '"intensity [photon]","offset [photon]","bkgstd [photon]","uncertainty_xy [nm]",'
    '"uncertainty_z [nm]","probability"'
)


def make_table(
    count: int, rng: np.random.Generator, *, three_d: bool = True, **more: Any
) -> LocalizationTable:
    """Plausible localizations in a movie of 90 frames, 61 x 47 px."""
    rows = np.zeros(count, LOCALIZATION_DTYPE)
    rows["frame"] = np.sort(rng.integers(0, 90, count))
    rows["x_px"] = rng.uniform(0, 60.4, count)
    rows["y_px"] = rng.uniform(0, 46.4, count)
    rows["z_nm"] = rng.uniform(-500, 500, count) if three_d else 0
    rows["photons"] = rng.uniform(100, 9000, count)
    rows["background_photons"] = rng.uniform(1, 90, count)
    for name in ("x_sigma_px", "y_sigma_px"):
        rows[name] = rng.uniform(0.03, 0.4, count)
    rows["z_sigma_nm"] = rng.uniform(10, 90, count)
    rows["photons_sigma"] = rng.uniform(30, 300, count)
    rows["prob"] = rng.uniform(0.3, 1, count)
    meta = {
        "pixel_size_nm": 100.0,
        "width_px": 61,
        "height_px": 47,
        "frames": 90,
        "three_dimensional": three_d,
        "psf": GaussianPsfSettings().model_dump(),
        "model": "a test",
    } | more
    return LocalizationTable(rows, meta)


def close(
    table: LocalizationTable, read: LocalizationTable, names: dict[str, float]
) -> None:
    """Columns agree to the given absolute tolerance."""
    np.testing.assert_array_equal(read.data["frame"], table.data["frame"])
    for name, tolerance in names.items():
        np.testing.assert_allclose(
            read.data[name], table.data[name], rtol=1e-4, atol=tolerance, err_msg=name
        )


ALL = {
    "x_px": 1e-5,
    "y_px": 1e-5,
    "photons": 0.01,
    "background_photons": 0.01,
    "prob": 1e-5,
}


@pytest.mark.parametrize("three_d", [True, False], ids=["3D", "2D"])
@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize(
    "ending", [".hdf5", ".h5", ".csv", ".decode.h5", "_sml.mat", ".parquet"]
)
def test_round_trip(ending: str, count: int, three_d: bool, tmp_path: Path) -> None:
    table = make_table(count, np.random.default_rng(3), three_d=three_d)
    files = write_table(table, tmp_path / f"t{ending}")
    assert sorted(tmp_path.iterdir()) == sorted(files)
    read = read_table(files[0])
    assert len(read) == count
    close(table, read, ALL)
    if three_d:
        close(table, read, {"z_nm": 1e-2, "z_sigma_nm": 1e-2})
    elif count and ending != ".parquet":  # which keeps what is in the table
        assert np.isnan(read.data["z_nm"]).all()
    if ending != ".csv":
        close(table, read, {"x_sigma_px": 1e-6, "y_sigma_px": 1e-6})
    for key in ("pixel_size_nm", "width_px", "model", "three_dimensional", "frames"):
        assert read.meta[key] == table.meta[key], key


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 60))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ],
)
def test_conversion_chain_keeps_positions(
    seed: int, count: int, tmp_path: Path
) -> None:
    table = make_table(count, np.random.default_rng(seed))
    read = table
    for name in ("a.csv", "b.hdf5", "c_sml.mat", "d.decode.h5", "e.parquet", "f.csv"):
        write_table(read, tmp_path / name, overwrite=True)
        read = read_table(tmp_path / name)
    close(table, read, {**ALL, "x_px": 3e-5, "y_px": 3e-5, "z_nm": 1e-2})


def test_picasso_columns_units_and_metadata(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    table = make_table(4, np.random.default_rng(1), roi_px=[100, 20, 61, 47])
    table.data["z_nm"] = [0, 250, -250, 100]
    write_table(table, tmp_path / "t.hdf5")
    with h5py.File(tmp_path / "t.hdf5") as file:
        locs = file["locs"][...]
        inside = json.loads(file["metadata"][()])
    assert locs.dtype.names[:9] == (
        "frame", "x", "y", "photons", "sx", "sy", "bg", "lpx", "lpy",
    )  # fmt: skip
    assert {"z", "lpz", "prob"} <= set(locs.dtype.names)
    assert locs.dtype["frame"] == np.dtype("<u4")
    assert locs.dtype["x"] == np.dtype("<f4")
    np.testing.assert_allclose(locs["x"], table.data["x_px"], rtol=1e-6)
    wide = 1.1 * np.sqrt(1 + (500 / 280) ** 2)
    np.testing.assert_allclose(locs["sx"][1:3], [wide, 1.1], rtol=1e-6)
    np.testing.assert_allclose(locs["sy"][1:3], [1.1, wide], rtol=1e-6)
    beside = list(yaml.safe_load_all((tmp_path / "t.yaml").read_text()))
    assert beside == inside
    movie, fit = beside
    assert (movie["Width"], movie["Height"], movie["Frames"]) == (161, 67, 90)
    assert fit["Pixelsize"] == 100.0
    assert fit["Generated by"].startswith("blinkloop")


@pytest.mark.parametrize("name", ["x_sigma_px", "background_photons", "z_sigma_nm"])
def test_picasso_file_has_no_nan(name: str, tmp_path: Path) -> None:
    """Its loader would drop the rows."""
    table = make_table(20, np.random.default_rng(2), psf=None)
    table.data[name][3:] = np.nan
    write_table(table, tmp_path / "t.hdf5")
    with h5py.File(tmp_path / "t.hdf5") as file:
        locs = file["locs"][...]
        stand_ins = json.loads(file["metadata"][()])[1]["Stand-ins"]
    for column in locs.dtype.names:
        assert np.isfinite(locs[column]).all(), column
    assert stand_ins[0].startswith("sx, sy")
    if name == "x_sigma_px":
        np.testing.assert_allclose(locs["lpx"][:3], table.data[name][:3])
        assert (locs["lpx"] > 0).all()


def test_precision_formula_is_near_the_shot_noise_limit() -> None:
    from blinkloop.precision import precision_px

    sigma, photons = np.array([1.3]), np.array([5000.0])
    found = precision_px(sigma, photons, np.array([0.0]))
    np.testing.assert_allclose(found, np.sqrt((1.3**2 + 1 / 12) / 5000))
    assert precision_px(sigma, photons, np.array([50.0])) > found


@pytest.mark.parametrize(
    ("three_d", "header"), [(False, HEADER_2D), (True, HEADER_3D)], ids=["2D", "3D"]
)
@pytest.mark.parametrize("count", [0, 2])
def test_thunderstorm_header_and_origin(
    three_d: bool, header: str, count: int, tmp_path: Path
) -> None:
    table = make_table(count, np.random.default_rng(1), three_d=three_d)
    if count:
        table.data["x_px"][0], table.data["y_px"][0] = 0.0, 1.5
        table.data["frame"][0] = 0
    write_table(table, tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == header
    assert len(lines) == 1 + count
    if count:
        cells = lines[1].split(",")
        # Centre of the first pixel: half a pixel from the corner; frames from 1.
        assert cells[:4] == ["1", "1", "50.000", "200.000"]


def test_csv_in_any_order_with_gaps(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        '"y [nm]","uncertainty [nm]","Frame","x [nm]","chi2"\n'
        "250,12,1,50,\n150,,3,350,7\n"
    )
    table = read_table(tmp_path / "t.csv", 100.0)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    np.testing.assert_allclose(table.data["x_px"], [0, 3])
    np.testing.assert_allclose(table.data["y_px"], [2, 1])
    np.testing.assert_allclose(table.data["x_sigma_px"], [0.12, np.nan], rtol=1e-6)
    assert np.isnan(table.data["photons"]).all()
    assert table.meta["three_dimensional"] is False


@pytest.mark.parametrize("unit", ["px", "nm"])
def test_decode_axes_are_exchanged(unit: str, tmp_path: Path) -> None:
    scale = np.array([127.0, 117.0, 1.0]) if unit == "nm" else np.ones(3)
    with h5py.File(tmp_path / "t.h5", "w") as file:
        data = file.create_group("data")
        data["xyz"] = (np.array([[1.0, 20.0, 30.0]]) * scale).astype("f4")
        data["xyz_sig"] = (np.array([[0.1, 0.2, 3.0]]) * scale).astype("f4")
        data["frame_ix"] = np.array([7])
        data["phot"] = h5py.Empty("f4")
        meta = file.create_group("meta")
        meta.attrs["px_size"], meta.attrs["xy_unit"] = [127.0, 117.0], unit
    row = read_table(tmp_path / "t.h5").data[0]
    assert row["frame"] == 7
    np.testing.assert_allclose(
        [row[n] for n in ("x_px", "y_px", "z_nm")], [20, 1, 30], rtol=1e-5
    )
    np.testing.assert_allclose(
        [row[n] for n in ("x_sigma_px", "y_sigma_px")], [0.2, 0.1], rtol=1e-5
    )
    assert np.isnan(row["photons"])


def test_pixels_that_are_not_square_keep_their_nm(tmp_path: Path) -> None:
    table = make_table(
        9,
        np.random.default_rng(0),
        pixel_size_nm=117.0,
        pixel_size_xy_nm=[117.0, 127.0],
    )
    write_table(table, tmp_path / "t.csv")
    close(table, read_table(tmp_path / "t.csv"), {"x_px": 1e-5, "y_px": 1e-5})
    write_table(table, tmp_path / "t.hdf5")
    square = read_table(tmp_path / "t.hdf5")
    np.testing.assert_allclose(
        (square.data["y_px"] + 0.5) * 117, (table.data["y_px"] + 0.5) * 127, rtol=1e-5
    )


# --- files of other programs


@pytest.fixture
def tables() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"real tables not at {SHARED}")
    return SHARED


def test_real_decode_tables(tables: Path, tmp_path: Path) -> None:
    table = read_table(tables / "tables" / "decode_dstorm_data.h5")
    assert len(table) == 96
    with h5py.File(tables / "tables" / "decode_dstorm_data.h5") as file:
        xyz = file["data/xyz"][...]
    np.testing.assert_array_equal(table.data["x_px"], xyz[:, 1].astype("f8"))
    np.testing.assert_array_equal(table.data["y_px"], xyz[:, 0].astype("f8"))
    assert table.meta["pixel_size_xy_nm"] == [117.0, 127.0]
    empty = read_table(tables / "tables" / "decode_dstorm_data_empty.h5")
    assert len(empty) == 0
    for ending in (".hdf5", ".csv"):
        write_table(table, tmp_path / f"full{ending}")
        write_table(empty, tmp_path / f"empty{ending}")
        assert len(read_table(tmp_path / f"full{ending}")) == 96
        assert len(read_table(tmp_path / f"empty{ending}")) == 0


def test_real_thunderstorm_table(tables: Path) -> None:
    table = read_table(tables / "tables" / "Thunderstorm_dstorm_data.csv", 100.0)
    assert len(table) == 19
    assert table.data["frame"][0] == 2000
    np.testing.assert_allclose(table.data["x_px"][0], 13.20109670647555 - 0.5)
    np.testing.assert_allclose(table.data["x_sigma_px"][0], 0.2293255, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "count"),
    [("testdata_locs", 564), ("raw_movie_locs", 2399), ("testdata_mols", 4230)],
)
def test_real_picasso_tables(name: str, count: int, tables: Path) -> None:
    table = read_table(tables / "picasso" / f"{name}.hdf5")
    assert len(table) == count
    assert np.isfinite(table.data["x_px"]).all()
    if name == "testdata_locs":
        assert table.meta["pixel_size_nm"] == 130
        assert table.meta["frames"] == 1000


# --- bad input


def _damaged(kind: str, path: Path) -> Path:
    target = path / "t.csv"
    match kind:
        case "missing":
            return path / "none.hdf5"
        case "no columns":
            target.write_text("a,b\n1,2\n")
        case "ragged":
            target.write_text("frame,x [nm],y [nm]\n1,2,3\n1,2\n")
        case "no frame":
            target.write_text("frame,x [nm],y [nm]\n,2,3\n")
        case "no pixel size":
            target.write_text("frame,x [nm],y [nm]\n1,2,3\n")
        case "binary":
            target.write_bytes(b"\xff\xfe\x00\x01")
        case "picture":
            target = path / "t.png"
            target.write_bytes(b"\x89PNG\r\n\x1a\n")
        case "other hdf5":
            target = path / "t.h5"
            with h5py.File(target, "w") as file:
                file["numbers"] = [1, 2]
        case "truncated hdf5":
            target = path / "t.hdf5"
            write_table(make_table(5000, np.random.default_rng(0)), target)
            with target.open("r+b") as raw:
                raw.truncate(9000)
        case "empty file":
            target.write_bytes(b"")
    return target


@pytest.mark.parametrize(
    ("kind", "pixel", "says"),
    [
        ("missing", 100.0, "no such table"),
        ("no columns", 100.0, "needs the columns frame"),
        ("ragged", 100.0, "cells|columns"),
        ("no frame", 100.0, "cells without a number"),
        ("no pixel size", None, "--pixel-size-nm"),
        ("no pixel size", -3.0, "above 0"),
        ("binary", 100.0, "not a table"),
        ("picture", 100.0, "not a table"),
        ("other hdf5", None, "holds numbers"),
        ("truncated hdf5", None, "is it complete"),
        ("empty file", 100.0, "needs the columns frame"),
    ],
)
def test_bad_table_is_one_clear_line(
    kind: str, pixel: float | None, says: str, tmp_path: Path
) -> None:
    path = _damaged(kind, tmp_path)
    with pytest.raises(InputError, match=says) as caught:
        read_table(path, pixel)
    assert "\n" not in str(caught.value)


def test_refusals_leave_everything_as_it_was(tmp_path: Path) -> None:
    table = make_table(3, np.random.default_rng(0))
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        write_table(table, tmp_path / "there.csv")
    (tmp_path / "movie.raw").write_bytes(b"12")
    with pytest.raises(InputError, match="describes the movie"):
        write_table(table, tmp_path / "movie.hdf5", overwrite=True)
    with pytest.raises(InputError, match="no table can be written as"):
        check_table_path(tmp_path / "a.xyz")
    with pytest.raises(InputError, match="does not exist"):
        check_table_path(tmp_path / "none" / "a.csv")
    unknown = LocalizationTable(table.data, {})
    with pytest.raises(InputError, match="pixel size is not known"):
        write_table(unknown, tmp_path / "a.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["movie.raw", "there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_failure_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savetxt", full)
    with pytest.raises(InputError, match="No space left"):
        write_table(make_table(3, np.random.default_rng(0)), tmp_path / "a.csv")
    assert list(tmp_path.iterdir()) == []


def test_live_store_is_read(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    from blinkloop.runtime.records import FrameResult, Roi
    from blinkloop.runtime.sinks import LiveStore

    table = make_table(40, np.random.default_rng(8))
    store = LiveStore(tmp_path / "live")
    store.open(table.meta)
    blocks: npt.NDArray[np.float32] = np.zeros((6, 8), np.float32)
    results = [
        FrameResult(
            i, 0.01 * i, Roi(0, 0, 61, 47), 0, table.data[table.data["frame"] == i],
            False, 1.0, 0.5, blocks,
        )
        for i in range(90)
    ]  # fmt: skip
    store.write(results)
    store.close({"frames": 90})
    write_table(read_table(tmp_path / "live"), tmp_path / "t.hdf5")
    close(table, read_table(tmp_path / "t.hdf5"), {**ALL, "z_nm": 1e-3})
