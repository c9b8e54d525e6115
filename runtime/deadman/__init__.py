"""A small process that makes the laser safe when the run's own process cannot.

    run: LaserGuard -> DeadMan --pipe--> python -m blinkloop.runtime.deadman -> laser

See docs/feedback.md.
"""

from __future__ import annotations

from blinkloop.runtime.deadman.client import DeadMan
from blinkloop.runtime.deadman.plan import DeadManPlan, SafeAction

__all__ = ["DeadMan", "DeadManPlan", "SafeAction"]
