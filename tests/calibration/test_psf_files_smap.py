"""SMAP's `*_3dcal.mat` in every variant.

No real file is at hand: doubles are written in SMAP's layout with SciPy (to v7.2) and
h5py (v7.3).
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from psf_samples import SIZE, SLICES, calibration, picture

from blinkloop.errors import InputError
from blinkloop.training.calibration._axes import flip_rows, swap_xy
from blinkloop.training.calibration._matlab import number, read_variables
from blinkloop.training.calibration.files import read_calibration

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_spline.npz"
REAL = Path(__file__).parents[3] / "shared" / "data" / "tables" / "smap_dstorm_data.mat"


def cell(*arrays):
    box = np.empty((1, len(arrays)), object)
    box[0, :] = arrays
    return box


def smap_coefficients(ours):
    """Rows first, as SMAP has them."""
    return swap_xy(ours.coefficients)


def entry(**changes):
    ours = calibration()
    spline = {
        "coeff": cell(smap_coefficients(ours)),
        "dz": 50.0,
        "x0": 7.0,
        "z0": 4.0,
        "mirror": 0.0,
    }
    spline |= changes.pop("cspline", {})
    return {"cspline": {k: v for k, v in spline.items() if v is not None}, **changes}


def to_v73(path, variables):
    """A double of a v7.3 file: reversed axes, references for cells and structs."""
    with h5py.File(path, "w", userblock_size=512) as file:
        refs = file.create_group("#refs#")

        def mark(node, kind):
            node.attrs["MATLAB_class"] = np.bytes_(kind)
            return node

        def reference(value):
            name = f"r{len(refs)}"
            refs.create_group(name + "_")  # keeps the count growing in recursion
            put(refs, name, value)
            return refs[name].ref

        def put(group, name, value):
            if isinstance(value, dict):
                node = mark(group.create_group(name), "struct")
                for key, part in value.items():
                    put(node, key, part)
            elif isinstance(value, list):  # struct array 1 x N
                node = mark(group.create_group(name), "struct")
                for key in value[0]:
                    data = np.array(
                        [[reference(e[key])] for e in value], h5py.ref_dtype
                    )
                    node.create_dataset(key, data=data)
            elif isinstance(value, np.ndarray) and value.dtype == object:
                data = np.array(
                    [[reference(e) for e in row] for row in value.T], h5py.ref_dtype
                )
                mark(group.create_dataset(name, data=data), "cell")
            elif isinstance(value, str):
                codes = np.array([[ord(c)] for c in value], np.uint16)
                mark(group.create_dataset(name, data=codes), "char")
            else:
                value = np.atleast_2d(np.asarray(value))
                if value.size == 0:
                    data = np.array(value.shape, np.uint64)
                    node = mark(group.create_dataset(name, data=data), "double")
                    node.attrs["MATLAB_empty"] = np.uint8(1)
                else:
                    node = group.create_dataset(name, data=value.T)
                    mark(node, "single" if value.dtype == "f4" else "double")

        for name, value in variables.items():
            put(file, name, value)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124))
        file.write(b"\x00\x02IM")


def struct_array(values):
    """SciPy writes a list of dicts as a cell; MATLAB's SXY is a struct array."""
    names = list(values[0])
    array = np.empty((1, len(values)), [(name, object) for name in names])
    for i, value in enumerate(values):
        for name in names:
            array[name][0, i] = value[name]
    return array


def to_v7(path, variables):
    arrays = {
        name: struct_array(value) if isinstance(value, list) else value
        for name, value in variables.items()
    }
    scipy.io.savemat(path, arrays, do_compression=True)


def test_a_cell_of_structs_is_read_too(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"SXY": [entry(), entry()]})
    same_psf(read_calibration(tmp_path / "a.mat", region=1), calibration())


WRITERS = [pytest.param(to_v7, id="v7"), pytest.param(to_v73, id="v7.3")]


@pytest.fixture(params=WRITERS)
def save(request, tmp_path):
    def write(**variables):
        path = tmp_path / "bead_3dcal.mat"
        request.param(path, variables)
        return path

    return write


def same_psf(got, expected, **at):
    np.testing.assert_allclose(
        picture(got.psf(), **at), picture(expected.psf(), **at), atol=2e-3
    )


