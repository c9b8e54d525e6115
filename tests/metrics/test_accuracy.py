"""Accuracy of tables: selection, scores, bootstrap intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from blinkloop.errors import InputError
from blinkloop.metrics import (
    Field,
    accuracy,
    bootstrap_intervals,
    errors_nm,
    pair_tables,
    paired_accuracy,
    select_truth,
)
from blinkloop.schema import EMITTER_DTYPE, LOCALIZATION_DTYPE

PIXEL = 100.0
KEYS = [
    "jaccard",
    "precision",
    "recall",
    "rmse_lateral_nm",
    "rmse_axial_nm",
    "rmse_volume_nm",
    "efficiency_lateral",
    "efficiency_axial",
    "efficiency_volume",
    "n_truth",
    "n_predicted",
    "n_matched",
]


def emitters(rows):
    """Rows of (frame, x_px, y_px, z_nm, photons)."""
    table = np.zeros(len(rows), EMITTER_DTYPE)
    for name, column in zip(
        ("frame", "x_px", "y_px", "z_nm", "photons"),
        np.array(rows, float).reshape(-1, 5).T,
        strict=True,
    ):
        table[name] = column
    return table


def localizations(rows):
    """Rows of (frame, x_px, y_px, z_nm)."""
    table = np.zeros(len(rows), LOCALIZATION_DTYPE)
    for name, column in zip(
        ("frame", "x_px", "y_px", "z_nm"),
        np.array(rows, float).reshape(-1, 4).T,
        strict=True,
    ):
        table[name] = column
    return table


def movie(rng, frames=200, per_frame=5, missed=0.2, false=0.1, sd_nm=(20.0, 40.0)):
    """Truth, and predictions with known errors, in a field of 80 x 50 px."""
    count = frames * per_frame
    truth = np.zeros(count, EMITTER_DTYPE)
    truth["frame"] = np.repeat(np.arange(frames), per_frame)
    truth["x_px"], truth["y_px"] = rng.uniform(0, 79, count), rng.uniform(0, 49, count)
    truth["z_nm"], truth["photons"] = rng.uniform(-400, 400, count), 1000
    seen = rng.random(count) > missed
    found = np.zeros(seen.sum() + int(false * count), LOCALIZATION_DTYPE)
    near, far = found[: seen.sum()], found[seen.sum() :]
    near["frame"] = truth["frame"][seen]
    for name, sd in (("x_px", sd_nm[0] / PIXEL), ("y_px", sd_nm[0] / PIXEL)):
        near[name] = truth[name][seen] + rng.normal(0, sd, seen.sum())
    near["z_nm"] = truth["z_nm"][seen] + rng.normal(0, sd_nm[1], seen.sum())
    far["frame"] = rng.integers(0, frames, len(far))
    far["x_px"] = 500.0
    return truth, found


def test_known_numbers():
    truth = emitters([(0, 5, 7, 100, 900), (0, 20, 8, 0, 900), (1, 6, 6, 0, 900)])
    found = localizations([(0, 5.3, 7.4, 120), (1, 40, 6, 0), (1, 6, 6, -20)])
    a = accuracy(truth, found, PIXEL)
    np.testing.assert_allclose(
        [a.jaccard, a.precision, a.recall], [2 / 4, 2 / 3, 2 / 3]
    )
    np.testing.assert_allclose(a.rmse_lateral_nm, np.sqrt(50**2 / 2))
    np.testing.assert_allclose(a.rmse_axial_nm, 20.0)
    np.testing.assert_allclose(a.rmse_volume_nm, np.sqrt(50**2 / 2 + 20**2))
    lateral = 1 - np.hypot(0.5, 0.01 * np.sqrt(1250))
    axial = 1 - np.hypot(0.5, 0.005 * 20)
    np.testing.assert_allclose(a.efficiency_lateral, lateral)
    np.testing.assert_allclose(a.efficiency_axial, axial)
    np.testing.assert_allclose(a.efficiency_volume, (lateral + axial) / 2)
    assert (a.n_truth, a.n_predicted, a.n_matched) == (3, 3, 2)


def test_keys_are_those_of_the_command_line():
    values = accuracy(emitters([]), localizations([]), PIXEL).as_dict()
    assert list(values) == KEYS
    truth, found = movie(np.random.default_rng(0), frames=3)
    json.dumps(accuracy(truth, found, PIXEL).as_dict(), allow_nan=False)


def test_pixel_size_scales_the_lateral_error_only():
    truth, found = movie(np.random.default_rng(0), false=0)
    one = accuracy(truth, found, 100.0)
    other = accuracy(truth, found, 150.0)
    np.testing.assert_allclose(other.rmse_lateral_nm, 1.5 * one.rmse_lateral_nm)
    np.testing.assert_allclose(other.rmse_axial_nm, one.rmse_axial_nm)


@pytest.mark.parametrize(
    ("truth", "found", "scores"),
    [
        pytest.param([], [], (np.nan, np.nan, np.nan), id="both empty"),
        pytest.param([(0, 1, 1, 0, 99)], [], (0.0, np.nan, 0.0), id="no prediction"),
        pytest.param([], [(0, 1, 1, 0)], (0.0, 0.0, np.nan), id="no truth"),
    ],
)
def test_undefined_is_nan_without_a_warning(truth, found, scores):
    a = accuracy(emitters(truth), localizations(found), PIXEL)
    np.testing.assert_array_equal((a.jaccard, a.precision, a.recall), scores)
    assert np.isnan([a.rmse_lateral_nm, a.rmse_volume_nm, a.efficiency_volume]).all()


def test_without_z():
    truth = emitters([(0, 5, 7, 0, 900)])
    found = localizations([(0, 5.3, 7.4, 2000)])
    assert accuracy(truth, found, PIXEL).n_matched == 0
    flat = accuracy(truth, found, PIXEL, three_dimensional=False)
    np.testing.assert_allclose(flat.rmse_lateral_nm, 50.0)
    assert np.isnan([flat.rmse_axial_nm, flat.rmse_volume_nm]).all()
    assert np.isnan([flat.efficiency_axial, flat.efficiency_volume]).all()
    assert flat.jaccard == 1.0


@pytest.mark.parametrize(
    ("x", "y", "photons", "kept"),
    [
        pytest.param(-0.5, -0.5, 50.0, True, id="first corner"),
        pytest.param(-0.51, 3.0, 900.0, False, id="left of it"),
        pytest.param(7.49, 4.49, 900.0, True, id="last corner"),
        pytest.param(7.5, 3.0, 900.0, False, id="right of it"),
        pytest.param(3.0, 4.5, 900.0, False, id="below it"),
        pytest.param(6.0, 3.0, 900.0, True, id="wider than high"),
        pytest.param(3.0, 3.0, 49.9, False, id="dim"),
        pytest.param(np.nan, 3.0, 900.0, False, id="nowhere"),
    ],
)
def test_selection_of_the_truth(x, y, photons, kept):
    rows = emitters([(0, x, y, 0, photons)])
    assert select_truth(rows, Field(width=8, height=5)).tolist() == [kept]


def test_field_may_start_elsewhere_on_the_chip():
    field = Field(width=8, height=5, x=100, y=40)
    assert field.contains([99.6, 107.4, 3.0], [39.6, 44.4, 3.0]).tolist() == [
        True,
        True,
        False,
    ]


def test_border_limits_both_sets():
    field = Field(width=30, height=20)
    truth = emitters([(0, 2, 10, 0, 900), (0, 15, 10, 0, 900), (0, 15, 18, 0, 900)])
    found = localizations([(0, 2, 10, 0), (0, 15, 10, 0), (0, 15, 2, 0)])
    a = accuracy(truth, found, PIXEL, field=field, border_nm=450.0)
    assert (a.n_truth, a.n_predicted, a.n_matched) == (1, 1, 1)
    whole = accuracy(truth, found, PIXEL, field=field)
    assert (whole.n_truth, whole.n_predicted, whole.n_matched) == (3, 3, 2)


def test_every_prediction_counts_without_a_border():
    field = Field(width=30, height=20)
    truth = emitters([(0, -0.7, 10, 0, 900)])
    a = accuracy(truth, localizations([(0, -0.7, 10, 0)]), PIXEL, field=field)
    assert (a.n_truth, a.n_predicted, a.n_matched) == (0, 1, 0)


def test_dim_emitters_may_be_forgiven():
    truth = emitters([(0, 5, 5, 0, 20), (0, 9, 9, 0, 900)])
    found = localizations([(0, 5, 5, 0), (0, 9, 9, 0), (0, 20, 20, 0)])
    strict = accuracy(truth, found, PIXEL)
    assert (strict.n_truth, strict.n_predicted, strict.n_matched) == (1, 3, 1)
    kind = accuracy(truth, found, PIXEL, forgive_dropped=True)
    assert (kind.n_truth, kind.n_predicted, kind.n_matched) == (1, 2, 1)


@pytest.mark.parametrize(
    ("pixel", "settings"),
    [
        pytest.param(0.0, {}, id="no pixel size"),
        pytest.param(float("nan"), {}, id="unknown pixel size"),
        pytest.param(100.0, {"border_nm": 450.0}, id="border of nothing"),
    ],
)
def test_unusable_settings_are_refused(pixel, settings):
    with pytest.raises(InputError, match="accuracy"):
        accuracy(emitters([]), localizations([]), pixel, **settings)


def test_errors_of_two_dimensions_have_no_volume():
    e = errors_nm(np.zeros((2, 2)), np.array([[3.0, 4.0], [0.0, 0.0]]))
    np.testing.assert_allclose(e.rmse_lateral, np.sqrt(12.5))
    np.testing.assert_allclose(e.mad_lateral, 3.5)
    assert np.isnan([e.rmse_axial, e.rmse_volume, e.mad_axial, e.mad_volume]).all()


def test_intervals_hold_the_value_and_shrink_with_data():
    widths = []
    for frames in (50, 800):
        truth, found = movie(np.random.default_rng(2), frames=frames)
        paired = pair_tables(truth, found, PIXEL)
        values = paired_accuracy(paired).as_dict()
        rng = np.random.default_rng(0)
        intervals = bootstrap_intervals(paired, range(frames), rng)
        assert list(intervals) == KEYS[:-3]
        for key, (low, high) in intervals.items():
            assert low < values[key] < high, key
        widths.append(np.subtract(*intervals["jaccard"][::-1]))
    np.testing.assert_allclose(widths[0] / widths[1], 4.0, rtol=0.35)


def test_interval_covers_the_truth_as_often_as_it_says():
    # Recall is 0.8 by construction; 95 % of 200 intervals: 190 +- 3.1.
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(200):
        truth, found = movie(rng, frames=60, false=0.0)
        paired = pair_tables(truth, found, PIXEL)
        low, high = bootstrap_intervals(paired, range(60), rng, resamples=200)["recall"]
        covered += low <= 0.8 <= high
    assert 176 <= covered <= 200


def test_blocks_widen_the_interval_when_frames_depend_on_each_other():
    rng = np.random.default_rng(0)
    truth, found = movie(rng, frames=600, missed=0.0, false=0.0)
    # Every second run of 10 frames is lost as a whole.
    found = found[found["frame"] // 10 % 2 == rng.integers(0, 2)]
    paired = pair_tables(truth, found, PIXEL)
    single, run = (
        np.subtract(
            *bootstrap_intervals(
                paired, range(600), np.random.default_rng(1), block_frames=block
            )["recall"][::-1]
        )
        for block in (1, 10)
    )
    np.testing.assert_allclose(run / single, np.sqrt(10), rtol=0.25)


def test_one_frame_and_same_seed():
    truth, found = movie(np.random.default_rng(0), frames=1, missed=0.0)
    paired = pair_tables(truth, found, PIXEL)
    first = bootstrap_intervals(paired, range(1), np.random.default_rng(0))
    value = paired_accuracy(paired).jaccard
    assert first["jaccard"] == (value, value)
    truth, found = movie(np.random.default_rng(0))
    paired = pair_tables(truth, found, PIXEL)
    twice = [
        bootstrap_intervals(paired, range(200), np.random.default_rng(9))
        for _ in range(2)
    ]
    assert twice[0] == twice[1]


def test_intervals_of_nothing_are_nan():
    paired = pair_tables(emitters([]), localizations([]), PIXEL)
    intervals = bootstrap_intervals(paired, range(4), np.random.default_rng(0))
    assert np.isnan(list(intervals.values())).all()


def test_intervals_without_z():
    truth, found = movie(np.random.default_rng(0))
    paired = pair_tables(truth, found, PIXEL, three_dimensional=False)
    intervals = bootstrap_intervals(paired, range(200), np.random.default_rng(0))
    assert np.isnan(intervals["rmse_axial_nm"]).all()
    assert np.isfinite(intervals["rmse_lateral_nm"]).all()


@pytest.mark.parametrize(
    ("frames", "settings"),
    [
        pytest.param(range(0), {}, id="no frames"),
        pytest.param(range(5), {}, id="rows elsewhere"),
        pytest.param(range(3, 99), {}, id="rows before"),
        pytest.param(range(0, 99, 2), {}, id="every second"),
        pytest.param(range(99), {"resamples": 0}, id="no resamples"),
        pytest.param(range(99), {"level": 1.0}, id="certainty"),
        pytest.param(range(99), {"block_frames": 0}, id="empty blocks"),
    ],
)
def test_unusable_bootstrap_is_refused(frames, settings):
    truth, found = movie(np.random.default_rng(0), frames=9)
    paired = pair_tables(truth, found, PIXEL)
    with pytest.raises(InputError, match="bootstrap"):
        bootstrap_intervals(paired, frames, np.random.default_rng(0), **settings)


@pytest.mark.parametrize(("level", "deviations"), [(0.95, 1.960), (0.6827, 1.0)])
def test_width_of_an_interval_is_that_of_its_level(level, deviations):
    truth, found = movie(np.random.default_rng(0), frames=2000, false=0.0)
    paired = pair_tables(truth, found, PIXEL)
    low, high = bootstrap_intervals(
        paired, range(2000), np.random.default_rng(0), level=level
    )["recall"]
    # 10000 emitters found or not, each with 0.8: a binomial share.
    expected = 2 * deviations * np.sqrt(0.8 * 0.2 / 10_000)
    np.testing.assert_allclose(high - low, expected, rtol=0.1)
