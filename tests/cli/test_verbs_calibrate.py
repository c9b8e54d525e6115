"""`blinkloop calibrate` as a person calls it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from verb_helpers import Verb

from blinkloop.psf_file import load_psf, read_psf, write_psf
from blinkloop.schema import SplinePsfSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "calibration"))
from bead_samples import astigmatic, stack_of
from psf_samples import calibration

tifffile = pytest.importorskip("tifffile", reason="needs the extra `io`")
STEP = ("--dz-nm", 50, "--pixel-size-nm", 100)


@pytest.fixture(scope="module")
def stack() -> npt.NDArray[np.uint16]:
    """(21, 47, 60): two beads, 200 ADU of offset."""
    rng = np.random.default_rng(1)
    beads = [(17.3, 22.7), (42.6, 24.1)]
    made: npt.NDArray[np.uint16] = stack_of(
        astigmatic(), beads, rng, slices=21, shape=(47, 60), offset_adu=200
    )
    return made


@pytest.fixture
def beads(tmp_path: Path, stack: npt.NDArray[np.uint16]) -> Path:
    tifffile.imwrite(tmp_path / "beads.tif", stack)
    return tmp_path / "beads.tif"


def test_beads_to_psf(good: Verb, beads: Path) -> None:
    out = beads.with_name("psf.h5")
    said = good("calibrate", beads, "-o", out, *STEP)
    assert "beads used, not used                  2, 0" in said.out
    assert "  kind: spline\n  file: psf.h5\n" in said.out
    assert said.err.splitlines()[-1].startswith("next: blinkloop prefit ")
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    made = read_psf(out)
    assert made.pixel_size_nm == 100
    low, high = made.z_range_nm
    assert low < -400 < 400 < high
    # The lines for the recipe are a description that loads the file.
    at = said.out.index("psf:")
    import yaml

    lines = yaml.safe_load(said.out[at:])["psf"]
    settings = SplinePsfSettings.model_validate(lines)
    assert load_psf(settings, folder=beads.parent).z_range_nm == made.psf().z_range_nm


def test_json(good: Verb, beads: Path) -> None:
    out = beads.with_name("psf.h5")
    flags = ("--baseline", 200, "--e-per-adu", 0.5, "--json")
    record = good("calibrate", beads, "-o", out, *STEP, *flags).json
    assert record["file"] == str(out)
    assert record["figure"] == str(out.with_suffix(".png"))
    assert record["beads_used"] == len(record["used"]) == 2
    assert record["beads_dropped"] == 0
    np.testing.assert_allclose(record["quality"]["refit_z_slope"], 1, atol=0.03)
    places = sorted((bead["x_px"], bead["y_px"]) for bead in record["used"])
    np.testing.assert_allclose(places, [(17.3, 22.7), (42.6, 24.1)], atol=0.1)


def test_step_and_pixel_of_the_file(
    good: Verb, tmp_path: Path, stack: npt.NDArray[np.uint16]
) -> None:
    path = tmp_path / "beads.tif"
    tifffile.imwrite(
        path,
        stack,
        imagej=True,
        resolution=(10.0, 10.0),
        metadata={"axes": "ZYX", "spacing": 0.05, "unit": "um"},
    )
    said = good("calibrate", path, "-o", tmp_path / "psf.h5", "--json")
    assert said.json["pixel_size_nm"] == 100
    assert said.json["source"]["stage_step_nm"] == "50"
    assert "z step 50 nm (from the file)" in said.err
    said = good(
        "calibrate", path, "-o", tmp_path / "b.h5", "--json", "--dz-nm", 40, "--falling"
    )
    assert "z step 40 nm as given, although a file says 50 nm" in said.err
    assert said.json["source"]["slices"] == "falling focus"


def test_step_of_an_ome_file(
    good: Verb, tmp_path: Path, stack: npt.NDArray[np.uint16]
) -> None:
    path = tmp_path / "beads.ome.tif"
    facts = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.05}
    tifffile.imwrite(path, stack, metadata={"axes": "ZYX", **facts}, ome=True)
    record = good("calibrate", path, "-o", tmp_path / "psf.h5", "--json").json
    assert record["source"]["stage_step_nm"] == "50"
    assert record["pixel_size_nm"] == 100


def test_a_folder_of_slices_and_numpy_are_stacks_too(
    good: Verb, tmp_path: Path, stack: npt.NDArray[np.uint16]
) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    for k, image in enumerate(stack):
        tifffile.imwrite(folder / f"z{k}.tif", image)
    np.save(tmp_path / "other.npy", stack)
    words = ("calibrate", folder, tmp_path / "other.npy", "-o", tmp_path / "psf.h5")
    record = good(*words, *STEP, "--json").json
    assert record["beads_used"] == 4
    assert {bead["stack"] for bead in record["used"]} == {"slices", "other.npy"}


def test_convert(good: Verb, tmp_path: Path) -> None:
    before = calibration()
    write_psf(tmp_path / "old.h5", before)
    record = good(
        "calibrate", tmp_path / "old.h5", "-o", tmp_path / "new.h5", "--json"
    ).json
    assert record["pixel_size_nm"] == 110
    assert record["figure"] is None
    after = read_psf(tmp_path / "new.h5")
    np.testing.assert_array_equal(after.coefficients, before.coefficients)


def noise(path: Path) -> Path:
    pixels = np.random.default_rng(0).poisson(100, (15, 60, 71)).astype(np.uint16)
    tifffile.imwrite(path / "b.tif", pixels)
    return path / "b.tif"


def dark(path: Path) -> Path:
    tifffile.imwrite(path / "b.tif", np.zeros((15, 60, 71), np.uint16))
    return path / "b.tif"


def saturated(path: Path) -> Path:
    tifffile.imwrite(path / "b.tif", np.full((15, 60, 71), 65535, np.uint16))
    return path / "b.tif"


def one_slice(path: Path) -> Path:
    tifffile.imwrite(path / "b.tif", np.zeros((60, 71), np.uint16))
    return path / "b.tif"


def colours(path: Path) -> Path:
    tifffile.imwrite(path / "b.tif", np.zeros((15, 60, 71, 3), np.uint8))
    return path / "b.tif"


def text(path: Path) -> Path:
    (path / "b.tif").write_text("not a stack")
    return path / "b.tif"


def missing(path: Path) -> Path:
    return path / "b.tif"


def mat_text(path: Path) -> Path:
    (path / "b_3dcal.mat").write_text("not a calibration")
    return path / "b_3dcal.mat"


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (noise, "no bead found, nothing stands out of the noise"),
        (dark, "no bead found, every pixel is 0 ADU"),
        (saturated, "no bead found, every pixel is 65535 ADU"),
        (one_slice, "1 slice, but a PSF needs at least 5"),
        (colours, "3 colours"),
        (text, "not a movie"),
        (missing, "no such file"),
        (mat_text, "b_3dcal.mat"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_file(make: object, match: str, verb: Verb, tmp_path: Path) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    words = STEP if path.suffix == ".tif" else ()
    said = verb("calibrate", path, "-o", tmp_path / "psf.h5", *words)
    assert said.code == 2
    assert match in said.error
    assert said.out == ""
    assert not (tmp_path / "psf.h5").exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--pixel-size-nm", 100), "the z step is not known"),
        (("--dz-nm", 50), "the pixel size is not known"),
        ((*STEP, "--dz-nm", 0), "a z step of 0 nm cannot be used"),
        ((*STEP, "--dz-nm", -50), "--falling"),
        ((*STEP, "--dz-nm", 5000), "a z step of 5000 nm"),
        ((*STEP, "--dz-nm", "nan"), "a z step of nan nm"),
        ((*STEP, "--pixel-size-nm", 0), "pixel_size_nm"),
        ((*STEP, "--roi-px", 8), "odd number"),
        ((*STEP, "--roi-px", 45), "a window of 45 px does not fit"),
        ((*STEP, "--focus", "sharp"), "--focus sharp: give auto"),
        ((*STEP, "--focus", 99), "focus in slice 99"),
        ((*STEP, "-o", "psf.tif"), "written as HDF5"),
        ((*STEP, "-o", "no/psf.h5"), "folder no does not exist"),
        ((*STEP, "-o", "old.h5"), "exists already"),
    ],
)
def test_bad_words(
    words: tuple[object, ...],
    match: str,
    verb: Verb,
    beads: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(beads.parent)
    Path("old.h5").write_text("something dear")
    said = verb("calibrate", "beads.tif", "-o", "psf.h5", *words)
    assert said.code == 2
    assert match in said.error
    assert not Path("psf.h5").exists()
    assert Path("old.h5").read_text() == "something dear"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--dz-nm", 50), "--dz-nm is for bead stacks"),
        (("--falling",), "--falling is for bead stacks"),
        (("--pixel-size-nm", 130), "130"),
        (("--region", 3), "region"),
        (("beads.tif",), "is converted alone"),
    ],
)
def test_bad_words_for_a_calibration(
    words: tuple[object, ...], match: str, verb: Verb, tmp_path: Path
) -> None:
    write_psf(tmp_path / "old.h5", calibration())
    said = verb("calibrate", tmp_path / "old.h5", "-o", tmp_path / "new.h5", *words)
    assert said.code == 2
    assert match in said.error
    assert not (tmp_path / "new.h5").exists()
