"""Measures a movie and writes the recipe of a network for it (`blinkloop prefit`)."""

from __future__ import annotations

from blinkloop.training.prefit.frames import choose_runs
from blinkloop.training.prefit.measure import measure
from blinkloop.training.prefit.records import Measured, Range
from blinkloop.training.prefit.to_recipe import make_recipe

__all__ = ["Measured", "Range", "choose_runs", "make_recipe", "measure"]
