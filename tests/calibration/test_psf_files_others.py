"""Calibrations of uiPSF, SMAPpy and Picasso, and files that are none.

Written here in the layout that those programs write; each is called a double.
"""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import yaml
from psf_samples import calibration, picture, samples_xyz

from blinkloop.errors import InputError
from blinkloop.optics.gaussian import render_gaussians
from blinkloop.psf_file import write_psf
from blinkloop.training.calibration._axes import flip_rows, transposed
from blinkloop.training.calibration.files import is_calibration, read_calibration


def same_psf(got, expected, **at):
    np.testing.assert_allclose(
        picture(got.psf(), **at), picture(expected.psf(), **at), atol=2e-3
    )


def uipsf(path, models, coeff=None, **params):
    """`models`: {"" or "channelN": (z, y, x)}."""
    facts = {
        "pixel_size": {"x": 0.11, "y": 0.11, "z": 0.05},
        "PSFtype": "voxel",
        "channeltype": "single",
        "swapxy": False,
        "dual": {"mirrortype": "up-down"},
    }
    with h5py.File(path, "w") as file:
        file.attrs["params"] = json.dumps(facts | params)
        for name, samples in models.items():
            group = file.require_group(f"res/{name}" if name else "res")
            group["I_model"] = samples
        if coeff is not None:
            file["locres/coeff"] = coeff
    return path


ZYX = samples_xyz().transpose(2, 1, 0)


@pytest.mark.parametrize(
    ("samples", "params"),
    [
        pytest.param(3.0 * ZYX, {}, id="scaled"),
        pytest.param(ZYX[::-1], {"PSFtype": "insitu_zernike"}, id="in situ"),
        pytest.param(ZYX.transpose(0, 2, 1), {"swapxy": True}, id="swapped axes"),
    ],
)
def test_uipsf(tmp_path, samples, params):
    got = read_calibration(uipsf(tmp_path / "psf.h5", {"": samples}, **params))
    same_psf(got, calibration())
    assert got.dz_nm == 50
    np.testing.assert_allclose(got.pixel_size_nm, 110)
    np.testing.assert_allclose(got.z_range_nm, (-200, 200))
    assert got.source["program"] == "uiPSF"


def test_uipsf_channels(tmp_path):
    # Learnt on the second channel turned like the first: rows mirrored.
    models = {"channel0": ZYX, "channel1": ZYX[:, ::-1]}
    path = uipsf(tmp_path / "psf.h5", models, channeltype="multi")
    for channel in (0, 1):
        got = read_calibration(path, channel=channel)
        same_psf(got, calibration())
        assert f"channel {channel} of 2" in got.source["notes"]
    with pytest.raises(InputError, match="channels 0 to 1, not 2"):
        read_calibration(path, channel=2)


def test_uipsf_coefficients_when_there_is_no_model(tmp_path):
    stored = calibration().coefficients.transpose(3, 2, 1, 0)
    path = uipsf(tmp_path / "psf.h5", {}, coeff=stored)
    got = read_calibration(path)
    np.testing.assert_array_equal(got.coefficients, calibration().coefficients)
    assert "no I_model" in got.source["notes"]


@pytest.mark.parametrize(
    ("models", "params", "says"),
    [
        pytest.param({"": ZYX}, {"channeltype": "4pi"}, "4Pi", id="4pi"),
        pytest.param({"": ZYX[None]}, {}, "shape", id="four axes"),
        pytest.param({"": ZYX * 1j}, {}, "real", id="complex"),
        pytest.param({"": 0 * ZYX}, {}, "no light", id="dark"),
        pytest.param({"": ZYX}, {"pixel_size": {}}, "heights", id="no dz"),
        pytest.param(
            {"": ZYX},
            {"pixel_size": {"x": 0.127, "y": 0.116, "z": 0.05}},
            "not square",
            id="pixels",
        ),
        pytest.param({"other": ZYX}, {}, "neither res/I_model", id="no model"),
    ],
)
def test_uipsf_that_is_no_single_psf(tmp_path, models, params, says):
    with pytest.raises(InputError, match=says) as error:
        read_calibration(uipsf(tmp_path / "psf.h5", models, **params))
    assert "\n" not in str(error.value)


def test_uipsf_with_other_text_in_params(tmp_path):
    path = uipsf(tmp_path / "psf.h5", {"": ZYX})
    with h5py.File(path, "r+") as file:
        file.attrs["params"] = "{not JSON"
    with pytest.raises(InputError, match="not uiPSF's JSON"):
        read_calibration(path)


def smappy_group(group, coefficients, **attributes):
    group.create_dataset("coeff", data=coefficients.transpose(3, 2, 1, 0))
    group.attrs.update({"dz": 50.0, "z0": 4.0, "x0": 99.0, **attributes})


