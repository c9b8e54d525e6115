"""Pycro-Manager: acquisitions as frame sources, and its core for `MMLaser`."""

from __future__ import annotations

from blinkloop.integrations.pycromanager.acquiring import PycroCamera, refuse_running
from blinkloop.integrations.pycromanager.backend import (
    start_python_backend,
    stop_python_backend,
)
from blinkloop.integrations.pycromanager.core import DEFAULT_PORT, CamelCore, connect
from blinkloop.integrations.pycromanager.source import PycroSource

__all__ = [
    "DEFAULT_PORT",
    "CamelCore",
    "PycroCamera",
    "PycroSource",
    "connect",
    "refuse_running",
    "start_python_backend",
    "stop_python_backend",
]
