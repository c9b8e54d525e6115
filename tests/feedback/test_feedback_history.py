"""The course of a run in bounded memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from blinkloop.runtime.feedback.history import History

KINDS = {"frame": "first", "mean": "mean", "top": "max", "state": "last"}


@given(frames=st.integers(0, 300), rows=st.sampled_from([2, 4, 16]))
def test_rows_stand_for_all_frames(frames: int, rows: int) -> None:
    history = History(KINDS, rows)
    values = np.random.default_rng(frames).normal(size=frames)
    for number, value in enumerate(values):
        history.add((number, value, value, value))
    n = history.frames_per_row
    found = history.columns()
    assert len(found["frame"]) == -(-frames // n) <= rows + 1
    assert frames < (rows + 1) * n
    parts = [values[i : i + n] for i in range(0, frames, n)]
    np.testing.assert_array_equal(found["frame"], np.arange(0, frames, n))
    np.testing.assert_allclose(found["mean"], [p.mean() for p in parts])
    np.testing.assert_array_equal(found["top"], [p.max() for p in parts])
    np.testing.assert_array_equal(found["state"], [p[-1] for p in parts])


def test_nan_counts_in_neither_mean_nor_maximum() -> None:
    history = History(KINDS, 2)
    for number, value in enumerate((np.nan, 3.0, np.nan, np.nan)):
        history.add((number, value, value, value))
    found = history.columns()
    assert history.frames_per_row == 2
    np.testing.assert_array_equal(found["mean"], [3.0, np.nan])
    np.testing.assert_array_equal(found["top"], [3.0, np.nan])
    np.testing.assert_array_equal(found["state"], [3.0, np.nan])
