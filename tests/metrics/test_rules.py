"""Rules of the challenge, Hungarian matching, wobble correction."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metric_tables import emitters, localizations

from blinkloop.errors import InputError
from blinkloop.metrics import (
    RULES,
    Field,
    Rules,
    match,
    pair_by_rules,
    paired_accuracy,
    photon_threshold,
)

PIXEL = 100.0
FIELD = Field(width=30, height=20)


@pytest.mark.parametrize(
    ("photons", "quantile", "threshold"),
    [
        pytest.param([], 0.25, 0.0, id="nothing"),
        pytest.param([5, 1, 3, 2], 0.0, 1.0, id="all"),
        pytest.param([5, 1, 3, 2], 0.25, 2.0, id="the dimmest of four goes"),
        pytest.param(range(1, 101), 0.07, 8.0, id="no rounding up of 7"),
        pytest.param([1, 2, 3], 0.9, 3.0, id="one always stays"),
        pytest.param([np.inf, np.inf], 0.25, np.inf, id="unknown photons"),
    ],
)
def test_photon_threshold(photons, quantile, threshold):
    assert photon_threshold(list(photons), quantile) == threshold


def test_challenge_rules_count_what_the_challenge_counts():
    truth = emitters(
        [
            (0, 2, 10, 0, 9000),  # in the border of 4.5 px
            (0, 10, 10, 0, 100),  # the dimmest quarter of the four inside
            (0, 15, 10, 0, 300),
            (0, 20, 10, 0, 400),
            (0, 24, 10, 0, 500),
        ]
    )
    found = localizations(
        [
            (0, 2, 10, 0),
            (0, 10.5, 10, 0),  # at the dim one: neither right nor wrong
            (0, 15.5, 10, 0),
            (0, 20, 12.4, 499),
            (0, 24, 12.6, 0),  # too far
        ]
    )
    paired = pair_by_rules(truth, found, PIXEL, RULES["challenge"], field=FIELD)
    a = paired_accuracy(paired)
    assert (a.n_truth, a.n_predicted, a.n_matched) == (3, 3, 2)
    standard = paired_accuracy(pair_by_rules(truth, found, PIXEL, Rules(), field=FIELD))
    assert (standard.n_truth, standard.n_predicted, standard.n_matched) == (5, 5, 4)


def test_the_quantile_is_of_the_truth_inside():
    bright_outside = [(0, 1, 1, 0, 9000.0)] * 30
    truth = emitters([*bright_outside, (0, 10, 10, 0, 100), (0, 20, 10, 0, 400)])
    paired = pair_by_rules(
        truth, localizations([]), PIXEL, RULES["challenge"], field=FIELD
    )
    assert paired.truth["photons"].tolist() == [400.0]


def best_by_trial(distance, allowed):
    """(pairs, smallest sum of distances) over all ways of pairing."""
    rows, columns = distance.shape
    if rows > columns:
        return best_by_trial(distance.T, allowed.T)
    best = (0, 0.0)
    for chosen in itertools.permutations(range(columns), rows):
        used = [(i, j) for i, j in enumerate(chosen) if allowed[i, j]]
        total = sum(distance[i, j] for i, j in used)
        if (-len(used), total) < (-best[0], best[1]):
            best = (len(used), total)
    return best


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 5), m=st.integers(0, 5))
def test_hungarian_is_the_best_of_all_pairings(seed, n, m):
    rng = np.random.default_rng(seed)
    t, p = rng.uniform(0, 500, (n, 3)), rng.uniform(0, 500, (m, 3))
    found = match(np.zeros(n), t, np.zeros(m), p, rule="hungarian")
    delta = t[:, None] - p[None]
    distance = np.sqrt(np.sum(delta**2, axis=2))
    allowed = (np.hypot(delta[..., 0], delta[..., 1]) <= 250) & (
        np.abs(delta[..., 2]) <= 500
    )
    pairs, total = best_by_trial(distance, allowed)
    chosen = distance[found.truth_index, found.predicted_index]
    assert found.true_positives == pairs
    assert allowed[found.truth_index, found.predicted_index].all()
    assert len(set(found.truth_index)) == len(set(found.predicted_index)) == pairs
    np.testing.assert_allclose(chosen.sum(), total)
    np.testing.assert_array_equal(chosen, np.sort(chosen))


def test_hungarian_forms_the_pair_that_greedy_spoils():
    # 0 -- 100 -- 180 -- 380: greedy takes the 80 in the middle.
    rows = [0, 0], [[0.0, 0.0], [180.0, 0.0]], [0, 0], [[100.0, 0.0], [380.0, 0.0]]
    assert match(*rows).true_positives == 1
    assert match(*rows, rule="hungarian").true_positives == 2


def test_hungarian_keeps_frames_apart():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 40, 900)
    t = rng.uniform(0, 6400, (900, 3))
    order = rng.permutation(900)
    found = match(frame, t, frame[order], t[order], rule="hungarian")
    np.testing.assert_array_equal(order[found.predicted_index], found.truth_index)
    assert found.true_positives == 900


def wobbling(rng, n=4000, shift_nm=40.0):
    truth, found = emitters([(0, 0, 0, 0, 900)] * n), localizations([(0, 0, 0, 0)] * n)
    truth["frame"] = found["frame"] = np.arange(n) // 4
    truth["x_px"], truth["y_px"] = 5.0 + 6 * (np.arange(n) % 4), rng.uniform(5, 15, n)
    truth["z_nm"] = rng.uniform(-400, 400, n)
    found["z_nm"] = truth["z_nm"]
    for name, sign in (("x_px", 1), ("y_px", -1)):
        wobble = sign * shift_nm / PIXEL * truth["z_nm"] / 400
        found[name] = truth[name] + wobble + rng.normal(0, 0.05, n)
    return truth, found


def test_wobble_is_taken_off():
    truth, found = wobbling(np.random.default_rng(1))
    plain = paired_accuracy(pair_by_rules(truth, found, PIXEL, Rules()))
    fair = paired_accuracy(pair_by_rules(truth, found, PIXEL, Rules(wobble=True)))
    # 40 z / 400 in both axes has the RMS 40 sqrt(2/3); 5 nm of noise in each remain.
    np.testing.assert_allclose(
        plain.rmse_lateral_nm, np.hypot(40 * np.sqrt(2 / 3), 5 * np.sqrt(2)), rtol=0.02
    )
    np.testing.assert_allclose(fair.rmse_lateral_nm, 5 * np.sqrt(2), rtol=0.05)


def test_wobble_without_z_is_one_shift():
    truth, found = wobbling(np.random.default_rng(1), shift_nm=0.0)
    found["x_px"] += 0.7
    fair = paired_accuracy(
        pair_by_rules(truth, found, PIXEL, Rules(wobble=True), three_dimensional=False)
    )
    np.testing.assert_allclose(fair.rmse_lateral_nm, 5 * np.sqrt(2), rtol=0.05)


def test_wobble_of_nothing():
    paired = pair_by_rules(
        emitters([]), localizations([(0, 1, 1, 0)]), PIXEL, Rules(wobble=True)
    )
    assert paired.predicted["x_px"].tolist() == [1.0]


@pytest.mark.parametrize(
    "settings",
    [{"photon_quantile": 1.0}, {"photon_quantile": -0.1}, {"border_nm": -1.0}],
)
def test_rules_that_cannot_be(settings):
    with pytest.raises(InputError, match="rules"):
        Rules(**settings)


def test_unknown_rule_of_matching():
    with pytest.raises(InputError, match="greedy or hungarian"):
        match([0], [[0, 0]], [0], [[0, 0]], rule="best")
