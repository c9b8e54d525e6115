"""Cards of the evaluation's tests."""

from __future__ import annotations

import pytest
from evaluation_oracle import make_card

from blinkloop.schema import (
    GaussianPsfSettings,
    ModelCard,
    VariedGaussianPsfSettings,
)


@pytest.fixture(scope="session")
def card() -> ModelCard:
    return make_card(GaussianPsfSettings())


@pytest.fixture(scope="session")
def ranged_card() -> ModelCard:
    varied = {
        "ideal_fraction": 0.2,
        "emccd_fraction": 0.4,
        "read_noise_e": [0.5, 3.0],
        "emccd_read_noise_e": [0.1, 0.4],
        "emccd_spurious_e": [0.0, 0.05],
        "e_per_adu": [0.2, 1.0],
    }
    recipe = {"camera_variation": varied, "sample": {"signal_to_noise_min": 8.0}}
    return make_card(
        VariedGaussianPsfSettings(),
        pixel_size_range_nm=(80.0, 160.0),
        provenance={"recipe": recipe},
    )
