"""Backends: what can run the streaming graph on this machine."""

from __future__ import annotations

from blinkloop.runtime.backends.onnxruntime_session import usable_cpus
from blinkloop.runtime.backends.table import (
    BackendRow,
    backend_table,
    create_backend,
    usable_backends,
    variants_of,
)

__all__ = [
    "BackendRow",
    "backend_table",
    "create_backend",
    "usable_backends",
    "usable_cpus",
    "variants_of",
]
