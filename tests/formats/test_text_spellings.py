"""Text tables as programs of several languages, settings and versions spell them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.formats import read_table, write_table
from blinkloop.schema import LOCALIZATION_DTYPE, LocalizationTable

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "tables"
NAMES = ("id", "frame", "x [nm]", "y [nm]", "intensity [photon]")
ROWS = (("1", "3", "1050.5", "2050", "900"), ("2", "4", "1150", "2150.25", "800.5"))


def _text(delimiter: str, *, comma: bool = False, quote: str = "") -> str:
    lines = [delimiter.join(f'"{name}"' for name in NAMES)]
    for row in ROWS:
        cells = [cell.replace(".", ",") if comma else cell for cell in row]
        lines.append(delimiter.join(f"{quote}{cell}{quote}" for cell in cells))
    return "\n".join(lines) + "\n"


SPELLINGS = {
    "commas": (_text(","), "utf-8", ".csv"),
    "semicolons": (_text(";"), "utf-8", ".csv"),
    "german excel": (_text(";", comma=True), "utf-8-sig", ".csv"),
    "tabs": (_text("\t"), "utf-8", ".tsv"),
    "tabs named excel": (_text("\t").replace("\n", "\r\n"), "utf-8", ".xls"),
    "unicode text": (_text("\t", comma=True), "utf-16", ".txt"),
    "quoted decimal commas": (_text(",", comma=True, quote='"'), "utf-8", ".csv"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings_of_one_table(spelling: str, tmp_path: Path) -> None:
    text, encoding, ending = SPELLINGS[spelling]
    path = tmp_path / f"locs{ending}"
    path.write_bytes(text.encode(encoding))
    data = read_table(path, 100.0).data
    np.testing.assert_array_equal(data["frame"], [2, 3])
    np.testing.assert_allclose(data["x_px"], [10.005, 11])
    np.testing.assert_allclose(data["y_px"], [20, 21.0025])
    np.testing.assert_allclose(data["photons"], [900, 800.5])


def test_decimal_commas_between_commas_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    path.write_text(_text(",", comma=True))
    with pytest.raises(InputError, match=r"row 1 has 6; .* decimal commas"):
        read_table(path, 100.0)


def test_thousands_are_no_decimals(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    path.write_text("frame;x [nm];y [nm]\n1;1,320.5;50\n2;320.5;50\n")
    with pytest.raises(InputError, match=r"x \[nm\].* without a number .* row 1\)"):
        read_table(path, 100.0)


UNITS = (
    # In px all of it: no pixel size is needed.
    ("x [px],y [px],uncertainty [px]", "10.5,20.5,0.1", None, np.nan),
    ("x [um],y [um],uncertainty [um]", "1.05,2.05,0.01", 100.0, np.nan),
    ("x [nm],y [nm],z [um],uncertainty_xy [px]", "1050,2050,-.3,0.1", 100.0, -300.0),
    ("x [px],y [px],z [px],uncertainty_xy [nm]", "10.5,20.5,3,10", 100.0, np.nan),
)


@pytest.mark.parametrize(("names", "cells", "pixel", "z_nm"), UNITS)
def test_thunderstorm_units(
    names: str, cells: str, pixel: float | None, z_nm: float, tmp_path: Path
) -> None:
    path = tmp_path / "locs.csv"
    path.write_text(f"frame,{names},intensity [ADU]\n1,{cells},7000\n")
    table = read_table(path, pixel)
    row = table.data[0]
    got = [row[name] for name in ("x_px", "y_px", "x_sigma_px", "z_nm", "photons")]
    np.testing.assert_allclose(got, [10, 20, 0.1, z_nm, np.nan], rtol=1e-6)
    assert table.meta.get("pixel_size_nm") == pixel
    assert table.meta["three_dimensional"] is bool(np.isfinite(z_nm))


def test_nanoimager_says_pixel_and_precision(tmp_path: Path) -> None:
    path = tmp_path / "locs.csv"
    names = "Channel,Frame,X (nm),Y (nm),Z (nm),X precision (nm),Y precision (nm)"
    path.write_text(
        f"{names},X (pix),Y (pix),Photons,Background\n"
        "0,0,1170,2340,0,11.7,23.4,10.00,20.00,900,4\n"
        "1,2,1.2,4680,0,11.7,23.4,0.01,40.00,900,4\n"
    )
    table = read_table(path)
    assert table.meta["pixel_size_nm"] == pytest.approx(117)
    row = table.data[0]
    got = [row[name] for name in ("x_px", "y_px", "x_sigma_px", "y_sigma_px")]
    np.testing.assert_allclose(got, [9.5, 19.5, 0.1, 0.2], rtol=1e-6)
    # From another origin they tell nothing.
    path.write_text(path.read_text().replace("10.00,20.00", "9.50,19.50"))
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_table(path)


def test_a_table_of_a_person_is_not_nanoimagers(tmp_path: Path) -> None:
    """Nobody knows whether its frames count from 0, as Nanoimager's do."""
    path = tmp_path / "locs.csv"
    path.write_text("Frame,X (nm),Y (nm)\n1,1170,2340\n")
    with pytest.raises(InputError, match=r"has Frame, X \(nm\), Y \(nm\); name them"):
        read_table(path, 100.0)


_FIELD = '<field identifier="{}" unit="{}" min="0 m" />'


