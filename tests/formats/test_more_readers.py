"""N-STORM, Leica GSD, `.smlm`, Parquet of others, and what Excel makes of a table."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.integrations.formats import read_table, write_table

pytest.importorskip("h5py")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tables"
FIELDS = ("x_px", "y_px", "z_nm", "photons", "x_sigma_px")

# --- text

NSTORM = (
    "Channel Name,X,Y,Xc,Yc,Height,Area,Width,Phi,Ax,BG,I,Frame,Length,Link,Valid,Z,Zc,"
    "Photons,Lateral Localization Accuracy,Xw,Yw,Xwc,Ywc,Zw,Zwc\n"
    "647,9,9,50,200,1,1,1,1,1,7,9,1,3,-1,1,9,-30,900,12,9,9,9,9,9,9\n"
    "Z Rejected,9,9,1060,50,1,1,1,1,1,7,9,3,1,-1,1,9,0,800,10,9,9,9,9,9,9\n"
).replace(",", "\t")
GSD = (
    "#stackID(UINT32), frameID(UINT32), eventID(UINT32), x0(float), y0(float), "
    "z0(float), photon_count0(float), sigmaX0(float), sigmaY0(float) \n"
    "    0,     0,     1,      0.50,      2.00,     -30.00,     900.0,  1.2,  1.1\n"
    "    0,     2,     1,     10.60,      0.50,     1e36,       800.0,  1.2,  1.1\n"
)
OLD_GSD = (
    "#stackID(UINT32), frameID(UINT32), eventID(UINT32), x0(float), y0(float), "
    "photon_count(float), z0(float), type(UINT32), n_raw(UINT32) \n"
    "    1,     0,     1,      0.50,      2.00,      900.0,      -30.00,  0,  0\n"
    "    1,     2,     1,     10.60,      0.50,      800.0,       1e36,   0,  0\n"
)


def test_nstorm_is_taken_after_its_drift_correction(tmp_path: Path) -> None:
    path = tmp_path / "molecules.txt"
    path.write_text(NSTORM)
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_table(path)
    table = read_table(path, 100.0)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    first = [table.data[name][0] for name in FIELDS]
    np.testing.assert_allclose(first, [0, 1.5, -30, 900, 0.12], rtol=1e-6)
    assert np.isnan(table.data["background_photons"]).all()
    assert table.meta["generated_by"] == "N-STORM"
    path.write_text(NSTORM.replace("Zwc\n", "Zwc\t\n"))
    assert len(read_table(path, 100.0)) == 2


def test_insight3_in_pixels_is_not_nstorms(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(NSTORM.replace("Channel Name", "Cas2"))
    with pytest.raises(InputError, match="not a table that blinkloop knows"):
        read_table(path, 100.0)


def test_a_table_with_names_is_not_cut(tmp_path: Path) -> None:
    """Elyra's settings below the table are its alone."""
    path = tmp_path / "locs.txt"
    path.write_text("label\tframe\txnm\tynm\na\t1\t100\t250\nb\t3\t1060\t50\n")
    assert len(read_table(path, 100.0)) == 2


@pytest.mark.parametrize("text", [GSD, OLD_GSD], ids=["sigmas", "old"])
def test_gsd_counts_pixels_and_frames_from_0(text: str, tmp_path: Path) -> None:
    path = tmp_path / "eventlist.ascii"
    path.write_text(text)
    table = read_table(path)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    np.testing.assert_allclose(table.data["x_px"], [0, 10.1], atol=1e-9)
    np.testing.assert_allclose(table.data["y_px"], [1.5, 0], atol=1e-9)
    np.testing.assert_allclose(table.data["photons"], [900, 800])
    # 1e36 is what Leica writes where there is no height; widths are no precision.
    np.testing.assert_array_equal(table.data["z_nm"], [-30, np.nan])
    assert np.isnan(table.data["x_sigma_px"]).all()
    assert "pixel_size_nm" not in table.meta
    assert read_table(path, 99.2).meta["pixel_size_nm"] == 99.2
    with pytest.raises(InputError, match="pixel size is not known"):
        write_table(table, tmp_path / "out.csv")
    path.write_text(text.replace(",     0,     1,", ",     1,     1,"))
    np.testing.assert_array_equal(read_table(path).data["frame"], [1, 2])


