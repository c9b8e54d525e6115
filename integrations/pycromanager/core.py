"""Pycro-Manager's core with the names of MMCore, and a connection that says why not.

Pycro-Manager spells `get_property` what MMCore calls `getProperty`, in Python and
through its bridge to Java. With the names translated, everything written for MMCore
serves both: `camera_facts`, `MMLaser`.

Design notes: a laser is set by `set_property` from whatever thread `LaserGuard` runs
in, never through acquisition events: their property lists are ignored when events are
merged into one hardware sequence.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

from blinkloop.errors import InputError
from blinkloop.extras import require

__all__ = ["CamelCore", "connect"]

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_VERSIONS = re.compile(r"server version: (\S+).*expected version: (\S+)", re.S)


class CamelCore:
    """A core of Pycro-Manager, called by MMCore's names.

    Parameters
    ----------
    core
        What `pycromanager.Core()` gives, of either backend.
    """

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._core, _HUMP.sub("_", name).lower())

        def call(*arguments: Any) -> Any:
            return _plain(method(*arguments))

        return call


def connect(core: Any = None) -> CamelCore:
    """Connect to the Micro-Manager that runs, or wrap a core that is there.

    Parameters
    ----------
    core
        A `pycromanager.Core()` to use; None = make one.

    Raises
    ------
    MissingExtraError
        Pycro-Manager is not installed.
    InputError
        Micro-Manager does not answer, or its server is of another version.
    """
    if core is not None:
        return CamelCore(core)
    pycromanager = require("pycromanager", "Pycro-Manager", "pycromanager")
    # A bridge that gets no answer prints a traceback of its own from its thread.
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            made = pycromanager.Core()
    except Exception as error:
        raise InputError(
            "Micro-Manager does not answer on port 4827; start it and tick 'Run server "
            "on port 4827' in Tools > Options, or start Pycro-Manager's Python backend "
            "with start_headless(..., python_backend=True)"
        ) from error
    finally:
        threading.excepthook = hook
    for warning in caught:
        found = _VERSIONS.search(str(warning.message))
        if found:
            server, expected = found.groups()
            raise InputError(
                f"Micro-Manager's server has version {server}, the installed "
                f"pycromanager needs {expected}; update whichever is older (a nightly "
                f"build of Micro-Manager, or pip install -U pycromanager)"
            )
    return CamelCore(made)


def _plain(value: Any) -> Any:
    """Java's string vectors and rectangles as tuples; all else as it is."""
    if callable(getattr(value, "size", None)) and callable(getattr(value, "get", None)):
        return tuple(value.get(i) for i in range(value.size()))
    if all(hasattr(value, name) for name in ("x", "y", "width", "height")):
        return value.x, value.y, value.width, value.height
    return value
