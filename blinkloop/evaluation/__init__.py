"""How accurate is a model: simulated movies for its card, and what they tell.

Design notes: knows cards, optics and metrics, but neither networks nor backends; who
localizes a movie is decided outside (`Localize`). Results are plain data, so that one
JSON holds everything and figures need nothing else.
"""

from __future__ import annotations

from blinkloop.evaluation.across import draw_condition, measure_across
from blinkloop.evaluation.bounds import bounds_nm2
from blinkloop.evaluation.condition import Condition, condition_of
from blinkloop.evaluation.isolated import isolated_movie, measure_isolated
from blinkloop.evaluation.measure import (
    Measurement,
    measure,
    pooled_density,
    z_edges,
)
from blinkloop.evaluation.movie import Localize, Localized, simulate_movie
from blinkloop.evaluation.repeats import sigma_over_repeats
from blinkloop.evaluation.scoring import Score, score
from blinkloop.evaluation.settings import EvaluationSettings, IsolatedSettings
from blinkloop.evaluation.summary import card_entry

__all__ = [
    "Condition",
    "EvaluationSettings",
    "IsolatedSettings",
    "Localize",
    "Localized",
    "Measurement",
    "Score",
    "bounds_nm2",
    "card_entry",
    "condition_of",
    "draw_condition",
    "isolated_movie",
    "measure",
    "measure_across",
    "measure_isolated",
    "pooled_density",
    "score",
    "sigma_over_repeats",
    "simulate_movie",
    "z_edges",
]
