"""Calibrations of ThunderSTORM, storm-analysis and rapidSTORM: widths over z.

No real file of these programs could be had. Those written here are doubles in the
layout of the programs' sources; the images are worked out here from the formulas that
these state, one number at a time.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from psf_samples import picture

from blinkloop.errors import InputError
from blinkloop.training.calibration.files import is_calibration, read_calibration

HUANG = {
    "a1": 0.0,
    "a2": 0.1,
    "angle": 0.0,
    "b1": 0.2,
    "b2": 0.0,
    "c1": -210.0,
    "c2": 190.0,
    "d1": 400.0,
    "d2": -380.0,
    "w01": 2.6,
    "w02": 2.4,
}
PARABOLA = {
    "a1": 6.0e-6,
    "a2": 5.0e-6,
    "angle": 0.0,
    "b1": 1.3,
    "b2": 1.2,
    "c1": -210.0,
    "c2": 190.0,
    "d1": 0.0,
    "d2": 1.0e-9,
    "w01": 0.0,
    "w02": 0.0,
}


def huang(z, axis):
    a, b, c, d, w = (HUANG[name + axis] for name in ("a", "b", "c", "d", "w0"))
    t = (z - c) / d
    return w / 2 * math.sqrt(1 + t * t + a * t * t * t + b * t * t * t * t)


def parabola(z, axis):
    a, b, c, d = (PARABOLA[name + axis] for name in "abcd")
    return b + a * (z - c) * (z - c) + d * (z - c) * (z - c) * (z - c)


def gaussian(x, y, one, two, angle=0.0, height=29, width=33):
    """1000 photons, the value in the middle of each pixel."""
    frame = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            dx, dy = column - x, row - y
            along = dx * math.cos(angle) - dy * math.sin(angle)
            across = dx * math.sin(angle) + dy * math.cos(angle)
            away = (along / one) ** 2 + (across / two) ** 2
            frame[row, column] = math.exp(-away / 2) / (2 * math.pi * one * two)
    return 1000 * frame


@pytest.fixture
def thunderstorm(tmp_path):
    def write(model, fields, name="Huang '08", planes=1, path="cal.yaml"):
        file = tmp_path / path
        tag = f"!!cz.cuni.lf1.lge.ThunderSTORM.calibration.{model}"
        inside = ", ".join(f"{key}: {value}" for key, value in fields.items())
        document = f"{tag} {{{inside}, name: {name}}}\n"
        file.write_text("--- ".join([document] * planes))
        return file

    return write


@pytest.mark.parametrize("angle", [0.0, 0.4])
@pytest.mark.parametrize(
    ("model", "fields", "width"),
    [
        pytest.param("DaostormCalibration", HUANG, huang, id="Huang"),
        pytest.param("PolynomialCalibration", PARABOLA, parabola, id="polynomial"),
    ],
)
@pytest.mark.parametrize("z", [-310.0, 0.0, 150.0])
def test_thunderstorm(thunderstorm, model, fields, width, angle, z):
    path = thunderstorm(model, fields | {"angle": angle})
    assert is_calibration(path)
    got = read_calibration(path, pixel_size_nm=100)
    np.testing.assert_allclose(got.z_range_nm, (-400, 400))
    assert got.pixel_size_nm == 100
    assert got.source["program"] == "ThunderSTORM"
    assert "-400 to 400 nm are taken" in got.source["notes"]
    frame = picture(got.psf(), x=15.0, y=13.0, z=z, height=29, width=33)
    expected = gaussian(15.0, 13.0, width(z, "1"), width(z, "2"), angle)
    np.testing.assert_allclose(frame, expected, atol=0.005 * expected.max())
    # Axes and sign of the angle matter more than that.
    swapped = gaussian(15.0, 13.0, width(z, "2"), width(z, "1"), -angle)
    assert np.abs(frame - swapped).max() > 0.02 * expected.max()


def test_thunderstorm_of_version_1_0_and_two_planes(thunderstorm):
    """No third power and no name of the model; a biplane has a document for each."""
    fields = {k: v for k, v in PARABOLA.items() if k[0] in "abc"}
    path = thunderstorm("PolynomialCalibration", fields, planes=2)
    one = read_calibration(path, channel=1)
    assert "channel 1 of 2" in one.source["notes"]
    frame = picture(one.psf(), x=15.0, y=13.0, z=-300.0, height=29, width=33)
    second = 1.2 + 5e-6 * 490.0**2
    expected = gaussian(15.0, 13.0, parabola(-300.0, "1"), second)
    np.testing.assert_allclose(frame, expected, atol=0.005 * expected.max())


@pytest.mark.parametrize(
    ("model", "fields", "says"),
    [
        pytest.param("Homography", HUANG, "without a Polynomial", id="other class"),
        pytest.param("DaostormCalibration", HUANG | {"d1": 0}, "d1 is 0", id="d"),
        pytest.param("DaostormCalibration", HUANG | {"c1": "x"}, "'c1'", id="text"),
        pytest.param("DaostormCalibration", HUANG | {"b2": "[1"}, "YAML", id="broken"),
        pytest.param(
            "DaostormCalibration", HUANG | {"w01": 260.0}, "is no PSF", id="nm"
        ),
        pytest.param("PolynomialCalibration", {"a1": 1}, "'b1'", id="missing"),
    ],
)
def test_thunderstorm_that_is_no_psf(thunderstorm, model, fields, says):
    with pytest.raises(InputError, match=says) as error:
        read_calibration(thunderstorm(model, fields))
    assert "\n" not in str(error.value)


CURVES = {
    "wx_wo": 300.0,
    "wx_c": -150.0,
    "wx_d": 400.0,
    "wxA": 0.1,
    "wxB": -0.02,
    "wxC": 0.01,
    "wxD": 0.003,
    "wy_wo": 320.0,
    "wy_c": 170.0,
    "wy_d": 380.0,
}


@pytest.fixture
def daostorm(tmp_path):
    def write(root="settings", **changes):
        values = {k: v for k, v in (CURVES | changes).items() if v is not None}
        rows = "".join(f'<{k} type="float">{v}</{k}>\n' for k, v in values.items())
        path = tmp_path / "analysis.xml"
        path.write_text(f'<?xml version="1.0"?>\n<{root}>\n{rows}</{root}>\n')
        return path

    return write


def test_storm_analysis(daostorm):
    got = read_calibration(daostorm(pixel_size=160.0, min_z=-0.6, max_z=0.4))
    np.testing.assert_allclose(got.z_range_nm, (-600, 400))
    assert got.pixel_size_nm == 160
    assert got.source["program"] == "storm-analysis"
    for z in (-600.0, -33.0, 290.0):
        t, u = (z + 150.0) / 400.0, (z - 170.0) / 380.0
        terms = 1 + t**2 + 0.1 * t**3 - 0.02 * t**4 + 0.01 * t**5 + 0.003 * t**6
        # Widths are twice the SD, in nm.
        sx = 150.0 / 160.0 * math.sqrt(terms)
        sy = 160.0 / 160.0 * math.sqrt(1 + u**2)
        frame = picture(got.psf(), x=15.0, y=13.0, z=z, height=29, width=33)
        expected = gaussian(15.0, 13.0, sx, sy)
        np.testing.assert_allclose(frame, expected, atol=0.005 * expected.max())


def test_what_storm_analysis_prints_needs_a_pixel_size(daostorm):
    path = daostorm(root="xml")
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_calibration(path)
    got = read_calibration(path, pixel_size_nm=120)
    np.testing.assert_allclose(got.z_range_nm, (-500, 500))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"wy_c": None}, "wy_c must be a number, got None", id="missing"),
        pytest.param({"wx_d": 0}, "wx_d is 0", id="d"),
        pytest.param({"wxB": "text"}, "wxB must be a number", id="text"),
        pytest.param({"wx_wo": 0.3}, "is no PSF", id="um"),
        pytest.param({"min_z": 400, "max_z": -400}, "is no PSF", id="range"),
        pytest.param({"wxA": "<"}, "as XML", id="broken"),
    ],
)
def test_storm_analysis_that_is_no_psf(daostorm, changes, says):
    with pytest.raises(InputError, match=says) as error:
        read_calibration(daostorm(pixel_size=160.0, **changes))
    assert "\n" not in str(error.value)


def test_xml_with_entities_is_not_expanded(daostorm):
    path = daostorm()
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]>' + path.read_text())
    with pytest.raises(InputError, match="DOCTYPE"):
        read_calibration(path, pixel_size_nm=100)


@pytest.fixture
def rapidstorm(tmp_path):
    def write(first=-400.0, step=50.0, slope=1.0, rows=17):
        path = tmp_path / "z-calibration.txt"
        z = first + step * np.arange(rows)
        path.write_text("\n".join(f"{k:.1f} {x:.9f} {y:.9f}" for k, x, y in table(z)))
        return path

    def table(z):
        # Around the middle of the heights, in um.
        at = z - (z[0] + z[-1]) / 2
        return zip(z, 0.13 + 2e-4 * (at + 400), 0.12 + 1e-4 * (400 - at), strict=True)

    return write


@pytest.mark.parametrize("first", [-400.0, 1600.0])
def test_rapidstorm(rapidstorm, first):
    path = rapidstorm(first)
    assert is_calibration(path)
    got = read_calibration(path, pixel_size_nm=110)
    np.testing.assert_allclose(got.z_range_nm, (-400, 400))
    moved = "it is 2000 nm of it now" in got.source.get("notes", "")
    assert moved == (first > 0)
    # Straight lines, which a spline follows.
    sx, sy = 130 + 0.2 * (125 + 400), 120 + 0.1 * (400 - 125)
    frame = picture(got.psf(), x=15.0, y=13.0, z=125.0, height=29, width=33)
    expected = gaussian(15.0, 13.0, sx / 110, sy / 110)
    np.testing.assert_allclose(frame, expected, atol=0.005 * expected.max())
    with pytest.raises(InputError, match="--pixel-size-nm"):
        read_calibration(path)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("0 1 2\n1 1 2\n2 1 2", id="too few"),
        pytest.param("0 1 2\n1 1 2\n2 1 2\n2 1 2", id="uneven"),
        pytest.param("0 1 2\n1 1 2\n2 1 2\n3 1 99", id="wide"),
        pytest.param("0 1 2\n1 1 2\n2 1 2\n3 1", id="two columns"),
        pytest.param("frame x y\n0 1 2\n1 1 2\n2 1 2\n3 1 2", id="a header"),
    ],
)
def test_a_text_that_is_no_table_of_rapidstorm(tmp_path, text):
    path = tmp_path / "cal.txt"
    path.write_text(text)
    assert not is_calibration(path)
    with pytest.raises(InputError, match="not a calibration that can be read"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        pytest.param("a.spline", b"\x80\x04\x95psf..", "pickle", id="pickle"),
        pytest.param(
            "a.json", b'{"sizeFFT":"64","zernikedPSF":"true"}', "ZOLA-3D", id="ZOLA"
        ),
    ],
)
def test_known_files_of_which_no_psf_is_made(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    assert is_calibration(path)
    with pytest.raises(InputError, match=rf"{says}.*give the bead stack"):
        read_calibration(path)
