"""Pycro-Manager: acquisitions as frame sources, and its core for `MMLaser`."""

from __future__ import annotations

from blinkloop.integrations.pycromanager.core import CamelCore, connect
from blinkloop.integrations.pycromanager.source import PycroSource

__all__ = ["CamelCore", "PycroSource", "connect"]
