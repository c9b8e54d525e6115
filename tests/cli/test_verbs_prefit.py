"""`prefit`: from a movie to a recipe that trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from verb_helpers import Verb

from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.schema import CameraSettings, GaussianPsfSettings

pytest.importorskip("scipy", reason="needs the extra `train`")

from blinkloop.training import Recipe

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
EMCCD = CameraSettings(
    kind="emccd", em_gain=200.0, e_per_adu=20.0, baseline_adu=300.0, read_noise_e=40.0
)
FLAGS = ("--em-gain", 200, "--e-per-adu", 20, "--baseline", 300, "--read-noise", 40)
FLAT = GaussianPsf(
    GaussianPsfSettings(sigma0_px=1.1, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0))
)


def simulate(frames: int, density: float, light: float = 20.0) -> np.ndarray:
    scene = simulate_scene(
        np.random.default_rng(3),
        FLAT,
        Camera(EMCCD),
        SceneSettings(frames, 44, 60, 120.0, (0.0, 0.0)),
        density_per_um2=np.array([density]),
        photons=np.array([2500.0]),
        background_photons=np.array([light]),
        on_time_frames=np.array([3.0]),
    )
    return scene.frames_adu[0].astype(np.uint16)


@pytest.fixture(scope="module")
def blinking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("movies") / "blinks.npy"
    np.save(path, simulate(160, 0.15))
    return path


def test_prefit_writes_a_recipe_that_loads(
    good: Verb, verb: Verb, blinking: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.yaml"
    words = ("prefit", blinking, "-o", out, *FLAGS, "--pixel-size-nm", 120)
    said = good(*words, "--json")
    record = said.json
    assert said.err.splitlines()[-1] == (
        f"next: blinkloop train {out} -o {Path('runs') / 'mine'} --from astigmatic"
    )
    assert "warning" not in said.err
    np.testing.assert_allclose(record["photons"], 2500, rtol=0.15)
    np.testing.assert_allclose(record["background_photons"], 20, rtol=0.1)
    np.testing.assert_allclose(record["density_per_um2"], 0.15, rtol=0.25)
    np.testing.assert_allclose(record["sigma0_px"], 1.1, rtol=0.03)
    low, high = record["on_time_frames_interval_95"]
    assert low < record["on_time_frames"] < high
    recipe = Recipe.load(out)
    assert recipe.model_dump(mode="json") == record["recipe"]
    assert recipe.camera.kind == "emccd"
    assert recipe.camera.em_gain == 200
    assert recipe.camera.pixel_size_nm == 120
    assert recipe.psf.z_range_nm == (0, 0)
    assert recipe.name == "mine"
    assert "blinks.npy" in recipe.description

    again = verb(*words)
    assert again.code == 2
    assert "exists already" in again.error
    said = good(*words, "--overwrite")
    for text in ("photons per frame", "on-time", "density per um^2", "95 % interval"):
        assert text in said.out
    assert f"recipe -> {out}" in said.out


def test_prefit_says_which_camera_facts_are_assumed(
    good: Verb, blinking: Path, tmp_path: Path
) -> None:
    said = good("prefit", blinking, "-o", tmp_path / "r.yaml", *FLAGS, "--frames", 80)
    assert "pixel_size_nm taken from the recipe 'astigmatic'" in said.err
    assert Recipe.load(tmp_path / "r.yaml").camera.pixel_size_nm == 100


def test_prefit_takes_what_a_movie_does_not_tell_from_a_recipe(
    good: Verb, blinking: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("{name: base, seed: 77, schedule: {iterations: 123}}")
    out = tmp_path / "r.yaml"
    said = good("prefit", blinking, "-o", out, *FLAGS, "--from", base, "--frames", 100)
    # No network of that recipe is bundled.
    assert said.err.splitlines()[-1].endswith(f"-o {Path('runs') / 'r'}")
    recipe = Recipe.load(out)
    assert recipe.seed == 77
    assert recipe.schedule.iterations == 123


@pytest.mark.parametrize(
    ("adu", "match"),
    [
        pytest.param(simulate(20, 0.0), "spots above the noise", id="background"),
        pytest.param(simulate(20, 0.0, 1e5), "saturated", id="saturated"),
        pytest.param(simulate(1, 0.1), "has 1 frame,", id="one frame"),
        pytest.param(simulate(20, 0.1) - 250, "baseline of 300 ADU", id="baseline"),
        pytest.param(np.full((5, 44, 60), 400, np.uint16), "the same", id="constant"),
        pytest.param(simulate(20, 8.0), "too dense", id="dense"),
    ],
)
def test_prefit_refuses_movies(
    verb: Verb, tmp_path: Path, adu: np.ndarray, match: str
) -> None:
    np.save(tmp_path / "m.npy", adu)
    out = tmp_path / "r.yaml"
    said = verb("prefit", tmp_path / "m.npy", "-o", out, *FLAGS)
    assert said.code == 2
    assert match in said.error
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("-o", "r.txt"), "ends in .yaml"),
        (("-o", "no/r.yaml"), "does not exist"),
        (("-o", "r.yaml", "--from", "nothing"), "no recipe 'nothing'"),
        (("-o", "r.yaml", "--psf", "no.h5"), "no such PSF file"),
        (("-o", "r.yaml", "--frames", "0"), "--frames"),
    ],
)
def test_prefit_refuses_words(
    verb: Verb,
    blinking: Path,
    words: tuple[str, ...],
    match: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = verb("prefit", blinking, *words)
    assert said.code == 2
    assert match in said.error


def test_prefit_with_a_psf_of_another_pixel_size(
    verb: Verb, good: Verb, blinking: Path, tmp_path: Path
) -> None:
    pytest.importorskip("h5py")
    from blinkloop.psf_file import PsfCalibration, load_psf, write_psf
    from blinkloop.training.calibration.spline_fit import spline_coefficients

    z = (5 - np.arange(11)) * 100.0
    at = np.full(11, 9.0)
    astigmatic = GaussianPsf(GaussianPsfSettings())
    stack, _, _ = astigmatic.roi(at, at, z, np.ones(11), half_px=9)
    coefficients = spline_coefficients(np.ascontiguousarray(stack.transpose(2, 1, 0)))
    file = tmp_path / "psf.h5"
    calibration = PsfCalibration(
        coefficients.astype(np.float32), (9.0, 9.0, 5.0), 100.0, 120.0, (-300.0, 300.0)
    )
    write_psf(file, calibration)
    words = ("prefit", blinking, "-o", tmp_path / "r.yaml", "--psf", file, *FLAGS)
    wrong = verb(*words, "--pixel-size-nm", 100)
    assert wrong.code == 2
    assert "calibrated with pixels of 120 nm" in wrong.error
    # Nobody says the movie's: then it is the calibration's.
    said = good(*words, "--frames", 60)
    assert "pixel 120 nm (from PSF file)" in said.err
    recipe = Recipe.load(tmp_path / "r.yaml")
    assert recipe.camera.pixel_size_nm == 120
    assert recipe.psf.kind == "spline"
    assert recipe.psf.z_range_nm == (-300, 300)
    # Named as seen from the recipe, not from where the command was typed.
    assert recipe.psf.file == "psf.h5"
    load_psf(recipe.psf, folder=tmp_path)
    (tmp_path / "recipes").mkdir()
    other = tmp_path / "recipes" / "r.yaml"
    good("prefit", blinking, "-o", other, "--psf", file, *FLAGS, "--frames", 60)
    assert Recipe.load(other).psf.file == str(file.resolve())


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data (beads)")
def test_a_wide_psf_gets_a_recipe_with_room(good: Verb, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    psf, out = tmp_path / "psf.h5", tmp_path / "r.yaml"
    beads = DATA / "beads" / "tetrapod_bead_stack.tiff"
    size = ("--pixel-size-nm", 110)
    good("calibrate", beads, "--dz-nm", 100, *size, "-o", psf)
    movie, flags = DATA / "tetrapod_movie", ("--baseline", 0, "--frames", 20, *size)
    said = good("prefit", movie, "-o", out, "--psf", psf, *flags)
    assert "the PSF reaches 24 px: emitters send light into the field" in said.err
    assert "trained up to 0.74 emitters per um^2" in said.err
    recipe = Recipe.load(out)
    assert recipe.sample.margin_px is None
    assert 0.5 < recipe.sample.density_per_um2[1] < 1.0


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data (real movies)")
@pytest.mark.parametrize(
    ("movie", "words", "match"),
    [
        ("dstorm_5frames.tif", (), "spots above the noise in 5 frames"),
        (
            "picasso/testdata.raw",
            ("--pixel-size-nm", 160, "--baseline", 0, "--e-per-adu", 1),
            "emitters stand alone",
        ),
        ("tetrapod_movie", (), "darker than the camera's baseline of 100 ADU"),
    ],
)
def test_real_movies_are_refused_for_what_they_lack(
    verb: Verb, tmp_path: Path, movie: str, words: tuple[object, ...], match: str
) -> None:
    said = verb("prefit", DATA / movie, "-o", tmp_path / "r.yaml", *words)
    assert said.code == 2
    assert match in said.error
