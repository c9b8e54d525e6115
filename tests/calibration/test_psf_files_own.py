"""Our own PSF file: written, read back, refused; PSFs of recipes and cards."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
from psf_samples import SIZE, SLICES, calibration, picture, samples_xyz

from blinkloop.errors import InputError, MissingExtraError
from blinkloop.optics import GaussianPsf, SplinePsf
from blinkloop.psf_file import file_sha256, load_psf, read_psf, write_psf
from blinkloop.schema import (
    GaussianPsfSettings,
    SplinePsfSettings,
    VariedGaussianPsfSettings,
)
from blinkloop.training.calibration.spline_fit import spline_coefficients


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "psf.h5"
    write_psf(path, calibration(source={"program": "test"}, quality={"beads": 7.0}))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="plain"),
        pytest.param({"pixel_size_nm": None}, id="pixel unknown"),
        pytest.param({"em_mirrored": True}, id="mirrored"),
        pytest.param(
            {"source": {"program": "SMAP", "µ": "ü"}, "quality": {"rmse_nm": 3.5}},
            id="source and quality",
        ),
        pytest.param({"coefficients": np.ones((5, 4, 1, 64), "f4")}, id="one slice"),
    ],
)
def test_what_is_written_is_read(tmp_path, changes):
    before = calibration(**changes)
    write_psf(tmp_path / "psf.h5", before)
    after = read_psf(tmp_path / "psf.h5")
    np.testing.assert_array_equal(after.coefficients, before.coefficients)
    assert after.coefficients.dtype == np.float32
    for name in ("reference", "dz_nm", "pixel_size_nm", "z_range_nm", "em_mirrored"):
        assert getattr(after, name) == getattr(before, name), name
    assert dict(after.source) == dict(before.source)
    assert dict(after.quality) == dict(before.quality)


def test_the_file_is_as_documented(written):
    with h5py.File(written) as file:
        assert file.attrs["format"] == "blinkloop-psf"
        assert file.attrs["format_version"] == 1
        assert set(file.attrs) == {
            *("format", "format_version", "program", "reference_voxels", "dz_nm"),
            *("pixel_size_nm", "z_range_nm", "em_mirrored"),
        }
        assert file["coefficients"].shape == (SIZE, SIZE, SLICES - 1, 64)
        assert set(file) == {"coefficients", "source", "quality"}


def change(path, how):
    with h5py.File(path, "r+") as file:
        how(file)


def set_attribute(name, value):
    return lambda path: change(path, lambda f: f.attrs.__setitem__(name, value))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(set_attribute("format", "other"), "format 'other'", id="foreign"),
        pytest.param(set_attribute("format_version", 9), "version 9", id="newer"),
        pytest.param(set_attribute("dz_nm", -1.0), "positive", id="flat voxels"),
        pytest.param(set_attribute("pixel_size_nm", 0.0), "pixel size", id="pixel"),
        pytest.param(set_attribute("z_range_nm", [5.0, 1.0]), "z range", id="range"),
        pytest.param(
            set_attribute("reference_voxels", [0.0, np.nan, 0.0]), "finite", id="nan"
        ),
        pytest.param(
            lambda path: change(path, lambda f: f.__delitem__("coefficients")),
            "incomplete",
            id="no coefficients",
        ),
        pytest.param(
            lambda path: change(
                path, lambda f: f["coefficients"].__setitem__(0, np.inf)
            ),
            "not finite",
            id="infinite",
        ),
        pytest.param(lambda path: path.write_text("x"), "not HDF5", id="text"),
        pytest.param(lambda path: path.write_bytes(b""), "not HDF5", id="empty"),
        pytest.param(lambda path: path.unlink(), "no such PSF file", id="gone"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(written, damage, says):
    damage(written)
    with pytest.raises(InputError, match=says) as error:
        read_psf(written)
    assert "\n" not in str(error.value)


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_psf(tmp_path / "no" / "psf.h5", calibration())


def test_mirrored_frames_have_the_mirrored_psf():
    one = calibration()
    other = one.mirrored()
    assert other.em_mirrored
    assert not other.mirrored().em_mirrored
    # A frame of 21 columns: x goes to 20 - x.
    frame, turned = picture(one.psf()), picture(other.psf(), x=20 - 9.3)
    np.testing.assert_allclose(turned[:, ::-1], frame, atol=2e-3)
    assert np.abs(turned - frame).max() > 1.0
    back = other.mirrored()
    assert back.reference == one.reference
    np.testing.assert_allclose(picture(back.psf()), frame, atol=2e-3)


def test_slopes_are_mirrored_up_to_the_edge_of_the_support():
    one = calibration()
    at = [np.array([v]) for v in (9.0, 7.0, 0.0, 1000.0)]  # whole pixels
    here, there = (c.psf().derivatives(*at)[0, 0] for c in (one, one.mirrored()))
    assert np.abs(here[6, 0]) > 1e-3
    np.testing.assert_allclose(there[:, ::-1], -here, atol=1e-3 * np.abs(here).max())


def test_settings_and_back(written):
    settings = read_psf(written).settings(written)
    assert settings == SplinePsfSettings(
        file=str(written),
        sha256=file_sha256(written),
        pixel_size_nm=110.0,
        z_range_nm=(-200.0, 200.0),
    )
    np.testing.assert_array_equal(
        picture(load_psf(settings)), picture(calibration().psf())
    )


def test_no_settings_without_pixel_size(written):
    with pytest.raises(InputError, match="pixel size"):
        calibration(pixel_size_nm=None).settings(written)


@pytest.mark.parametrize("where", ["folder", "cwd"])
def test_a_relative_file_is_found(written, monkeypatch, tmp_path_factory, where):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    folder = written.parent if where == "folder" else elsewhere
    monkeypatch.chdir(elsewhere if where == "folder" else written.parent)
    settings = SplinePsfSettings(
        file="psf.h5", pixel_size_nm=110.0, z_range_nm=(-200, 200)
    )
    assert isinstance(load_psf(settings, folder=folder), SplinePsf)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"file": "other.h5"}, "no such PSF file", id="missing"),
        pytest.param({"sha256": "0" * 64}, "not the one", id="changed"),
        pytest.param({"pixel_size_nm": 100.0}, "110 nm, but 100 nm", id="pixel"),
    ],
)
def test_a_psf_that_does_not_fit_is_refused(written, changes, says):
    facts = {"file": "psf.h5", "pixel_size_nm": 110.0, "z_range_nm": (-200, 200)}
    with pytest.raises(InputError, match=says) as error:
        load_psf(SplinePsfSettings(**{**facts, **changes}), folder=written.parent)
    assert "\n" not in str(error.value)


def test_psf_of_any_kind():
    assert isinstance(load_psf(GaussianPsfSettings()), GaussianPsf)
    with pytest.raises(InputError, match="range of PSFs"):
        load_psf(VariedGaussianPsfSettings())


def test_h5py_is_asked_for_only_when_needed(monkeypatch, tmp_path):
    heavy = "{'h5py', 'scipy', 'torch'} & set(sys.modules)"
    code = f"import sys, blinkloop.psf_file; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    monkeypatch.setattr("blinkloop.extras.installed", lambda name: name != "h5py")
    with pytest.raises(MissingExtraError, match=r"blinkloop\[io\]"):
        write_psf(tmp_path / "a.h5", calibration())


@pytest.mark.parametrize("shape", [(5, 7, 6), (4, 4, 4), (2, 3, 1), (3, 2, 2)])
@pytest.mark.parametrize("closed", [False, True])
def test_spline_runs_through_the_samples(shape, closed):
    samples = np.random.default_rng(3).random(shape)
    a = spline_coefficients(samples, closed=closed)
    x, y, z = shape
    less = 0 if closed else 1
    assert a.shape == (x - less, y - less, max(z - 1, 1), 64)
    np.testing.assert_allclose(
        a[..., 0], samples[: x - less, : y - less, : max(z - 1, 1)], atol=1e-12
    )
    # The far corner of the last voxel that has one: all powers of 1 add up.
    np.testing.assert_allclose(a[x - 2, y - 2, -1].sum(), samples[-1, -1, -1])


def test_spline_is_smooth_and_reproduces_a_cubic():
    x, y, z = np.meshgrid(np.arange(7), np.arange(6), np.arange(5), indexing="ij")

    def cubic(x, y, z):
        return 1 + x**3 - 2 * x * y**2 * z + 0.5 * z**3 * y - x**2 * y**3

    a = spline_coefficients(cubic(x, y, z).astype(float))
    at = np.array([3.25, 2.5, 1.75])
    (i, j, k), (u, v, w) = at.astype(int), at % 1
    powers = [t ** np.arange(4) for t in (w, v, u)]
    value = np.einsum("zyx,z,y,x", a[i, j, k].reshape(4, 4, 4), *powers)
    np.testing.assert_allclose(value, cubic(*at), rtol=1e-12)


def test_closed_spline_draws_the_last_column_too():
    open_ = calibration(coefficients=spline_coefficients(samples_xyz()).astype("f4"))
    at = {"x": 10.0, "y": 8.0, "z": 0.0}
    missing = picture(calibration().psf(), **at) - picture(open_.psf(), **at)
    # Whole pixels: the sample itself, at +6 px right and below.
    np.testing.assert_allclose(
        missing[2:15, 16], 1000 * samples_xyz()[-1, :, 4], rtol=1e-4
    )
    assert np.all(missing[2:14, 4:16] == pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(np.zeros((3, 3)), id="flat"),
        pytest.param(np.zeros((1, 3, 3)), id="one column"),
        pytest.param(np.zeros((3, 3, 0)), id="no slice"),
        pytest.param(np.full((3, 3, 3), np.nan), id="nan"),
    ],
)
def test_samples_that_are_none_are_refused(samples):
    with pytest.raises(InputError, match="spline: "):
        spline_coefficients(samples)
