"""Calibration of sigma, scores, counts; sub-pixel test; bounds; slices of z."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_tables import emitters, localizations

from blinkloop.errors import InputError
from blinkloop.metrics import (
    accuracy_by_z,
    bound_ratio,
    correlation,
    count_estimate,
    count_reliability,
    density_calibration,
    errors_and_sigmas_nm,
    pair_tables,
    score_reliability,
    sigma_correlation,
    subpixel,
    z_scores,
)


def test_z_scores_of_exact_and_of_wrong_sigmas():
    rng = np.random.default_rng(0)
    sigma = rng.uniform(5, 50, (20_000, 3))
    error = sigma * rng.standard_normal(sigma.shape) * [1.0, 1.3, 0.8] + [0, 0, 4]
    error[:40, 0] = 60 * sigma[:40, 0]  # a few wild ones
    found = z_scores(error, sigma)
    assert list(found) == ["x", "y", "z"]
    np.testing.assert_allclose(found["y"]["sd"], 1.3, rtol=0.02)
    np.testing.assert_allclose(found["y"]["robust_sd"], 1.3, rtol=0.03)
    np.testing.assert_allclose(found["x"]["robust_sd"], 1.0, rtol=0.03)
    assert found["x"]["sd"] > 2.5
    np.testing.assert_allclose(found["x"]["within_95"], 0.948, atol=0.006)
    assert found["z"]["mean"] > 0.1


def test_z_scores_of_nothing():
    found = z_scores(np.zeros((0, 2)), np.zeros((0, 2)))
    assert list(found) == ["x", "y"]
    assert all(math.isnan(value) for row in found.values() for value in row.values())


def test_errors_and_sigmas_are_in_nm_and_of_the_pairs():
    truth = emitters([(0, 5, 7, 100, 900), (1, 20, 8, 0, 900)])
    found = localizations([(1, 20.5, 8, 30), (0, 5, 7.2, 90)])
    found["x_sigma_px"], found["y_sigma_px"] = [0.1, 0.2], [0.3, 0.4]
    found["z_sigma_nm"] = [50, 60]
    paired = pair_tables(truth, found, 120.0)
    error, sigma = errors_and_sigmas_nm(paired, 120.0)
    np.testing.assert_allclose(error, [[0, 24, -10], [60, 0, 30]], atol=1e-4)
    np.testing.assert_allclose(sigma, [[24, 48, 60], [12, 36, 50]], rtol=1e-6)
    found["z_sigma_nm"][1] = 0  # says nothing
    error, _ = errors_and_sigmas_nm(pair_tables(truth, found, 120.0), 120.0)
    np.testing.assert_allclose(error, [[60, 0, 30]], atol=1e-4)


def test_correlation_of_exact_sigmas_is_at_its_ceiling():
    rng = np.random.default_rng(0)
    sigma = 20 * np.exp(0.7 * rng.standard_normal((30_000, 1))) * np.ones(3)
    error = sigma * rng.standard_normal(sigma.shape)
    found = sigma_correlation(error, sigma, rng)
    np.testing.assert_allclose(found["per_emitter"], found["ceiling"], atol=0.02)
    assert 0.7 < found["per_emitter"] < 0.9
    assert found["binned"] > 0.99
    curve = found["curve"]
    assert sum(curve["n"]) == found["n"] == 30_000
    np.testing.assert_allclose(curve["rmse_nm"], curve["sigma_nm"], rtol=0.1)


def test_correlation_of_sigmas_that_know_nothing():
    rng = np.random.default_rng(0)
    error, sigma = rng.standard_normal((5000, 2)), rng.uniform(1, 9, (5000, 2))
    found = sigma_correlation(error, sigma, rng)
    assert abs(found["per_emitter"]) < 0.05
    assert abs(found["rank"]) < 0.05
    assert found["ceiling"] > 0.3


def test_rank_correlation_is_spearmans():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    sigma = np.round(rng.uniform(1, 5, (300, 1)), 1)  # many equal values
    error = np.round(sigma * rng.standard_normal((300, 1)), 1)
    found = sigma_correlation(error, sigma, rng)
    expected = stats.spearmanr(sigma[:, 0], np.abs(error[:, 0])).statistic
    np.testing.assert_allclose(found["rank"], expected, rtol=1e-9)


@pytest.mark.parametrize("n", [0, 1])
def test_correlation_of_too_little_is_nan(n):
    found = sigma_correlation(
        np.ones((n, 3)), np.ones((n, 3)), np.random.default_rng(0)
    )
    assert math.isnan(found["per_emitter"])
    assert math.isnan(found["binned"])
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))


def test_reliability_of_scores():
    score = np.repeat([0.25, 0.75, 1.0], [40, 40, 20])
    real = np.zeros(100, bool)
    real[:10] = True  # 0.25 of 40, as said
    real[40:60] = True  # 0.5 in place of 0.75
    real[80:] = True
    found = score_reliability(score, real)
    np.testing.assert_allclose(found["ece"], 0.4 * 0.25)
    assert found["curve"]["n"] == [40, 40, 20]
    np.testing.assert_allclose(found["curve"]["share"], [0.25, 0.5, 1.0])
    assert math.isnan(score_reliability([], [])["ece"])


def test_reliability_of_counts():
    rng = np.random.default_rng(0)
    expected = rng.gamma(1.0, 0.7, 20_000)
    true = rng.poisson(expected)
    right, low = (count_reliability(scale * expected, true) for scale in (1.0, 0.8))
    assert right["ece"] < 0.02
    np.testing.assert_allclose(low["ece"], 0.2 * 0.7, rtol=0.1)
    assert sum(right["curve"]["n"]) == 20_000


def test_density_of_probabilities_that_are_true():
    rng = np.random.default_rng(0)
    p = rng.beta(0.02, 2.0, (2000, 600))
    true = (rng.random(p.shape) < p).sum(axis=1)
    # The network's floor is on top and taken off.
    mean, variance = count_estimate(
        p.sum(axis=1) + 600 * 1e-3,
        (p * (1 - p)).sum(axis=1) + 600 * 1e-3 * (1 - 1e-3),
        600,
        1e-3,
    )
    found = density_calibration(mean, variance, true, 6.0)
    assert abs(found["bias"]) < 0.03
    assert 0.93 < found["coverage"] < 0.98
    np.testing.assert_allclose(found["z_sd"], 1.0, rtol=0.05)
    np.testing.assert_allclose(found["sd_scale"], 1.0, rtol=0.05)
    wide = density_calibration(mean, 4 * variance, true, 6.0)
    np.testing.assert_allclose(wide["sd_scale"], found["sd_scale"] / 2)
    np.testing.assert_allclose(found["true_per_um2"], true.mean() / 6.0)


def test_density_in_numbers():
    found = density_calibration([3.0, 5.0], [0.25, 1.0], [2, 5], 2.0)
    np.testing.assert_allclose(found["bias"], 1 / 7)
    np.testing.assert_allclose(found["bias_per_um2"], 0.25)
    np.testing.assert_allclose(found["estimated_per_um2"], 2.0)
    # 3 +- 0.98 does not hold 2.
    np.testing.assert_allclose(found["coverage"], 0.5)
    np.testing.assert_allclose(found["rmse_per_um2"], math.sqrt(0.5) / 2)


def test_density_of_empty_frames():
    mean, variance = count_estimate([0.2, 0.4], [0.2, 0.4], 100, 3e-3)
    np.testing.assert_allclose(mean, [0.0, 0.1])
    found = density_calibration(mean, variance, [0, 0], 1.0)
    assert found["coverage"] == 1.0
    assert math.isnan(found["bias"])
    np.testing.assert_allclose(found["bias_per_um2"], 0.05)
    assert math.isnan(density_calibration([], [], [], 1.0)["coverage"])


@pytest.mark.parametrize(
    "arguments",
    [([1.0], [1.0], [1, 2], 1.0), ([1.0], [1.0], [1], 0.0), ([], [], [], np.nan)],
)
def test_density_that_cannot_be(arguments):
    with pytest.raises(InputError, match="density"):
        density_calibration(*arguments)


def test_uniform_positions_pass_the_subpixel_test():
    rng = np.random.default_rng(0)
    found = subpixel(rng.uniform(-0.5, 63.5, 50_000))
    assert found.n == sum(found.counts) == 50_000
    assert found.p_value > 0.001
    assert found.harmonic < 0.03
    assert math.isnan(found.harmonic_excess)


def test_amplitude_of_a_grid():
    # Density 1 + 0.3 cos(2 pi x) about the centre of the pixel.
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.5, 0.5, 200_000)
    x = x[rng.random(len(x)) * 1.3 < 1 + 0.3 * np.cos(2 * np.pi * x)]
    true = rng.uniform(-0.5, 0.5, len(x))
    found = subpixel(x + 7, paired_px=x, paired_true_px=true)
    np.testing.assert_allclose(found.harmonic, 0.3, atol=0.01)
    np.testing.assert_allclose(found.harmonic_excess, 0.3, atol=0.015)
    assert found.p_value < 1e-9
    assert np.argmax(found.counts) in (9, 10, 11)
    assert found.counts[0] < found.counts[10]


@given(counts=st.lists(st.integers(0, 40), min_size=21, max_size=21))
def test_chi_square_is_that_of_scipy(counts):
    stats = pytest.importorskip("scipy.stats")
    if not sum(counts):
        return
    x = np.repeat((np.arange(21) + 0.5) / 21 - 0.5, counts)
    found = subpixel(x)
    assert list(found.counts) == counts
    expected = stats.chisquare(counts)
    np.testing.assert_allclose(found.chi_square, expected.statistic, rtol=1e-9)
    np.testing.assert_allclose(found.p_value, expected.pvalue, rtol=1e-6, atol=1e-300)


def test_subpixel_of_nothing():
    found = subpixel([np.nan])
    assert found.n == 0
    assert math.isnan(found.p_value)


def test_ratio_to_the_bound():
    rng = np.random.default_rng(0)
    bound = rng.uniform(4, 400, (5000, 3))
    error = np.sqrt(bound) * rng.standard_normal(bound.shape) * [1.0, 1.2, 2.0]
    error[:, 1] += 3.0
    found = bound_ratio(error, bound, rng)
    np.testing.assert_allclose(found["x"]["ratio"], 1.0, rtol=0.03)
    np.testing.assert_allclose(found["x"]["ratio_each"], 1.0, rtol=0.03)
    np.testing.assert_allclose(found["z"]["ratio"], 2.0, rtol=0.03)
    np.testing.assert_allclose(found["z"]["ratio_robust"], 2.0, rtol=0.04)
    np.testing.assert_allclose(found["y"]["bias"], 3.0, atol=3 * found["y"]["bias_se"])
    for row in found.values():
        low, high = row["interval_95"]
        assert low < row["ratio"] < high
        np.testing.assert_allclose((high - low) / row["ratio"], 0.045, rtol=0.35)


def test_ratio_where_there_is_no_bound():
    bound = np.array([[1.0, np.inf], [1.0, 4.0]])
    found = bound_ratio(np.ones((2, 2)), bound, np.random.default_rng(0))
    assert found["x"]["ratio"] == 1.0
    assert math.isnan(found["y"]["ratio"])
    empty = bound_ratio(np.zeros((0, 3)), np.zeros((0, 3)), np.random.default_rng(0))
    assert math.isnan(empty["z"]["interval_95"][0])
    with pytest.raises(InputError, match="bound"):
        bound_ratio(np.ones((2, 2)), np.ones((2, 3)), np.random.default_rng(0))


def test_slices_of_z_sum_to_the_whole():
    truth = emitters([(0, 5, 5, -450, 900), (0, 9, 5, -10, 900), (0, 15, 5, 480, 900)])
    found = localizations(
        [(0, 5.3, 5, 20), (0, 9, 5, -20), (0, 30, 30, 700), (0, 40, 30, -700)]
    )
    low, middle, high = accuracy_by_z(
        pair_tables(truth, found, 100.0), [-500, -100, 100, 500]
    )
    assert [row["n_truth"] for row in (low, middle, high)] == [1, 1, 1]
    # A pair belongs to the slice of the truth, false positives to their own.
    assert [row["n_matched"] for row in (low, middle, high)] == [1, 1, 0]
    assert [row["n_predicted"] for row in (low, middle, high)] == [2, 1, 1]
    np.testing.assert_allclose(low["jaccard"], 0.5)
    np.testing.assert_allclose(low["rmse_axial_nm"], 470)
    np.testing.assert_allclose(low["bias_x_nm"], 30)
    np.testing.assert_allclose(middle["bias_z_nm"], -10)
    assert math.isnan(high["rmse_lateral_nm"])
    assert high["jaccard"] == 0.0


@pytest.mark.parametrize("edges", [[0.0], [1.0, 0.0], [0.0, 0.0]])
def test_slices_that_do_not_ascend(edges):
    with pytest.raises(InputError, match="ascend"):
        accuracy_by_z(pair_tables(emitters([]), localizations([]), 100.0), edges)