def _rapidstorm(unit: str, nested: str = "") -> str:
    fields = "".join(
        _FIELD.format(name, unit)
        for name in ("Position-0-0", "Position-1-0", "Position-0-0-uncertainty")
    )
    frame = _FIELD.format("ImageNumber-0-0", "frame")
    return f'# <localizations insequence="true">{fields}{frame}{nested}\n'


@pytest.mark.parametrize(("unit", "scale"), [("nanometer", 1), ("meter", 1e-9)])
def test_rapidstorm_unit_and_origin(unit: str, scale: float, tmp_path: Path) -> None:
    path = tmp_path / "locs.txt"
    path.write_text(
        _rapidstorm(unit) + f"{1050 * scale} {2000 * scale} {10 * scale} 0\n"
    )
    row = read_table(path, 100.0).data[0]
    # 0 nm is the centre of the first pixel.
    got = [row[name] for name in ("x_px", "y_px", "x_sigma_px")]
    np.testing.assert_allclose(got, [10.5, 20, 0.1], rtol=1e-6)


def test_rapidstorm_in_pixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "locs.txt"
    path.write_text(_rapidstorm("pixel") + "10 20 0.1 0\n")
    with pytest.raises(InputError, match="in 'pixel', which is no length; export"):
        read_table(path, 100.0)


def test_real_tracks_of_rapidstorm_have_no_precision() -> None:
    """The uncertainty is of the localizations within, in columns of their own."""
    if not SHARED.is_dir():
        pytest.skip(f"real tables not at {SHARED}")
    table = read_table(SHARED / "rapidSTORM_dstorm_track_data.txt", 134.0)
    assert np.isnan(table.data["x_sigma_px"]).all()
    # The header ends at 63 pixels of 134 nm, for frames of 64 px.
    assert 0 <= table.data["x_px"].min() <= table.data["x_px"].max() <= 63


@pytest.mark.parametrize("unit", ["px", "nm"])
def test_decode_csv(unit: str, tmp_path: Path) -> None:
    """Comment lines and columns as DECODE 0.10 writes them."""
    scale = np.array([127.0, 117.0]) if unit == "nm" else np.ones(2)
    x, y = np.array([1.0, 20.0]) * scale
    sx, sy = np.array([0.1, 0.2]) * scale
    path = tmp_path / "emitter.csv"
    path.write_text(
        '# DECODE EmitterSet\n# {"version": "v0.10.0"}\n'
        f'# {{"xy_unit": "{unit}", "px_size": [127.0, 117.0]}}\n'
        "x,y,z,phot,frame_ix,id,prob,bg,phot_cr,x_cr,x_sig,y_sig,z_sig\n"
        f"{x},{y},30.0,900.0,7,0,0.75,4.0,,,{sx},{sy},3.0\n"
    )
    table = read_table(path)
    row = table.data[0]
    assert row["frame"] == 7
    names = ("x_px", "y_px", "z_nm", "photons", "x_sigma_px", "y_sigma_px", "prob")
    got = [row[name] for name in names]
    np.testing.assert_allclose(got, [20, 1, 30, 900, 0.2, 0.1, 0.75], rtol=1e-6)
    assert table.meta["pixel_size_xy_nm"] == [117, 127]
    assert table.meta["generated_by"] == "DECODE v0.10.0"
    path.write_text(path.read_text().replace("frame_ix", "frame"))
    with pytest.raises(InputError, match="no column frame_ix"):
        read_table(path)


def test_columns_nobody_knows_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "nstorm.txt"
    path.write_text("Channel Name\tX\tY\tXc\tYc\tFrame\n647\t1\t2\t1\t2\t1\n")
    with pytest.raises(InputError, match=r"has Channel Name, X, .* name them so, or"):
        read_table(path, 100.0)


def test_what_is_written_has_numbers_as_java_reads_them(tmp_path: Path) -> None:
    """ThunderSTORM parses with DecimalFormat: no exponents, and NaN in this case only.

    Tried with Java 17: "nan" skips the row, 1.2e+06 is 1.2, 5e-05 is 5.
    """
    rows = np.zeros(3, LOCALIZATION_DTYPE)
    rows["frame"] = [0, 7, 2_000_000]
    rows["x_px"], rows["y_px"] = [0, 12.3456, 2e4], [1.5, 1e-7, -0.25]
    rows["photons"] = [1_234_567, np.nan, 900.125]
    rows["background_photons"] = [2e-5, 3, np.nan]
    rows["x_sigma_px"], rows["y_sigma_px"] = [1e-6, np.inf, 0.1], [1e-6, 1, 0.1]
    rows["z_nm"] = rows["z_sigma_nm"] = np.nan
    rows["prob"] = [0.123456, 1e-5, 1]
    table = LocalizationTable(
        rows, {"pixel_size_nm": 110.0, "three_dimensional": False}
    )
    path = tmp_path / "locs.csv"
    write_table(table, path)
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    cells = [line.split(",") for line in lines]
    for cell in (cell for row in cells for cell in row):
        assert re.fullmatch(r"-?\d+(\.\d+)?|NaN|Infinity", cell), cell
    assert cells[0][:6] == ["1", "1", "55.000", "220.000", "NaN", "1234567.000"]
    back = read_table(path).data
    np.testing.assert_array_equal(back["frame"], rows["frame"])
    for name, digit in (("photons", 1e-3), ("prob", 1e-6), ("x_px", 1e-5)):
        np.testing.assert_allclose(back[name], rows[name], rtol=1e-6, atol=digit)
