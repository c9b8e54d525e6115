"""Slices that are missing from a stack, or in it twice, are named."""

from __future__ import annotations

import numpy as np
import pytest
from bead_samples import Lobes, astigmatic, stack_of

from blinkloop.training.calibration.bead_records import BeadSettings, BeadStack
from blinkloop.training.calibration.bead_steps import uneven_steps
from blinkloop.training.calibration.beads import calibrate_beads

TWO = [(20.3, 22.7), (46.4, 23.6)]
LOST = "between the slices 12 and 13 of stack the beads change as over two steps"
COPY = "slice 13 of stack is a copy of the one before"


def stack(**facts):
    return stack_of(
        astigmatic(), TWO, np.random.default_rng(9), shape=(47, 68), **facts
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda made: np.delete(made, 13, 0), LOST),
        (lambda made: np.insert(made, 13, made[12], 0), COPY),
    ],
    ids=["lost", "copied"],
)
@pytest.mark.parametrize("falling", [False, True], ids=["up", "down"])
def test_a_fault_of_the_stack_is_named(spoil, said, falling):
    made = stack()
    pixels = spoil(made[::-1] if falling else made)
    found = calibrate_beads(
        [BeadStack(pixels)], BeadSettings(50.0, 100.0, falling=falling)
    )
    assert [line for line in found.warnings if line.startswith(said)]


@pytest.mark.parametrize(
    ("psf", "facts"),
    [
        (astigmatic(), {}),
        (astigmatic(), {"photons": 3000.0}),
        (astigmatic(), {"dz_nm": 10.0, "slices": 90}),
        (astigmatic(), {"dz_nm": 200.0, "slices": 9}),
        (astigmatic(), {"drift_px": (2.0, -1.0)}),
        (Lobes("helix"), {}),
        (Lobes("tetrapod"), {}),
    ],
    ids=["even", "dim", "fine", "coarse", "drift", "helix", "tetrapod"],
)
def test_even_steps_are_not_blamed(psf, facts):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        made = stack_of(psf, [(24.2, 22.9)], rng, shape=(45, 47), offset_adu=0, **facts)
        assert uneven_steps([made - 20.0]) == []
