"""Pycro-Manager's core with the names of MMCore, and a connection that says why not.

Pycro-Manager spells `get_property` what MMCore calls `getProperty`, in Python and
through its bridge to Java. With the names translated, everything written for MMCore
serves both: `camera_facts`, `MMLaser`.

Design notes: a laser is set by `set_property` from whatever thread `LaserGuard` runs
in, never through acquisition events: their property lists are ignored when events are
merged into one hardware sequence.
"""

from __future__ import annotations

import queue
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

from blinkloop.errors import DeviceError, InputError
from blinkloop.extras import require

__all__ = ["DEFAULT_PORT", "CamelCore", "connect"]

DEFAULT_PORT = 4827
"""Of the server of Micro-Manager Studio."""

_ANSWER_S = 5.0
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_VERSIONS = re.compile(r"server version: (\S+).*expected version: (\S+)", re.S)


class CamelCore:
    """A core of Pycro-Manager, called by MMCore's names.

    Parameters
    ----------
    core
        What `pycromanager.Core()` gives, of either backend.
    port
        Of the bridge that leads to it; None = it lives in this process. Over a bridge
        every call is made by a thread of its own and has a time limit: the bridge
        itself waits for ever for a Micro-Manager that has gone, and locks up when a
        signal handler calls it within a call.
    """

    def __init__(self, core: Any, *, port: int | None = None) -> None:
        self._core = core
        self.port = port
        self._caller = None if port is None else _PatientCaller(port)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._core, _HUMP.sub("_", name).lower())
        caller = self._caller

        def call(*arguments: Any) -> Any:
            if caller is None:
                return _plain(method(*arguments))
            return caller.call(lambda: _plain(method(*arguments)))

        return call


class _PatientCaller:
    """Calls functions one after the other in a thread of its own.

    `SimpleQueue` and `Event` may be used in a signal handler that interrupts them.
    """

    def __init__(self, port: int, limit_s: float = _ANSWER_S) -> None:
        self._port, self._limit_s = port, limit_s
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._silent = False
        # By its name the command line knows that a thread may hang, and leaves anyway.
        threading.Thread(
            target=self._work, name="blinkloop-bridge", daemon=True
        ).start()

    def call(self, function: Callable[[], Any]) -> Any:
        """What the function returns or raises; `DeviceError` after the time limit."""
        if self._silent:
            raise self._no_answer()
        done = threading.Event()
        results: list[Any] = []
        errors: list[BaseException] = []

        def task() -> None:
            try:
                results.append(function())
            except BaseException as error:
                errors.append(error)
            self._silent = False
            done.set()

        self._tasks.put(task)
        if not done.wait(self._limit_s):
            self._silent = True
            raise self._no_answer()
        if errors:
            raise errors[0]
        return results[0]

    def _work(self) -> None:
        while True:
            self._tasks.get()()

    def _no_answer(self) -> DeviceError:
        return DeviceError(
            f"Micro-Manager on port {self._port} has not answered for "
            f"{self._limit_s:g} s; look whether it still runs"
        )


def connect(core: Any = None, *, port: int = DEFAULT_PORT) -> CamelCore:
    """Connect to the Micro-Manager that runs, or wrap a core that is there.

    Parameters
    ----------
    core
        A `pycromanager.Core()` to use; None = make one.
    port
        Of Micro-Manager's server.

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
            # The default timeout of 1 s is short for a Micro-Manager that is busy.
            made = pycromanager.Core(port=port, timeout=3000)
    except Exception as error:
        raise InputError(
            f"Micro-Manager does not answer on port {port}; start it and tick 'Run "
            f"server on port {DEFAULT_PORT}' in Tools > Options, or give --config to "
            f"use Pycro-Manager's Python backend"
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
    if _in_this_process():
        return CamelCore(made)
    return CamelCore(made, port=port)


def _in_this_process() -> bool:
    """Whether the Python backend is active, which `Core()` then gives."""
    module = require("mmpycorex", "Pycro-Manager", "pycromanager")
    return bool(module.is_pymmcore_active())


def _plain(value: Any) -> Any:
    """Java's string vectors and rectangles as tuples, its enumerations as numbers."""
    if callable(getattr(value, "swig_value", None)):
        return int(value.swig_value())
    if callable(getattr(value, "size", None)) and callable(getattr(value, "get", None)):
        return tuple(value.get(i) for i in range(value.size()))
    if all(hasattr(value, name) for name in ("x", "y", "width", "height")):
        return value.x, value.y, value.width, value.height
    return value