@pytest.mark.parametrize("boxed", [False, True], ids=["array", "cell"])
def test_coefficients_in_a_cell_or_not(save, boxed):
    coefficients = smap_coefficients(calibration())
    got = read_calibration(
        save(
            SXY=entry(cspline={"coeff": cell(coefficients) if boxed else coefficients})
        )
    )
    np.testing.assert_array_equal(got.coefficients, calibration().coefficients)
    assert got.reference == (6.0, 6.0, 4.0)
    assert got.dz_nm == 50
    assert got.pixel_size_nm is None
    assert not got.em_mirrored
    assert got.z_range_nm == (4 * 50 - (SLICES - 1) * 50, 200)
    assert got.source["program"] == "SMAP"
    assert len(got.source["sha256"]) == 64
    np.testing.assert_allclose(got.quality["light_in_focus"], 1.0, atol=0.02)
    same_psf(got, calibration())


def test_frames_are_those_of_official_decode(save):
    with np.load(GOLDEN) as golden:
        x, y, z = golden["xyz"].T
        ref0, dz = golden["ref0"], float(golden["vx"][2])
        spline = {
            "coeff": golden["coeff"],
            "x0": ref0[0] + 1.0,
            "z0": float(ref0[2]),
            "dz": dz,
        }
        psf = read_calibration(save(SXY={"cspline": spline})).psf()
        # Official x is along the rows of its frames; the frames themselves are equal.
        frames = psf.render(y, x, z, golden["phot"], golden["frame"], 3, 32, 32)
        np.testing.assert_allclose(frames, golden["frames"], atol=5e-4)


def test_first_region_of_several_with_a_note(save):
    wider = calibration(dz_nm=20.0)
    regions = [entry(), entry(cspline={"dz": 20.0}), entry(cspline={"dz": 30.0})]
    path = save(SXY=regions)
    first = read_calibration(path)
    assert first.dz_nm == 50
    assert "region 0 of 3" in first.source["notes"]
    second = read_calibration(path, region=1)
    assert second.dz_nm == 20
    same_psf(second, wider)
    with pytest.raises(InputError, match="regions 0 to 2, not 3"):
        read_calibration(path, region=3)


@pytest.mark.parametrize(
    ("mirror", "turned"),
    [
        pytest.param(0, lambda c: c, id="not mirrored"),
        pytest.param(2, flip_rows, id="rows mirrored"),
        pytest.param(1, lambda c: c.mirrored(), id="columns mirrored"),
    ],
)
def test_channels(save, mirror, turned):
    # What the other channel's camera sees; SMAP stores it turned like the first.
    seen = calibration(coefficients=(2 * calibration().coefficients).astype("f4"))
    stored = turned(seen)
    both = cell(smap_coefficients(calibration()), smap_coefficients(stored))
    facts = {"coeff": both, "mirror": float(mirror), "normf": np.array([[1.0, 2.0]])}
    path = save(SXY=entry(cspline=facts | {"x0": stored.reference[0] + 1}))
    first = read_calibration(path)
    assert "channel 0 of 2" in first.source["notes"]
    if mirror == 0:
        same_psf(first, calibration())
        same_psf(read_calibration(path, channel=1), seen)
    else:
        # x0 serves both axes, so only the mirrored axis is where `seen` has it.
        got = read_calibration(path, channel=1)
        axis = 0 if mirror == 1 else 1
        assert got.reference[axis] == seen.reference[axis]
        np.testing.assert_allclose(
            got.coefficients[:-1, :-1], seen.coefficients[:-1, :-1], atol=1e-5
        )
    with pytest.raises(InputError, match="channels 0 to 1, not 2"):
        read_calibration(path, channel=2)


