"""Micro-Manager through pymmcore-plus: cameras as frame sources, properties as lasers.

Nothing here imports pymmcore-plus; a core is handed in, or made by `open_core`.
"""

from __future__ import annotations

from blinkloop.integrations.micromanager.core import new_core, open_core
from blinkloop.integrations.micromanager.facts import camera_facts, select_camera
from blinkloop.integrations.micromanager.laser import MMLaser
from blinkloop.integrations.micromanager.mda import MdaSource
from blinkloop.integrations.micromanager.numbering import FrameNumbering
from blinkloop.integrations.micromanager.source import MicroManagerSource

__all__ = [
    "FrameNumbering",
    "MMLaser",
    "MdaSource",
    "MicroManagerSource",
    "camera_facts",
    "new_core",
    "open_core",
    "select_camera",
]
