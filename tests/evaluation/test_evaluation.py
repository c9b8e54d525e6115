"""The evaluation, held against localizers whose errors are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from evaluation_oracle import make_card, oracle

from blinkloop.cli._output import plain
from blinkloop.errors import InputError
from blinkloop.evaluation import (
    EvaluationSettings,
    IsolatedSettings,
    Measurement,
    bounds_nm2,
    card_entry,
    condition_of,
    draw_condition,
    isolated_movie,
    measure,
    measure_across,
    measure_isolated,
    pooled_density,
    sigma_over_repeats,
    simulate_movie,
    z_edges,
)
from blinkloop.evaluation.bounds import reach_px
from blinkloop.evaluation.figures import draw_all
from blinkloop.metrics import RULES, Rules
from blinkloop.precision import precision_px
from blinkloop.psf_file import PsfCalibration, write_psf
from blinkloop.schema import (
    EMITTER_DTYPE,
    CameraSettings,
    GaussianPsfSettings,
    SplinePsfSettings,
    empty_emitters,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_spline.npz"
SHAPE = (45, 70)
SETTINGS = EvaluationSettings(
    density_per_um2=0.5, frames=60, height_px=SHAPE[0], width_px=SHAPE[1], seed=3
)


def how(**changes):
    facts = {
        "frames": SETTINGS.frames,
        "height_px": SHAPE[0],
        "width_px": SHAPE[1],
        "pixel_size_nm": 100.0,
        "three_dimensional": True,
        "threshold": 0.5,
        "z_edges_nm": z_edges((-500, 500), 4),
    }
    return Measurement(**{**facts, **changes})


@pytest.fixture(scope="module")
def scene(card):
    return simulate_movie(card, SETTINGS)


def test_measure_of_a_localizer_at_the_bound(card, scene):
    condition = condition_of(card)
    localize = oracle(scene.emitters, condition, 60, SHAPE, sigma_times=0.8)
    record = measure(
        scene.emitters, localize(scene.frames_adu[0], None), how(), condition
    )
    assert record["jaccard"] > 0.97
    assert record["n_truth"] == sum(row["n_truth"] for row in record["by_z"])
    found = record["calibration"]
    for axis in "xyz":
        np.testing.assert_allclose(found["z_scores"][axis]["sd"], 1.25, rtol=0.06)
        counts = found["z_score_histogram"][axis]
        assert sum(counts) >= 0.99 * record["n_matched"]
    with_error = found["sigma_correlation"]
    # Its sigma is the single-emitter bound: the two correlate with the error alike.
    assert with_error["per_emitter"] == pytest.approx(
        with_error["crlb_per_emitter"], abs=1e-3
    )
    assert found["scores"]["ece"] < 0.02
    assert found["blocks"]["ece"] == 0.0
    assert record["density"]["bias"] == 0.0
    assert record["density"]["coverage"] == 1.0


def test_measure_counts_below_the_threshold_for_reliability_only(card, scene):
    condition = condition_of(card)
    localize = oracle(scene.emitters, condition, 60, SHAPE, p=0.25)
    record = measure(scene.emitters, localize(scene.frames_adu[0], None), how())
    assert record["n_predicted"] == 0
    assert record["calibration"]["scores"]["ece"] == pytest.approx(0.75, abs=0.02)
    assert record["density"]["bias"] == pytest.approx(-0.75)
    np.testing.assert_allclose(
        record["calibration"]["blocks"]["ece"] * 6 * 9,
        0.75 * record["n_truth"] / 60,
        rtol=1e-5,
    )
    assert "crlb_per_emitter" not in record["calibration"]["sigma_correlation"]


def test_measure_of_an_empty_movie(card):
    condition = condition_of(card)
    localize = oracle(empty_emitters(), condition, 60, SHAPE)
    found = localize(np.zeros((60, *SHAPE)), None)
    record = measure(empty_emitters(), found, how(rules=RULES["challenge"]), condition)
    assert record["n_truth"] == 0
    assert math.isnan(record["jaccard"])
    json.dumps(plain(record), allow_nan=False)
    assert record["density"]["coverage"] == 1.0
    assert pooled_density([record["density"]]) == {
        "coverage": 1.0,
        "bias_worst": None,
        "empty_per_um2": 0.0,
    }


def test_pooled_density():
    parts = [
        {"frames": 10, "coverage": 1.0, "bias": math.nan, "true_per_um2": 0.0}
        | {"estimated_per_um2": 0.01},
        {"frames": 30, "coverage": 0.8, "bias": -0.1, "true_per_um2": 1.0}
        | {"estimated_per_um2": 0.9},
    ]
    pooled = pooled_density(parts)
    assert pooled["coverage"] == pytest.approx(0.85)
    assert (pooled["bias_worst"], pooled["empty_per_um2"]) == (-0.1, 0.01)


@pytest.mark.parametrize("mode", ["single", "persistent"])
def test_isolated_emitters_stand_alone(card, mode):
    condition = condition_of(card)
    settings = IsolatedSettings(emitters=50, photons=4000, frame_px=120)
    movie = isolated_movie(condition, settings, mode)
    truth = movie.truth
    assert len(truth) == 50
    assert movie.frames_adu.shape[1:] == (108, 108)
    assert reach_px(condition) == 13
    light = (movie.frames_adu.astype(float) - 100).sum(axis=(1, 2)) * 0.5
    empty = 20 * 108 * 108
    at = np.unique(truth["frame"])
    np.testing.assert_allclose(
        light[at] - empty, 4000 * np.bincount(truth["frame"])[at], rtol=0.15
    )
    beside = light[at - 1] - empty, light[at + 1] - empty
    if mode == "single":
        np.testing.assert_allclose(beside, 0, atol=0.03 * empty)
    else:
        np.testing.assert_allclose(beside, (light[at] - empty,) * 2, rtol=0.1)
    for frame in at:
        rows = truth[truth["frame"] == frame]
        apart = np.hypot(
            rows["x_px"][:, None] - rows["x_px"], rows["y_px"][:, None] - rows["y_px"]
        )
        assert apart[~np.eye(len(rows), dtype=bool)].min() > 22
    assert np.ptp(truth["x_px"] % 4) > 3.5
    other = isolated_movie(condition, settings, mode)
    np.testing.assert_array_equal(other.frames_adu, movie.frames_adu)


@pytest.mark.parametrize(
    ("times", "camera"),
    [
        pytest.param(1.0, CameraSettings(), id="at the bound"),
        pytest.param(
            1.4,
            CameraSettings(kind="emccd", em_gain=300, e_per_adu=45, read_noise_e=74.4),
            id="emccd",
        ),
    ],
)
def test_ratio_of_a_localizer_whose_errors_are_known(card, times, camera):
    condition = condition_of(card, camera=camera)
    settings = IsolatedSettings(emitters=600, frame_px=243)
    movies = [isolated_movie(condition, settings, m) for m in ("single", "persistent")]
    oracles = [
        oracle(m.truth, condition, *_sizes(m.frames_adu), times=times) for m in movies
    ]

    def localize(frames, camera):
        which = [len(m.frames_adu) for m in movies].index(len(frames))
        return oracles[which](frames, camera)

    record = measure_isolated(
        condition,
        settings,
        localize,
        threshold=0.5,
        three_dimensional=True,
        z_edges_nm=z_edges((-500, 500), 2),
    )
    for mode in ("single", "persistent"):
        found = record[mode]
        assert found["detection_rate"] == 1.0
        assert found["false_per_frame"] == 0.0
        for axis in "xyz":
            assert found[axis]["ratio"] == pytest.approx(times, rel=0.1)
            assert found["z_scores"][axis]["sd"] == pytest.approx(1, rel=0.1)
        assert sum(row["n"] for row in found["by_z"]) == 600
    entry = card_entry({"model": "m", "isolated": record})
    assert entry["crlb_ratio"]["single"]["x"] == record["single"]["x"]["ratio"]


def _sizes(frames):
    return len(frames), frames.shape[1:]


def test_bounds_know_the_noise_of_the_camera(card):
    rows = isolated_movie(
        condition_of(card), IsolatedSettings(emitters=9), "single"
    ).truth
    ideal, emccd = (
        bounds_nm2(rows, condition_of(card, camera=camera), three_dimensional=True)
        for camera in (
            CameraSettings(kind="ideal"),
            CameraSettings(kind="emccd", em_gain=1000, read_noise_e=0.0),
        )
    )
    np.testing.assert_allclose(emccd, 2 * ideal, rtol=1e-6)
    flat = bounds_nm2(rows, condition_of(card), three_dimensional=False)
    whole = bounds_nm2(rows, condition_of(card), three_dimensional=True)
    assert flat.shape == (9, 2)
    # What need not be estimated cannot make the rest worse.
    assert (flat <= whole[:, :2] * (1 + 1e-9)).all()


@pytest.mark.parametrize("pixel_size_nm", [100.0, 130.0])
def test_bounds_are_in_nm(pixel_size_nm):
    flat = GaussianPsfSettings(sigma0_px=1.3, astigmatism_nm=0, z_range_nm=(0, 0))
    camera = CameraSettings(kind="ideal", pixel_size_nm=pixel_size_nm)
    where = condition_of(
        make_card(flat, pixel_size_nm=pixel_size_nm, camera=camera, z_range_nm=(0, 0))
    )
    rows = isolated_movie(
        where, IsolatedSettings(emitters=40, photons=2000), "single"
    ).truth
    bound = np.sqrt(bounds_nm2(rows, where, three_dimensional=False))
    known = precision_px(np.array(1.3), np.array(2000.0), np.array(20.0))
    np.testing.assert_allclose(bound.mean(), known * pixel_size_nm, rtol=0.03)


def test_sigma_over_repeats_reaches_its_ceiling(card, scene):
    condition = condition_of(card)
    localize = oracle(scene.emitters, condition, 30, SHAPE)
    record = sigma_over_repeats(
        scene, condition, localize, how(), repeats=20, frames=30
    )
    assert record["n"] > 300
    assert record["correlation"] == pytest.approx(record["ceiling"], abs=0.03)
    assert record["correlation"] > 0.9
    assert 0.9 < record["rank"] <= 1.0
    assert abs(record["persistent"]) < 0.03
    for name in ("correlation", "rank"):
        low, high = record[f"{name}_95"]
        assert low < record[name] < high < low + 0.1
    with pytest.raises(InputError, match="at least 2"):
        sigma_over_repeats(scene, condition, localize, how(), repeats=1, frames=3)


def test_an_error_that_every_draw_repeats_is_persistent(card, scene):
    condition = condition_of(card)
    localize = oracle(scene.emitters, condition, 30, SHAPE)

    def odds(shift_px):
        """Square of what all draws share, in squares of the scatter."""

        def shifted(frames, camera):
            found = localize(frames, camera)
            found.table["x_px"] += shift_px
            return found

        share = sigma_over_repeats(
            scene, condition, shifted, how(), repeats=10, frames=30
        )["persistent"]
        return share / (1 - share)

    assert odds(1.0) == pytest.approx(4 * odds(0.5), rel=0.1)


def test_conditions_of_a_range_lie_in_it(ranged_card):
    rng = np.random.default_rng(0)
    drawn = [draw_condition(ranged_card, rng) for _ in range(200)]
    kinds = {where.camera.kind for where, _ in drawn}
    assert kinds == {"ideal", "scmos", "emccd"}
    psf = ranged_card.psf
    for where, sample in drawn:
        assert psf.sigma0_px[0] <= where.settings.sigma0_px <= psf.sigma0_px[1]
        assert abs(where.settings.astigmatism_nm) <= psf.astigmatism_nm[1]
        assert ranged_card.serves_pixel_size(where.pixel_size_nm)
        low, high = ranged_card.density_per_um2_at(where.pixel_size_nm)
        assert low <= sample["density_per_um2"] <= high
        assert 5 <= sample["background_photons"] <= 40
        n, s = sample["photons"], where.settings.sigma0_px
        gain = where.camera.em_gain
        noise = sample["background_photons"] + (where.camera.read_noise_e / gain) ** 2
        ratio = n / math.sqrt(n + 4 * math.pi * s**2 * noise)
        assert ratio >= 8 * (1 - 1e-6) or n == pytest.approx(5000)
    straight = [where.settings.astigmatism_nm == 0 for where, _ in drawn]
    assert 0.35 < np.mean(straight) < 0.65


def test_across_the_range_of_a_2d_model(ranged_card):
    seen = []

    def localize(frames, camera):
        seen.append(camera)
        truth = empty_emitters()
        sizes = frames.shape[1:]
        return oracle(truth, condition_of(ranged_card), len(frames), sizes)(frames, 0)

    record = measure_across(
        ranged_card,
        localize,
        conditions=4,
        frames=3,
        height_px=17,
        width_px=24,
        threshold=0.5,
        rules=Rules(),
    )
    assert len(record["drawn"]) == 4
    assert len({camera.pixel_size_nm for camera in seen}) == 4
    # Nothing is found: what is undefined stays out of the percentiles.
    assert record["percentiles"]["rmse_lateral_nm"]["p50"] is None
    assert record["percentiles"]["recall"]["p50"] == 0.0
    assert record["percentiles"]["density_bias"]["p95"] == -1.0
    entry = card_entry({"model": "m", "across_range": record})
    assert "drawn" not in entry["across_range"]
    figures = draw_all(plain({"model": "m", "across_range": record}))
    assert list(figures) == ["across_range"]


def test_a_measured_psf_is_found_where_the_person_says(tmp_path):
    pytest.importorskip("h5py")
    with np.load(GOLDEN) as file:
        golden = dict(file)
    dz_nm = float(golden["vx"][2])
    half = 8 * dz_nm
    calibration = PsfCalibration(
        golden["coeff"].astype(np.float32),
        tuple(golden["ref0"].tolist()),
        dz_nm,
        100.0,
        z_range_nm=(-half, half),
    )
    write_psf(tmp_path / "mine.h5", calibration)
    card = make_card(
        SplinePsfSettings(file="/elsewhere/psf.h5", z_range_nm=(-half, half)),
        camera=CameraSettings(kind="ideal"),
    )
    with pytest.raises(InputError, match="no such PSF file"):
        condition_of(card)
    where = condition_of(card, psf_file=tmp_path / "mine.h5")
    assert reach_px(where) == 6
    rows = np.zeros(len(golden["xyz"]), EMITTER_DTYPE)
    for name, column in zip(("x_px", "y_px", "z_nm"), golden["xyz"].T, strict=True):
        rows[name] = column
    rows["photons"], rows["background_photons"] = golden["phot"], golden["bg"]
    bound = bounds_nm2(rows, where, three_dimensional=True)
    # Official background misses the last row and column of a window: up to 2.3 %.
    np.testing.assert_allclose(bound, golden["crlb"][:, :3] * [1e4, 1e4, 1], rtol=0.03)
    short = SETTINGS.model_copy(update={"frames": 5})
    scene = simulate_movie(card, short, where)
    assert np.abs(scene.emitters["z_nm"]).max() <= half
    assert scene.frames_adu.max() > 300


def test_condition_in_the_middle_of_a_range(ranged_card):
    where = condition_of(ranged_card)
    assert where.settings.sigma0_px == pytest.approx(math.sqrt(0.75 * 2.2))
    assert where.z_range_nm == (-400, 400)
    other = condition_of(ranged_card, sigma0_px=1.5, astigmatism_nm=200)
    assert (other.settings.sigma0_px, other.settings.astigmatism_nm) == (1.5, 200)


@pytest.mark.parametrize(
    ("psf", "given", "match"),
    [
        (GaussianPsfSettings(), {"psf_file": "x.h5"}, "no calibration file fits"),
        (GaussianPsfSettings(), {"sigma0_px": 0.0}, "must be positive"),
        (
            GaussianPsfSettings(),
            {"camera": CameraSettings(pixel_size_nm=160)},
            "not 160 nm",
        ),
        (
            SplinePsfSettings(file="none.h5", z_range_nm=(-300, 300)),
            {},
            "none.h5: no such PSF file",
        ),
        (
            SplinePsfSettings(file="none.h5", z_range_nm=(-300, 300)),
            {"sigma0_px": 1.0},
            "give its calibration as --psf",
        ),
    ],
)
def test_conditions_that_cannot_be(psf, given, match):
    with pytest.raises(InputError, match=match):
        condition_of(make_card(psf), **given)


def test_figures_name_their_units(card, scene):
    condition = condition_of(card)
    localize = oracle(scene.emitters, condition, 60, SHAPE)
    row = measure(scene.emitters, localize(scene.frames_adu[0], None), how(), condition)
    row["settings"] = SETTINGS.model_dump()
    figures = draw_all(plain({"model": "m", **row, "by_density": [row, row]}))
    assert list(figures) == [
        "by_z",
        "z_scores",
        "sigma",
        "reliability",
        "subpixel",
        "by_density",
    ]
    for name, figure in figures.items():
        for axes in figure.axes:
            assert axes.get_xlabel(), name
            assert axes.get_ylabel(), name
        figure.draw_without_rendering()
    labels = [axes.get_ylabel() for axes in figures["by_density"].axes]
    assert "RMSE (nm)" in labels


def test_slices_of_z():
    assert z_edges((0, 0), 5) is None
    assert z_edges((-300, 300), 3) == (-300, -100, 100, 300)
    with pytest.raises(InputError, match="slice"):
        z_edges((-300, 300), 0)
