"""Slices at the end of the stack, which only some of the beads reach."""

from __future__ import annotations

import numpy as np
import pytest

from blinkloop.training.calibration.bead_alignment import average
from blinkloop.training.calibration.bead_records import Bead, Found


def drawn(shift_z):
    """(17, 19, 21) light of a spot whose width grows with the height."""
    z = (np.arange(17) - shift_z)[:, None, None]
    y, x = np.mgrid[:19, :21]
    width = 1.5 + 0.08 * z
    spot = np.exp(-((x - 10) ** 2 + (y - 9) ** 2) / (2 * width**2))
    return 100 / width**2 * spot


@pytest.mark.parametrize("seed", range(4))
def test_noise_does_not_grow_where_few_beads_have_data(seed):
    rng = np.random.default_rng(seed)
    shifts = np.concatenate([[0.0], rng.uniform(-1.5, 1.5, 6)])
    beads = []
    for shift in shifts:
        light = drawn(shift) + rng.normal(0, 1, (17, 19, 21))
        beads.append(Bead(Found(0, 10, 9, 1.0), light, np.zeros(17)))
        beads[-1].shift = np.array([shift, 0.0, 0.0])
    model = beads[0].light
    for _ in range(6):
        model, known = average(model, beads)
    error = np.sqrt(((model - drawn(0.0)) ** 2).mean((1, 2)))
    # Noise of the beads that know a slice; twice that for the moves between slices.
    expected = 1 / np.sqrt(len(beads) * known)
    ends = [0, 1, -2, -1]
    np.testing.assert_array_less(error[ends], 2 * expected[ends])
