"""Pairing of localizations with the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.errors import InputError
from blinkloop.metrics import (
    detection_scores,
    efficiency,
    errors_nm,
    match,
    matching,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_misc.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return {name: file[name] for name in file if name.startswith("m_")}


@pytest.fixture(scope="module")
def golden_match(golden):
    return match(golden["m_gt_f"], golden["m_gt"], golden["m_pr_f"], golden["m_pr"])


def plain_greedy(frame_t, t, frame_p, p, lateral, axial):
    """The rule, word by word: always the closest pair that is left."""
    close = []
    for i in range(len(t)):
        for j in range(len(p)):
            d = p[j] - t[i]
            near = np.sum(d[:2] ** 2) <= lateral**2
            if len(d) == 3:
                near = near and abs(d[2]) <= axial
            if frame_t[i] == frame_p[j] and near:
                close.append((np.sum(d * d), i, j))
    pairs, used_t, used_p = [], set(), set()
    for _, i, j in sorted(close):
        if i not in used_t and j not in used_p:
            pairs.append((i, j))
            used_t.add(i)
            used_p.add(j)
    return pairs


def as_pairs(found):
    return list(
        zip(found.truth_index.tolist(), found.predicted_index.tolist(), strict=True)
    )


def test_counts_are_the_official_ones(golden, golden_match):
    counts = (
        golden_match.true_positives,
        golden_match.false_positives,
        golden_match.false_negatives,
    )
    np.testing.assert_array_equal(counts, golden["m_counts"])


def test_errors_are_the_official_ones(golden, golden_match):
    e = errors_nm(
        golden["m_gt"][golden_match.truth_index],
        golden["m_pr"][golden_match.predicted_index],
    )
    np.testing.assert_allclose(
        [
            e.rmse_lateral,
            e.rmse_axial,
            e.rmse_volume,
            e.mad_lateral,
            e.mad_axial,
            e.mad_volume,
        ],
        golden["m_rmse_mad"],
        rtol=1e-6,
    )


def test_scores_are_the_official_ones(golden, golden_match):
    s = detection_scores(*golden["m_counts"])
    np.testing.assert_allclose(
        [s.precision, s.recall, s.jaccard, s.f1], golden["m_prjf"], rtol=1e-9
    )
    e = golden["m_rmse_mad"]
    np.testing.assert_allclose(
        [efficiency(s.jaccard, e[0], 0.01), efficiency(s.jaccard, e[1], 0.005)],
        golden["m_eff"],
        rtol=1e-5,
    )


coordinate = st.integers(-8, 8).map(lambda value: 60.0 * value)
rows = st.lists(
    st.tuples(st.integers(0, 2), coordinate, coordinate, coordinate), max_size=12
)


def split(table, dimensions):
    array = np.array(table, float).reshape(-1, 4)
    return array[:, 0].astype(int), array[:, 1 : 1 + dimensions]


@given(truth=rows, predicted=rows, dimensions=st.sampled_from([2, 3]))
def test_equals_the_rule_word_by_word(truth, predicted, dimensions):
    # Positions on a coarse grid: many equal distances, which the row numbers decide.
    frame_t, t = split(truth, dimensions)
    frame_p, p = split(predicted, dimensions)
    found = match(frame_t, t, frame_p, p)
    expected = plain_greedy(frame_t, t, frame_p, p, 250.0, 500.0)
    assert as_pairs(found) == expected


@given(seed=st.integers(0, 2**32 - 1))
def test_swapping_the_sets_swaps_the_pairs(seed):
    rng = np.random.default_rng(seed)
    frame_t, frame_p = rng.integers(0, 3, 40), rng.integers(0, 3, 33)
    t, p = rng.uniform(-900, 900, (40, 3)), rng.uniform(-900, 900, (33, 3))
    there = as_pairs(match(frame_t, t, frame_p, p))
    back = as_pairs(match(frame_p, p, frame_t, t))
    assert there == [(i, j) for j, i in back]
    assert as_pairs(match(frame_t, t + 5e4, frame_p, p + 5e4)) == there


@given(seed=st.integers(0, 2**32 - 1))
def test_a_set_matches_itself(seed):
    rng = np.random.default_rng(seed)
    frame, t = rng.integers(0, 3, 50), rng.uniform(-900, 900, (50, 3))
    order = rng.permutation(50)
    found = match(frame, t, frame[order], t[order])
    np.testing.assert_array_equal(order[found.predicted_index], found.truth_index)
    assert found.true_positives == 50


@pytest.mark.parametrize(
    ("delta", "paired"),
    [
        pytest.param((150.0, 200.0, 0.0), True, id="at the lateral limit"),
        pytest.param((150.1, 200.0, 0.0), False, id="beyond the lateral limit"),
        pytest.param((-150.0, -200.0, -500.0), True, id="at both limits"),
        pytest.param((0.0, 0.0, 500.1), False, id="beyond the axial limit"),
    ],
)
def test_limits_are_inclusive(delta, paired):
    found = match([4], [[0.0, 0.0, 0.0]], [4], [delta])
    assert found.true_positives == int(paired)


def test_another_frame_is_another_world():
    found = match([4], [[0.0, 0.0]], [5], [[0.0, 0.0]])
    assert (found.false_positives, found.false_negatives) == (1, 1)


def test_the_closest_pair_goes_first_even_if_it_costs_another():
    # 0 -- 100 -- 180 -- 300: the pair of 80 leaves both others alone.
    found = match(
        [0, 0], [[0.0, 0.0], [180.0, 0.0]], [0, 0], [[100.0, 0.0], [380.0, 0.0]]
    )
    assert as_pairs(found) == [(1, 0)]


def test_positions_that_are_not_finite_stay_alone():
    nan, inf = float("nan"), float("inf")
    found = match([0, 0, 0], [[nan, 0], [inf, 0], [5, 5]], [0, 0], [[5, 5], [0, -inf]])
    assert as_pairs(found) == [(2, 0)]
    assert (found.n_truth, found.n_predicted) == (3, 2)


@pytest.mark.parametrize("sizes", [(0, 0), (3, 0), (0, 2)])
def test_empty_sets(sizes):
    n, m = sizes
    found = match(
        np.zeros(n, int), np.zeros((n, 3)), np.zeros(m, int), np.zeros((m, 3))
    )
    assert (found.true_positives, found.false_positives, found.false_negatives) == (
        0,
        m,
        n,
    )


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [
        pytest.param(([0], [[0, 0]], [0], [[0, 0, 0]]), {}, id="2D with 3D"),
        pytest.param(([0], [[0]], [0], [[0]]), {}, id="1D"),
        pytest.param(([0, 1], [[0, 0]], [0], [[0, 0]]), {}, id="frames missing"),
        pytest.param(([0], [[0, 0]], [0], [[0, 0]]), {"lateral_nm": 0}, id="limit 0"),
        pytest.param(
            ([0], [[0, 0]], [0], [[0, 0]]), {"lateral_nm": np.inf}, id="no limit"
        ),
        pytest.param(([0], [[0, 0]], [0], [[0, 0]]), {"axial_nm": np.nan}, id="nan"),
        pytest.param(
            ([0] * 2, [[0, 0], [1e18, 1e18]], [0], [[0, 0]]), {}, id="absurd positions"
        ),
    ],
)
def test_unusable_input_is_refused(arguments, limits):
    with pytest.raises(InputError, match="matching"):
        match(*arguments, **limits)


def test_many_emitters_are_no_burden():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 500, 100_000)
    t = rng.uniform(0, 2e5, (100_000, 3))
    t[:, 2] = 0
    p = t + rng.uniform(-1, 1, t.shape)
    order = rng.permutation(100_000)
    found = match(frame, t, frame[order], p[order])
    assert found.true_positives == 100_000
    same = order[found.predicted_index] == found.truth_index
    assert same.mean() > 0.999


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_some_frames_at_a_time_give_the_pairs_of_all(seed: int, together: int) -> None:
    rng = np.random.default_rng(seed)
    n, m, frames = rng.integers(0, 120, 3)
    sets = [
        # Many equal distances, frames in any order, frames without truth.
        (rng.integers(low, frames + 3, size), rng.integers(0, 9, (size, 3)) * 100.0)
        for size, low in ((n, 0), (m, -2))
    ]
    sets[0][1][: n // 20] = np.nan
    whole = match(*sets[0], *sets[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_TOGETHER", together)
        parts = match(*sets[0], *sets[1])
    np.testing.assert_array_equal(parts.truth_index, whole.truth_index)
    np.testing.assert_array_equal(parts.predicted_index, whole.predicted_index)
    assert (parts.n_truth, parts.n_predicted) == (n, m)
