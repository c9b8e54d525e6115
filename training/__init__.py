"""Makes a network for a microscope: simulate, train, validate.

Public names are imported at the call, so that reading a recipe does not load torch.
"""

from __future__ import annotations

from blinkloop.training.recipe import (
    LossSettings,
    Recipe,
    SampleSettings,
    ScheduleSettings,
)

__all__ = ["LossSettings", "Recipe", "SampleSettings", "ScheduleSettings"]