@pytest.fixture
def smappy(tmp_path):
    def write(version=1, **attributes):
        path = tmp_path / "cal.h5"
        with h5py.File(path, "w") as file:
            smappy_group(file, calibration().coefficients, **attributes)
            file.attrs.update(format="smappy-spline-calibration", version=version)
            file["parameters_json"] = json.dumps({})
        return path

    return write


def test_smappy(smappy):
    got = read_calibration(smappy())
    np.testing.assert_array_equal(got.coefficients, calibration().coefficients)
    assert got.reference == (6.0, 6.0, 4.0)
    assert got.pixel_size_nm is None
    assert got.source["program"] == "SMAPpy"


def test_smappy_mirrored_is_undone(smappy):
    path = smappy(em_mirror=True)
    same_psf(read_calibration(path), calibration().mirrored())
    assert read_calibration(path, keep_mirrored=True).em_mirrored


def test_smappy_two_colours(tmp_path):
    path = tmp_path / "dual.h5"
    other = transposed(calibration())
    with h5py.File(path, "w") as file:
        file.attrs.update(format="smappy-dual-color-calibration", version=1)
        smappy_group(file.create_group("main"), calibration().coefficients)
        smappy_group(file.create_group("secondary"), other.coefficients)
        parameters = {"pixel_size_um": {"x": 0.11, "y": 0.11, "z": 0.05}}
        file["main/parameters_json"] = json.dumps(parameters)
    main = read_calibration(path)
    same_psf(main, calibration())
    np.testing.assert_allclose(main.pixel_size_nm, 110)
    same_psf(read_calibration(path, channel=1), other)


def test_smappy_of_another_version(smappy):
    with pytest.raises(InputError, match="version 2"):
        read_calibration(smappy(version=2))


def gaussian_curve(sigma0=1.2, focus=0.0, depth=500.0):
    """Coefficients, highest power first, of s0 (1 + ((z - focus)/depth)^2 / 2)."""
    k = sigma0 / (2 * depth**2)
    return [0.0, 0.0, 0.0, 0.0, k, -2 * k * focus, sigma0 + k * focus**2]


@pytest.fixture
def picasso(tmp_path):
    def write(**changes):
        document = {
            "X Coefficients": gaussian_curve(focus=-200.0),
            "Y Coefficients": gaussian_curve(focus=200.0),
            "Number of frames": 101,
            "Step size in nm": 10.0,
            "Magnification factor": 0.79,
            **changes,
        }
        path = tmp_path / "astig_3d_calib.yaml"
        path.write_text(yaml.dump({k: v for k, v in document.items() if v is not None}))
        return path

    return write


@pytest.mark.parametrize(
    ("x", "y", "z", "tolerance"),
    [
        # Whole pixels and a whole slice: the samples themselves.
        pytest.param(10.0, 8.0, 0.0, 1e-4, id="sample"),
        # Between them a cubic spline of a Gaussian of 1.2 px is off by up to 1 %.
        pytest.param(10.3, 8.7, -300.0, 1e-2, id="low"),
        pytest.param(10.5, 8.5, -37.0, 1e-2, id="between"),
        pytest.param(9.9, 8.7, 260.0, 1e-2, id="high"),
    ],
)
def test_picasso_is_a_gaussian_of_its_widths(picasso, x, y, z, tolerance):
    got = read_calibration(picasso(), pixel_size_nm=130)
    np.testing.assert_allclose(got.z_range_nm, (-395, 395))
    assert got.pixel_size_nm == 130
    frame = picture(got.psf(), x=x, y=y, z=z, height=29, width=33)
    # Picasso's z is the stage position times the magnification factor.
    sx, sy = (np.polyval(gaussian_curve(focus=f), z / 0.79) for f in (-200.0, 200.0))
    values = (np.array([v]) for v in (x, y, sx, sy, 1000.0))
    expected = render_gaussians(*values, np.zeros(1, np.int64), 1, 29, 33)[0]
    np.testing.assert_allclose(frame, expected, atol=tolerance * expected.max())
    np.testing.assert_allclose(frame.sum(), 1000, rtol=2e-3)


def test_picasso_with_a_negative_factor_counts_z_the_other_way(picasso):
    """The same curves of the stage: what was below z = 0 is above it."""
    got = read_calibration(picasso(**{"Magnification factor": -0.79}))
    other = read_calibration(picasso())
    np.testing.assert_allclose(got.z_range_nm, (-395, 395))
    at = {"x": 10.0, "y": 8.0, "height": 29, "width": 33}
    frame = picture(got.psf(), z=250.0, **at)
    np.testing.assert_allclose(frame, picture(other.psf(), z=-250.0, **at), atol=0.05)
    assert np.abs(frame - picture(other.psf(), z=250.0, **at)).max() > 5


