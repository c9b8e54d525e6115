"""The model card of tests: one plausible card, and whatever a test wants different.

Importable as `cards` because pytest puts the folder of `conftest.py` on the path.
"""

from __future__ import annotations

from typing import Any

from blinkloop.schema import ModelCard

__all__ = ["make_card"]

_FACTS: dict[str, Any] = {
    "name": "a model",
    "architecture": {},
    "pixel_size_nm": 100.0,
    "z_range_nm": (-500.0, 500.0),
    "psf": {"kind": "gaussian"},
    "camera": {},
    "scaling": {
        "input_offset_photons": 20.0,
        "input_scale_photons": 60.0,
        "photons_max": 5000.0,
        "z_max_nm": 600.0,
        "background_max": 50.0,
    },
    "training_ranges": {
        "photons": (500.0, 5000.0),
        "background_photons": (5.0, 40.0),
        "density_per_um2": (0.1, 2.0),
        "on_time_frames": (1.0, 5.0),
    },
}


def make_card(**changes: Any) -> ModelCard:
    """The card of tests with some fields changed.

    Parameters
    ----------
    changes
        Fields of `ModelCard`. A dict changes only the keys it has, e.g.
        `scaling={"z_max_nm": 650}`; anything else takes the field's place.
    """
    facts = dict(_FACTS)
    for name, value in changes.items():
        known = facts.get(name)
        merge = isinstance(value, dict) and isinstance(known, dict)
        facts[name] = known | value if merge else value
    return ModelCard.model_validate(facts)
