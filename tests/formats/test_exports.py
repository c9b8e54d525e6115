"""Tables for DECODE, SMAP and Parquet hold what those programs look for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blinkloop.errors import InputError, MissingExtraError
from blinkloop.integrations.formats import (
    check_table_path,
    read_table,
    table,
    write_table,
)
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

h5py = pytest.importorskip("h5py")
pytest.importorskip("pyarrow")

META = {
    "pixel_size_nm": 100.0,
    "pixel_size_xy_nm": [100.0, 120.0],
    "width_px": 61,
    "height_px": 47,
    "three_dimensional": True,
    "model": "a test",
}
TOLERANCES = {".decode.h5": 1e-6, "_sml.mat": 1e-6, ".parquet": 0.0}
LAST_FRAME = 2**53 - 1


def localizations() -> st.SearchStrategy[npt.NDArray[np.void]]:
    """Rows with any value unknown but frame, x and y, and frames up to the last."""
    maybe = st.one_of(st.just(np.nan), st.floats(-1e4, 1e4, width=32))
    kinds = {"frame": st.integers(0, LAST_FRAME)}
    kinds |= dict.fromkeys(("x_px", "y_px"), st.floats(-5, 4096, width=32))
    row = st.tuples(*(kinds.get(name, maybe) for name in LOCALIZATION_DTYPE.names))
    return hnp.arrays(LOCALIZATION_DTYPE, st.integers(0, 8), elements=row)


@pytest.mark.parametrize("ending", TOLERANCES)
@given(rows=localizations())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_table_comes_back(
    ending: str, rows: npt.NDArray[np.void], tmp_path: Path
) -> None:
    path = tmp_path / f"t{ending}"
    write_table(LocalizationTable(rows, META), path, overwrite=True)
    read = read_table(path)
    assert read.meta == META
    np.testing.assert_array_equal(read.data["frame"], rows["frame"])
    for name in LOCALIZATION_DTYPE.names[1:]:
        # Unknown stays unknown, known stays known.
        np.testing.assert_allclose(
            read.data[name],
            rows[name],
            rtol=TOLERANCES[ending],
            # 1 px is added for SMAP: numbers near -1 px lose digits.
            atol=TOLERANCES[ending],
            err_msg=name,
        )


def two_rows() -> LocalizationTable:
    rows = np.zeros(2, LOCALIZATION_DTYPE)
    for i, name in enumerate(LOCALIZATION_DTYPE.names):
        rows[name] = [i, i + 20]
    return LocalizationTable(rows, META)


def test_decode_finds_its_axes_and_facts(tmp_path: Path) -> None:
    path = tmp_path / "t.decode.h5"
    write_table(two_rows(), path)
    with h5py.File(path) as file:
        # SMAP takes the groups and the attributes of `meta` by their place.
        assert [k for k in file if isinstance(file[k], h5py.Group)] == [
            "data",
            "decode",
            "meta",
        ]
        order: list[bytes] = []
        native = {"index_type": h5py.h5.INDEX_NAME, "order": h5py.h5.ITER_NATIVE}
        h5py.h5a.iterate(file["meta"].id, lambda n, *_: order.append(n), **native)
        assert order == [b"xy_unit", b"px_size"]
        assert file["meta"].attrs["xy_unit"] == "px"
        assert file["meta"].attrs["px_size"].tolist() == [120, 100]
        data = file["data"]
        np.testing.assert_array_equal(data["xyz"], [[2, 1, 3], [22, 21, 23]])
        np.testing.assert_array_equal(data["xyz_sig"][0], [7, 6, 8])
        np.testing.assert_array_equal(data["frame_ix"], [0, 20])
        assert data["frame_ix"].dtype == data["id"].dtype == np.int64
        assert {name for name in data if data[name].shape is None} == {
            "xyz_cr",
            "phot_cr",
            "bg_cr",
            "bg_sig",
        }


def test_decode_has_no_heights_in_2d(tmp_path: Path) -> None:
    flat = LocalizationTable(two_rows().data, {**META, "three_dimensional": False})
    flat.data["z_nm"] = np.nan
    flat.data["prob"] = np.nan
    path = tmp_path / "t.decode.h5"
    write_table(flat, path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["data/xyz"][:, 2], [0, 0])
        assert file["data/prob"].shape is None  # DECODE then takes 1
    assert np.isnan(read_table(path).data["z_nm"]).all()


def test_smap_finds_columns_of_matlab(tmp_path: Path) -> None:
    path = tmp_path / "t_sml.mat"
    unsure = two_rows()
    unsure.data["x_sigma_px"][1] = np.nan
    write_table(unsure, path)
    head = path.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file")
    assert head[124:128] == b"\x00\x02IM"
    assert head[512:516] == b"\x89HDF"
    with h5py.File(path) as file:
        loc = file["saveloc/loc"]
        assert {loc[name].shape for name in loc} == {(1, 2)}
        assert loc["frame"].attrs["MATLAB_class"] == b"double"
        assert loc["xnm"].attrs["MATLAB_class"] == b"single"
        np.testing.assert_array_equal(loc["frame"], [[1, 21]])
        # The centre of the first pixel is at 1 px, each axis with its pixel.
        np.testing.assert_array_equal(loc["xnm"], [[200, 2200]])
        np.testing.assert_array_equal(loc["ynm"], [[360, 2760]])
        # SMAP drops rows whose precision is not known.
        assert np.isfinite(loc["locprecnm"]).all()
        assert np.isnan(loc["xnmerr"][0, 1])
        info = file["saveloc/file/info"]
        np.testing.assert_allclose(info["cam_pixelsize_um"][:, 0], [0.1, 0.12])
        np.testing.assert_array_equal(info["roi"][:, 0], [0, 0, 61, 47])
        text = "".join(map(chr, file["blinkloop"][:, 0]))
        assert json.loads(text)["model"] == "a test"


def test_smap_has_no_heights_in_2d(tmp_path: Path) -> None:
    flat = LocalizationTable(two_rows().data, {**META, "three_dimensional": False})
    write_table(flat, tmp_path / "t_sml.mat")
    with h5py.File(tmp_path / "t_sml.mat") as file:
        assert "znm" not in file["saveloc/loc"]


def test_empty_arrays_of_matlab_say_so(tmp_path: Path) -> None:
    write_table(LocalizationTable(two_rows().data[:0], META), tmp_path / "t_sml.mat")
    with h5py.File(tmp_path / "t_sml.mat") as file:
        frame = file["saveloc/loc/frame"]
        assert frame.attrs["MATLAB_empty"] == 1
        np.testing.assert_array_equal(frame, [0, 1])  # an array of 0 by 1


def test_parquet_has_our_columns_and_types(tmp_path: Path) -> None:
    from pyarrow import parquet

    write_table(two_rows(), tmp_path / "t.parquet")
    inside = parquet.read_table(tmp_path / "t.parquet")
    assert inside.schema.names == list(LOCALIZATION_DTYPE.names)
    for name in inside.schema.names:
        kind = inside.schema.field(name).type.to_pandas_dtype()
        assert np.dtype(kind) == LOCALIZATION_DTYPE[name]
    assert json.loads(inside.schema.metadata[b"blinkloop"])["model"] == "a test"


@pytest.mark.parametrize("ending", TOLERANCES)
def test_a_pixel_size_that_is_said_comes_first(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{ending}"
    write_table(two_rows(), path, pixel_size_nm=50)
    assert read_table(path).meta["pixel_size_nm"] == 50
    with pytest.raises(InputError, match="pixel size is not known"):
        write_table(LocalizationTable(two_rows().data, {}), tmp_path / f"u{ending}")


def test_without_pyarrow_one_line_comes_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(two_rows(), tmp_path / "t.parquet")
    monkeypatch.setattr(table, "installed", lambda module: module != "pyarrow")
    monkeypatch.setattr("blinkloop.extras.installed", lambda _: False)
    says = r"Writing Parquet.*blinkloop\[parquet\]"
    with pytest.raises(MissingExtraError, match=says):
        check_table_path(tmp_path / "other.parquet")
    check_table_path(tmp_path / "other.hdf5")
    with pytest.raises(MissingExtraError, match=r"blinkloop\[parquet\]"):
        read_table(tmp_path / "t.parquet")


def test_picasso_counts_to_its_last_frame(tmp_path: Path) -> None:
    late = two_rows()
    late.data["frame"][1] = 2**32
    with pytest.raises(InputError, match=r"a frame 4294967296, and Picasso counts to"):
        write_table(late, tmp_path / "t.hdf5")
    late.data["frame"][1] = 2**32 - 1
    write_table(late, tmp_path / "t.hdf5")
    assert read_table(tmp_path / "t.hdf5").data["frame"][1] == 2**32 - 1


def test_decode_is_told_by_both_endings(tmp_path: Path) -> None:
    write_table(two_rows(), tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5") as file:
        assert "locs" in file  # .h5 alone is Picasso's
    write_table(two_rows(), tmp_path / "T.Decode.H5")
    with h5py.File(tmp_path / "T.Decode.H5") as file:
        assert "data" in file