def test_picasso_spells_its_factor_in_two_ways(picasso):
    """Its command line writes "Magnification Factor"."""
    path = picasso(**{"Magnification factor": None, "Magnification Factor": 0.5})
    np.testing.assert_allclose(read_calibration(path).z_range_nm, (-250, 250))


def test_picasso_splines_are_told_from_bead_stacks(tmp_path):
    """HDF5 as Picasso 0.11 keeps them: `coefficients`, and JSON in an attribute."""
    path = tmp_path / "spline_calib.hdf5"
    with h5py.File(path, "w") as file:
        file["coefficients"] = np.zeros((64, 30, 13, 13), "f4")
        file.attrs["metadata"] = '{"pixelsize": 130.0}'
    assert is_calibration(path)
    with pytest.raises(
        InputError, match=r"a spline calibration of Picasso, .* bead stack"
    ):
        read_calibration(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["metadata"]
    assert not is_calibration(path)


def test_picasso_range_ends_where_curves_end(picasso):
    bounded = read_calibration(picasso(**{"Frame bounds": [20, 80]}))
    np.testing.assert_allclose(bounded.z_range_nm, (-300 * 0.79, 300 * 0.79))
    steps = read_calibration(picasso(**{"Frames per step": 5, "Step size in nm": 40.0}))
    assert steps.z_range_nm[1] < 400 * 0.79
    # A line that leaves sensible widths above z = 0.
    falling = [0.0] * 5 + [-1.1 / 250, 1.4]
    cut = read_calibration(picasso(**{"Y Coefficients": falling}))
    assert cut.z_range_nm[0] < -300
    np.testing.assert_allclose(cut.z_range_nm[1], 250 * 0.79, atol=3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"X Coefficients": "x"}, "list of numbers", id="text"),
        pytest.param({"X Coefficients": []}, "list of numbers", id="empty"),
        pytest.param({"Step size in nm": None}, "Step size in nm", id="no step"),
        pytest.param({"Magnification factor": 0.0}, "Magnification", id="factor 0"),
        pytest.param({"Y Coefficients": [-1.0]}, "is no PSF", id="negative width"),
        pytest.param({"Number of frames": 1}, "is no PSF", id="one frame"),
    ],
)
def test_picasso_that_is_no_psf(picasso, changes, says):
    with pytest.raises(InputError, match=says) as error:
        read_calibration(picasso(**changes))
    assert "\n" not in str(error.value)


def test_our_own_file(tmp_path):
    write_psf(tmp_path / "psf.dat", calibration(source={"program": "beads"}))
    got = read_calibration(tmp_path / "psf.dat")
    same_psf(got, calibration())
    assert got.source["program"] == "beads"
    with pytest.raises(InputError, match="110 nm, not 90 nm"):
        read_calibration(tmp_path / "psf.dat", pixel_size_nm=90)
    write_psf(tmp_path / "psf.dat", calibration(pixel_size_nm=None))
    assert read_calibration(tmp_path / "psf.dat", pixel_size_nm=90).pixel_size_nm == 90
    with pytest.raises(InputError, match="holds one channel"):
        read_calibration(tmp_path / "psf.dat", channel=1)


def other_hdf5(path):
    with h5py.File(path, "w") as file:
        file["locs"] = np.zeros(3)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda p: p.write_bytes(b""), id="empty"),
        pytest.param(lambda p: p.write_bytes(b"\x00\xff" * 99), id="bytes"),
        pytest.param(lambda p: p.write_text("a: [1"), id="broken YAML"),
        pytest.param(lambda p: p.write_text("Frames: 3\nWidth: 4"), id="other YAML"),
        pytest.param(lambda p: p.write_bytes(b"a" * (2 << 20)), id="long text"),
        pytest.param(other_hdf5, id="other HDF5"),
    ],
)
def test_an_unknown_file_is_refused_with_what_is_known(tmp_path, write):
    path = tmp_path / "thing.mat"
    write(path)
    with pytest.raises(InputError, match=r"known are blinkloop PSF.*Picasso") as error:
        read_calibration(path)
    assert "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such calibration file"):
        read_calibration(tmp_path / "none.mat")


def test_rows_flip_is_a_flip_of_rows():
    frame = picture(calibration().psf(), height=17)
    turned = picture(flip_rows(calibration()).psf(), y=16 - 7.6, height=17)
    np.testing.assert_allclose(turned[::-1], frame, atol=2e-3)