THUNDER = "frame;x [µm];y [µm]\n1;0,05;0,2\n3;1,06;0,05\n"


@pytest.mark.parametrize("first", ["", "sep=;\n", '"sep=;"\r\n'], ids=["", "sep", "q"])
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_excel_spellings(first: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    path.write_bytes((first + THUNDER).encode(code))
    data = read_table(path, 100.0).data
    np.testing.assert_array_equal(data["frame"], [0, 2])
    np.testing.assert_allclose(data["x_px"], [0, 10.1], atol=1e-9)
    np.testing.assert_allclose(data["y_px"], [1.5, 0], atol=1e-9)


@pytest.mark.parametrize("first", ["sep=\n", 'sep="\n', "sep=ab\n"])
def test_a_separator_that_is_none_is_one_line(first: str, tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    path.write_text(first + "frame,x [nm],y [nm]\n1,2,3\n")
    with pytest.raises(InputError, match=r"needs the columns frame.* and has sep="):
        read_table(path, 100.0)


def test_bytes_of_no_letter_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    # No letter of Windows-1252; a letter of it, and what no text has.
    for strange in (b"\x81", b"\xb5\x01"):
        path.write_bytes(b"frame,x [" + strange + b"m],y\n1,2,3\n")
        with pytest.raises(InputError, match="is not a text file"):
            read_table(path, 100.0)


def test_a_letter_that_the_sample_cuts_is_no_other_code_page(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    head = "frame,x [µm],y [µm]\n"
    rows = "1,0.05,0.2\n" * 6000
    for extra in range(4):
        fill = "#" + "m" * extra + "µ" * 70_000 + "\n"
        path.write_text(fill + head + rows, encoding="utf-8")
        assert len(read_table(path, 100.0)) == 6000


def test_a_frame_beyond_counting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    path.write_text("frame,x [nm],y [nm]\n1,2,3\n1e30,2,3\n")
    with pytest.raises(InputError, match=r"1e\+30 is no number of a frame"):
        read_table(path, 100.0)
    path.write_text(f"frame,x [nm],y [nm]\n{2**53 - 1},2,3\n")
    assert read_table(path, 100.0).data["frame"][0] == 2**53 - 2


# --- .smlm

KINDS = {
    "uint8": st.integers(0, 255),
    "uint16": st.integers(0, 2**16 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "float32": st.floats(-1e6, 1e6, width=32),
    "float64": st.floats(-1e6, 1e6),
}
Column = tuple[str, str, str, list[Any]]


def smlm(path: Path, columns: list[Column], **more: Any) -> None:
    """A file of one table: (name, type, unit, values) of each column."""
    kinds = [(name, "<" + np.dtype(kind).str[1:]) for name, kind, _, _ in columns]
    rows = np.zeros(len(columns[0][3]), kinds)
    for name, _, _, values in columns:
        rows[name] = values
    form = {
        "type": "table",
        "mode": "binary",
        "headers": [column[0] for column in columns],
        "dtype": [column[1] for column in columns],
        "shape": [1] * len(columns),
        "units": [column[2] for column in columns],
    }
    entry = {"name": "t.bin", "type": "table", "format": "f", "rows": len(rows)}
    manifest = {"format_version": "0.2", "formats": {"f": form}, "files": [entry]}
    for key, value in more.items():
        {"form": form, "entry": entry, "manifest": manifest}[key].update(value)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("t.bin", rows.tobytes())


BASIC: list[Column] = [
    ("frame", "uint32", "frame", [1, 3]),
    ("x", "float32", "nm", [50, 1060]),
    ("y", "float64", "", [200, 50]),
    ("z", "float32", "um", [-0.03, 0]),
    ("intensity", "float32", "photon", [900, 800]),
    ("x_precision", "float32", "nm", [12, 10]),
    ("chi", "float32", "", [1, 2]),
]


def test_smlm_says_columns_units_and_offsets(tmp_path: Path) -> None:
    path = tmp_path / "locs.smlm"
    smlm(path, BASIC)
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_table(path)
    table = read_table(path, 100.0)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    first = [table.data[name][0] for name in FIELDS]
    np.testing.assert_allclose(first, [0, 1.5, -30, 900, 0.12], rtol=1e-6, atol=1e-9)
    assert table.meta["columns_left_out"] == ["chi"]
    smlm(path, BASIC, entry={"offset": {"x": 100, "frame": 4}})
    data = read_table(path, 100.0).data
    np.testing.assert_array_equal(data["frame"], [4, 6])
    np.testing.assert_allclose(data["x_px"], [1, 11.1])


@given(data=st.data(), count=st.integers(0, 6))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_smlm_of_any_types_and_order(
    data: st.DataObject, count: int, tmp_path: Path
) -> None:
    names = data.draw(st.permutations(["frame", "x", "y", "z", "other"]))
    columns: list[Column] = []
    for name in names:
        kind = "uint32" if name == "frame" else data.draw(st.sampled_from([*KINDS]))
        values = data.draw(st.lists(KINDS[kind], min_size=count, max_size=count))
        columns.append((name, kind, "", values))
    path = tmp_path / "t.smlm"
    offset = data.draw(st.integers(-1000, 1000))
    smlm(path, columns, entry={"offset": {"x": offset}})
    read = read_table(path, 100.0).data
    of = {name: np.array(values, float) for name, _, _, values in columns}
    counts_from = min(1, of["frame"].min()) if count else 1
    np.testing.assert_array_equal(read["frame"], of["frame"] - counts_from)
    np.testing.assert_allclose(read["x_px"], (of["x"] + offset) / 100 - 0.5, atol=1e-9)
    np.testing.assert_allclose(read["y_px"], of["y"] / 100 - 0.5, atol=1e-9)
    # Heights are kept in single precision, which ends at 1e-38.
    low = np.abs(of["z"]) < 1e9
    np.testing.assert_allclose(read["z_nm"][low], of["z"][low], rtol=1e-6, atol=1e-30)


def _without(name: str) -> list[Column]:
    return [column for column in BASIC if column[0] != name]


TWO = [{"name": name, "type": "table", "format": "f", "rows": 2} for name in "ab"]


@pytest.mark.parametrize(
    ("columns", "more", "says"),
    [
        (_without("frame"), {}, r"no column frame \(it has x, y"),
        (_without("x"), {}, "no column x"),
        ([*_without("x"), ("x", "float32", "px", [1, 2])], {}, "x is in 'px'; export"),
        (BASIC, {"manifest": {"format_version": "0.3"}}, "version 0.3, .* reads 0.2"),
        (BASIC, {"manifest": {"files": TWO}}, r"2 tables \(a, b\)"),
        (BASIC, {"manifest": {"files": []}}, r"0 tables \(none\)"),
        (BASIC, {"form": {"mode": "text"}}, "is text; unpack the archive and give t"),
        (BASIC, {"entry": {"rows": 3}}, r"64 bytes, 3 rows of 32 are 96.*damaged"),
        (BASIC, {"form": {"dtype": ["complex"] * 7}}, "misspells .*KeyError"),
        (BASIC, {"form": {"shape": [1]}}, "misspells .*ValueError"),
        (BASIC, {"manifest": {"files": 3}}, "misspells .*TypeError"),
        (
            [*_without("y"), ("y", "float32", "nm", [np.nan, 2])],
            {},
            "column y has cells without a number",
        ),
    ],
)
def test_smlm_without_needed_facts_is_one_line(
    columns: list[Column], more: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "locs.smlm"
    smlm(path, columns, **more)
    with pytest.raises(InputError, match=says) as caught:
        read_table(path, 100.0)
    assert "\n" not in str(caught.value)


def test_an_intensity_of_no_unit_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.smlm"
    smlm(path, [*_without("intensity"), ("intensity", "float32", "", [5, 6])])
    table = read_table(path, 100.0)
    assert np.isnan(table.data["photons"]).all()
    assert table.meta["columns_left_out"] == ["chi", "intensity"]


@pytest.mark.parametrize("name", ["patch", "x"])
def test_columns_of_several_numbers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "t.smlm"
    columns = BASIC if name == "patch" else _without("x")
    pair: list[Column] = [(c, "float32", "nm", [7, 8]) for c in "ab"]
    smlm(
        path,
        [*pair, *columns],
        form={
            # Both are one column of the manifest; numbers may be text there.
            "headers": [name, *(column[0] for column in columns)],
            "dtype": ["float32", *(column[1] for column in columns)],
            "shape": [["2"], *["1"] * len(columns)],
            "units": ["nm", *(column[2] for column in columns)],
        },
    )
    if name == "x":
        with pytest.raises(InputError, match="no column x"):
            read_table(path, 100.0)
        return
    table = read_table(path, 100.0)
    np.testing.assert_allclose(table.data["x_px"], [0, 10.1])
    assert table.meta["columns_left_out"] == ["patch", "chi"]


def test_other_archives_say_what_they_are(tmp_path: Path) -> None:
    for inside, says in (
        ("xl/workbook.xml", "a workbook of Excel; save it as CSV"),
        ("a.csv", "an archive without a table"),
    ):
        with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
            archive.writestr(inside, "")
        with pytest.raises(InputError, match=says):
            read_table(tmp_path / "t.xlsx")
    smlm(tmp_path / "t.smlm", BASIC)
    whole = (tmp_path / "t.smlm").read_bytes()
    (tmp_path / "t.smlm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"t\.smlm is damaged .*copy it again"):
        read_table(tmp_path / "t.smlm")


def test_a_real_smlm() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"real tables not at {SHARED}")
    table = read_table(SHARED / "SMLM_dstorm_data.smlm", 100.0)
    assert len(table) == 10
    # The manifest says the least and the largest position.
    x_nm = (table.data["x_px"] + 0.5) * 100
    np.testing.assert_allclose([x_nm.min(), x_nm.max()], [1653.34, 14215.5])
    assert "intensity" in table.meta["columns_left_out"]


# --- Parquet of other programs


def parquet(path: Path, **columns: list[Any]) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    files.write_table(
        arrow.table({name.replace("__", " "): v for name, v in columns.items()}), path
    )
    return path


def test_picasso_in_parquet(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "t.parquet",
        frame=[0, 2],
        x=[1.5, 2.5],
        y=[0.5, 4],
        lpx=[0.1, 0.2],
        lpy=[0.1, 0.2],
        photons=[900.0, None],
        group=["a", "b"],
    )
    table = read_table(path, 130.0)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    np.testing.assert_array_equal(table.data["x_px"], [1.5, 2.5])
    np.testing.assert_array_equal(table.data["photons"], [900, np.nan])
    assert table.meta == {"pixel_size_nm": 130.0, "three_dimensional": False}


@pytest.mark.parametrize(
    ("names", "program"),
    [
        (("frame", "xnm", "ynm"), "SMAP"),
        (("frame", "x [nm]", "y [nm]"), None),
        (("Frame", "xnano", "ynano"), "SMLM challenge"),
    ],
)
def test_other_columns_in_parquet(
    names: tuple[str, ...], program: str | None, tmp_path: Path
) -> None:
    start = 100 if program == "SMAP" else 50
    columns = dict(zip(names, ([1, 3], [start, 1060], [start, 50]), strict=True))
    table = read_table(parquet(tmp_path / "t.parquet", **columns), 100.0)
    np.testing.assert_array_equal(table.data["frame"], [0, 2])
    np.testing.assert_allclose([table.data[a][0] for a in ("x_px", "y_px")], 0)
    assert table.meta.get("generated_by") == program


def test_parquet_that_is_not_known_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    parquet(path, frame=[0, 1], x=[1.0, 2.0], y=[1.0, 2.0])
    with pytest.raises(InputError, match=r"not known in which unit .*frame, x, y"):
        read_table(path, 100.0)
    parquet(path, frame=[0, None], x_px=[1.0, 2.0], y_px=[1.0, 2.0])
    with pytest.raises(InputError, match="column frame has cells without"):
        read_table(path)
    parquet(path, frame=[1, 2], x_px=[1.0, 2.0], y_px=[1.0, 2.0])
    assert np.isnan(read_table(path).data["photons"]).all()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"cannot be read as Parquet .*copy it again"):
        read_table(path)
