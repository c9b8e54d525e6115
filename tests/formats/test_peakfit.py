"""Tables of PeakFit (GDSC SMLM): versions 2 to 4, in the units that they may have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.formats import read_table

OLD = (
    "#Localisation Results File\n#FileVersion Text.D0.E0.V2\n\n#Name Image (LSE)\n"
    "#Source <gdsc.smlm.ij.IJImageSource><width>428</width></gdsc.smlm.ij."
    "IJImageSource>\n#Bounds x0 y0 w428 h684\n"
    "#Calibration <gdsc.smlm.results.Calibration><nmPerPixel>105.0</nmPerPixel>"
    "<gain>5.0</gain><exposureTime>25.0</exposureTime></gdsc.smlm.results.Calibration>"
    "\n#Configuration <gdsc.smlm.engine.FitEngineConfiguration><search>2.5</search>"
    "</gdsc.smlm.engine.FitEngineConfiguration>\n"
    "#Frame\torigX\torigY\torigValue\tError\tNoise\tBackground\tSignal\tAngle\tX\tY\t"
    "X SD\tY SD\tPrecision\n"
    "1\t0\t2\t9.0\t0.1\t3.0\t20.0\t4500.0\t0.0\t0.5\t2.0\t1.2\t1.2\t10.5\n"
    "3\t10\t0\t9.0\t0.1\t3.0\t25.0\t4000.0\t0.0\t10.6\t0.5\t1.2\t1.2\t0.0\n"
)
NEW = (
    "#Localisation Results File\n#FileVersion Text.D0.E4.V4\n#Name Image (LSE)\n"
    '#Calibration {"timeCalibration":{"timeUnit":"FRAME"},"distanceCalibration":'
    '{"distanceUnit":"PIXEL","nmPerPixel":105.0},"intensityCalibration":'
    '{"intensityUnit":"PHOTON","countPerPhoton":5.0}}\n'
    "#Frame\torigX\torigY\torigValue\tError\tNoise (INT)\tMean (INT)\tBackground (INT)"
    "\tIntensity (INT)\tX (LEN)\tY (LEN)\tZ (LEN)\tS (LEN)\tPrecision (nm)\n"
)
ROWS = (
    (1, 0, 2, 9.0, 0.1, 3.0, 3.0, 4.0, 900.0, 0.5, 2.0, -0.2, 1.2, "10.5"),
    (3, 10, 0, 9.0, 0.1, 3.0, 3.0, 5.0, 800.0, 10.6, 0.5, 0.4, 1.2, "21.0*"),
)
INTENSITIES, LENGTHS = (5, 6, 7, 8), (9, 10, 11, 12)


def new(unit: str, scale: float, intensity: str = "photon", counts: float = 1) -> str:
    """A table of version 4 in the units a person chose."""
    text = NEW.replace("LEN", unit).replace("INT", intensity)
    for row in ROWS:
        cells = list(row)
        for k in LENGTHS:
            cells[k] = float(row[k]) * scale
        for k in INTENSITIES:
            cells[k] = float(row[k]) * counts
        text += "\t".join(map(str, cells)) + "\n"
    return text


def check(path: Path, pixel_nm: float | None = None) -> None:
    table = read_table(path, pixel_nm)
    data = table.data
    np.testing.assert_array_equal(data["frame"], [0, 2])
    np.testing.assert_allclose(data["x_px"], [0, 10.1], atol=1e-6)
    np.testing.assert_allclose(data["y_px"], [1.5, 0], atol=1e-6)
    np.testing.assert_allclose(data["photons"], [900, 800], rtol=1e-6)
    np.testing.assert_allclose(data["background_photons"], [4, 5], rtol=1e-6)
    assert table.meta["pixel_size_nm"] == 105
    assert table.meta["generated_by"] == "PeakFit"


@pytest.mark.parametrize("ending", ["xls", "txt", "results"])
def test_version_2_counts(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"Image.results.{ending}"
    path.write_text(OLD)
    check(path)
    data = read_table(path).data
    np.testing.assert_allclose(data["x_sigma_px"], [0.1, np.nan], rtol=1e-6)
    assert np.isnan(data["z_nm"]).all()
    path.write_text(OLD.replace("<gain>5.0</gain>", "<gain>0.0</gain>"))
    assert np.isnan(read_table(path).data["photons"]).all()


@pytest.mark.parametrize(
    ("unit", "scale"), [("px", 1), ("nm", 105), ("\N{GREEK SMALL LETTER MU}m", 0.105)]
)
def test_units_of_length(unit: str, scale: float, tmp_path: Path) -> None:
    path = tmp_path / "Image.results.xls"
    path.write_text(new(unit, scale), encoding="utf-8")
    check(path)
    data = read_table(path).data
    np.testing.assert_allclose(data["z_nm"], [-21, 42], rtol=1e-5)
    np.testing.assert_allclose(data["x_sigma_px"], [0.1, 0.2], rtol=1e-6)


def test_counts_are_turned_into_photons(tmp_path: Path) -> None:
    path = tmp_path / "Image.results.xls"
    path.write_text(new("px", 1, "count", 5))
    check(path)
    path.write_text(new("px", 1, "count", 5).replace('"countPerPhoton":5.0', ""))
    assert np.isnan(read_table(path).data["photons"]).all()


def test_pixel_sizes(tmp_path: Path) -> None:
    path = tmp_path / "Image.results.xls"
    path.write_text(new("px", 1).replace('"nmPerPixel":105.0', '"nmPerPixel":90.0'))
    check(path, 105.0)
    silent = new("nm", 105).replace('"nmPerPixel":105.0', "")
    path.write_text(silent)
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_table(path)
    check(path, 105.0)
    # In px nothing else is needed.
    flat = new("px", 1).replace('"nmPerPixel":105.0', "")
    path.write_text(flat.replace("-0.2", "0.0").replace("0.4", "0.0"))
    data = read_table(path).data
    np.testing.assert_allclose(data["x_px"], [0, 10.1], rtol=1e-6)
    assert np.isnan(data["x_sigma_px"]).all()


def test_deviations_stand_behind_each_column(tmp_path: Path) -> None:
    path = tmp_path / "Image.results.xls"
    lines = []
    for line in OLD.splitlines():
        cells = line.split("\t")
        if len(cells) > 2:
            header = line.startswith("#")
            for k in range(13, 5, -1):
                cells.insert(k, "+/-" if header else f"{0.01 * k:.2f}")
        lines.append("\t".join(cells))
    path.write_text("\n".join(lines).replace("D0.E0", "D1.E0") + "\n")
    check(path)
    data = read_table(path).data
    np.testing.assert_allclose(data["x_sigma_px"], 0.10, rtol=1e-6)
    np.testing.assert_allclose(data["y_sigma_px"], 0.11, rtol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("#Frame\t", "Frame\t", "no line that names"),
        ("\tX\t", "\tU\t", "no column X"),
        ("\t10.6\t0.5", "\t\t0.5", r"column X .*row 2"),
        ("\t1.2\t1.2\t0.0\n", "\n", "row 2 has 11"),
    ],
)
def test_damaged_tables(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "Image.results.xls"
    path.write_text(OLD.replace(old, new))
    with pytest.raises(InputError, match=says) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_unknown_units(tmp_path: Path) -> None:
    path = tmp_path / "Image.results.xls"
    path.write_text(new("furlong", 1))
    with pytest.raises(InputError, match="'furlong' are not known"):
        read_table(path, 105.0)
