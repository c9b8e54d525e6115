"""Pycro-Manager: acquisitions as frame sources, and its core for `MMLaser`."""

from __future__ import annotations

from blinkloop.integrations.pycromanager.acquiring import PycroCamera
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
    "start_python_backend",
    "stop_python_backend",
]