@pytest.mark.parametrize(
    ("cspline", "says"),
    [
        pytest.param({"dz": 0.05}, r"slices of 0\.05 nm are thinner", id="dz in um"),
        pytest.param({"light": 1e3}, "times its light in this PSF", id="counts"),
        pytest.param({"light": 0.0}, "has 0 times its light", id="dark"),
        pytest.param({"light": -1.0}, "times its light in this PSF", id="negative"),
    ],
)
def test_units_that_cannot_be(save, cspline, says):
    light = cspline.pop("light", None)
    if light is not None:
        cspline["coeff"] = cell(light * smap_coefficients(calibration()))
    with pytest.raises(InputError, match=says) as error:
        read_calibration(save(SXY=entry(cspline=cspline)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("emmirror", "em_on", "flipped"),
    [
        pytest.param(3.0, 1.0, True, id="mirrored"),
        pytest.param(1.0, 1.0, True, id="metadata: EM"),
        pytest.param(1.0, 0.0, False, id="metadata: no EM"),
        pytest.param(2.0, 0.0, False, id="no mirror"),
        pytest.param(3.0, None, True, id="mirrored, not recorded"),
        pytest.param(None, 1.0, False, id="EM, no mirror option"),
        pytest.param(None, None, False, id="nothing said"),
    ],
)
def test_em_mirror_is_undone(save, emmirror, em_on, flipped):
    extra = {} if em_on is None else {"EMon": em_on}
    parameters = {"dz": 50.0} if emmirror is None else {"emmirror": emmirror}
    path = save(SXY=entry(**extra), parameters=parameters)
    got = read_calibration(path)
    assert not got.em_mirrored
    same_psf(got, calibration().mirrored() if flipped else calibration())
    kept = read_calibration(path, keep_mirrored=True)
    assert kept.em_mirrored == flipped
    same_psf(kept, calibration())
    # What the person says goes before what the file says.
    same_psf(read_calibration(path, em_mirrored=False), calibration())
    same_psf(read_calibration(path, em_mirrored=True), calibration().mirrored())


def test_old_plugin_says_em_in_the_spline(save):
    path = save(SXY=entry(cspline={"isEM": 1.0}))
    same_psf(read_calibration(path), calibration().mirrored())


@pytest.mark.parametrize("name", ["cspline", "cspline_psf_model"])
def test_a_spline_without_sxy(save, name):
    same_psf(read_calibration(save(**{name: entry()["cspline"]})), calibration())


def test_pixel_size_of_the_file(save):
    parameters = {"pixelsize": cell(np.array([[0.11, 0.11]]))}
    path = save(SXY=entry(), parameters=parameters)
    np.testing.assert_allclose(read_calibration(path).pixel_size_nm, 110)
    assert read_calibration(path, pixel_size_nm=110.2).pixel_size_nm == 110.2
    with pytest.raises(InputError, match="pixels of 110 nm, not 100 nm"):
        read_calibration(path, pixel_size_nm=100)


def test_pixels_that_are_not_square_are_asked_for(save):
    parameters = {"pixelsize": cell(np.array([[0.127, 0.116]]))}
    path = save(SXY=entry(), parameters=parameters)
    with pytest.raises(InputError, match="127 x 116 nm are not square"):
        read_calibration(path)
    assert read_calibration(path, pixel_size_nm=120).pixel_size_nm == 120


def test_without_x0_the_middle_is_taken(save):
    got = read_calibration(save(SXY=entry(cspline={"x0": None})))
    assert got.reference[:2] == (SIZE // 2, SIZE // 2)
    assert "no x0" in got.source["notes"]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        pytest.param({"other": 1.0}, "no cubic spline", id="another file"),
        pytest.param({"SXY": {"gausscal": 1.0}}, "no cubic spline", id="Gaussian only"),
        pytest.param(
            {"SXY": entry(cspline={"coeff": np.zeros((4, 5, 3, 64))})},
            "equally long",
            id="not square",
        ),
        pytest.param(
            {"SXY": entry(cspline={"coeff": np.zeros((4, 4, 3, 63))})},
            "not .n, n, slices, 64.",
            id="not 64",
        ),
        pytest.param(
            {"SXY": entry(cspline={"coeff": np.zeros((4, 4, 64))})},
            "one slice only",
            id="one slice",
        ),
        pytest.param(
            {"SXY": entry(cspline={"coeff": np.zeros((0, 0))})},
            "neither an array",
            id="empty",
        ),
        pytest.param(
            {"SXY": entry(cspline={"coeff": "text"})}, "neither an array", id="text"
        ),
        pytest.param({"SXY": entry(cspline={"dz": None})}, "dz and z0", id="no dz"),
        pytest.param({"SXY": entry(cspline={"dz": 0.0})}, "positive", id="dz 0"),
        pytest.param(
            {"SXY": entry(cspline={"z0": np.array([1.0, 2.0])})}, "dz and z0", id="z0"
        ),
    ],
)
def test_unusable_files_are_refused_in_one_line(save, variables, says):
    with pytest.raises(InputError, match=says) as error:
        read_calibration(save(**variables))
    assert "\n" not in str(error.value)


def test_a_cut_file_is_refused(save):
    path = save(SXY=entry())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match="cannot be read") as error:
        read_calibration(path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not REAL.is_file(), reason="../shared/data is not here")
def test_a_real_v73_file_of_smap_is_walked():
    # A localization table, not a calibration: the same MATLAB layout of structs.
    found = read_variables(REAL, ["saveloc"])["saveloc"][0]
    frame = found["loc"][0]["frame"]
    assert frame.shape == (4884, 1)
    assert number(found["file"][0]["numberOfTif"]) == 0
    assert isinstance(found["file"][0]["name"], str)
    with pytest.raises(InputError, match="no cubic spline"):
        read_calibration(REAL)
