"""Backends: what can run the streaming graph on this machine."""

from __future__ import annotations

from blinkloop.runtime.backends.table import (
    BackendRow,
    backend_table,
    create_backend,
)

__all__ = ["BackendRow", "backend_table", "create_backend"]
