"""Feedback of the density of active emitters to the activation laser.

    estimator -> FeedbackController -> LaserGuard -> laser

`FeedbackLoop` joins them to an observer of a run. See docs/feedback.md.
"""

from __future__ import annotations

from blinkloop.runtime.feedback.controller import (
    ControlDecision,
    ControllerSettings,
    FeedbackController,
)
from blinkloop.runtime.feedback.guard import FeedbackMode, LaserGuard
from blinkloop.runtime.feedback.limits import LaserLimits
from blinkloop.runtime.feedback.log import LOG_COLUMNS, CommandLog, LaserCommand
from blinkloop.runtime.feedback.loop import FeedbackLoop
from blinkloop.runtime.feedback.profiles import ACTUATORS, Actuator
from blinkloop.runtime.feedback.settling import mean_of_last_third, settling_frame

__all__ = [
    "ACTUATORS",
    "LOG_COLUMNS",
    "Actuator",
    "CommandLog",
    "ControlDecision",
    "ControllerSettings",
    "FeedbackController",
    "FeedbackLoop",
    "FeedbackMode",
    "LaserCommand",
    "LaserGuard",
    "LaserLimits",
    "mean_of_last_third",
    "settling_frame",
]
