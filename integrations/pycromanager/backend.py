"""Pycro-Manager's Python backend: a core and an engine in this process.

Design notes: where Pycro-Manager 1.0.2 waits by asking again and again without a pause,
which takes a processor from the analysis, its waiting is replaced by one that sleeps:
for images of the Python engine, and for messages of the bridge.
"""

from __future__ import annotations

import importlib
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from blinkloop.extras import require
from blinkloop.integrations.micromanager.core import (
    configuration_error,
    find_configuration,
    new_core,
)
from blinkloop.integrations.pycromanager.core import CamelCore

__all__ = ["start_python_backend", "stop_python_backend", "wait_without_spinning"]

_BRIDGE = "pycromanager.acquisition.java_backend_acquisitions"
_ENGINE = "pycromanager.acquisition.acq_eng_py.internal.engine"
_POLL_S = 0.0005
_RING_MB = 64  # until the camera is known, which sizes it in frames

_log = logging.getLogger(__name__)


def start_python_backend(
    config: str | Path | None = None, *, adapter_path: str | Path | None = None
) -> CamelCore:
    """Load a configuration into a core of this process, with Pycro-Manager's engine.

    Parameters
    ----------
    config, adapter_path
        As of `blinkloop.integrations.micromanager.open_core`.

    Raises
    ------
    MissingExtraError
        Pycro-Manager or pymmcore-plus is not installed.
    InputError
        No device adapters, no such file, adapters of another device interface, a
        configuration that does not load.
    """
    module = require("pycromanager", "Pycro-Manager", "pycromanager")
    path, folder = find_configuration(
        new_core(adapter_path, python_devices=False), config, adapter_path
    )
    engine = _forget_engine()
    # It prints a page for every error that it raises as well.
    engine.traceback = _Quiet()
    try:
        module.start_headless(
            folder, str(path.resolve()), python_backend=True, buffer_size_mb=_RING_MB
        )
    except Exception as error:
        raise configuration_error(error, path, folder) from error
    core = module.Core()
    pop = core.pop_next_tagged_image

    def pop_or_sleep() -> Any:
        if core.getRemainingImageCount() == 0:
            time.sleep(_POLL_S)
        return pop()

    core.pop_next_tagged_image = pop_or_sleep
    return CamelCore(core)


def wait_without_spinning() -> None:
    """Let acquisitions over a bridge sleep until a message comes. Harmless twice."""
    bridge: Any = importlib.import_module(_BRIDGE)
    if not hasattr(bridge.PullSocket, "sleeps"):
        bridge.PullSocket = _sleeping(bridge.PullSocket)


def _sleeping(base: Any) -> Any:
    class SleepingSocket(base):  # type: ignore[misc]
        sleeps = True

        def receive(
            self, timeout: float | None = None, *more: Any, **named: Any
        ) -> Any:
            if timeout and not self._socket.poll(timeout):
                return None
            return super().receive(None, *more, **named)

    return SleepingSocket


def stop_python_backend() -> None:
    """Unload its devices and end its threads."""
    require("pycromanager", "Pycro-Manager", "pycromanager").stop_headless()
    _forget_engine()


def _forget_engine() -> Any:
    """The engine's module; one that was shut down must not be in a new one's place."""
    engine: Any = importlib.import_module(_ENGINE)
    with suppress(AttributeError):
        del engine.Engine.singleton
    return engine


class _Quiet:
    """In place of the module `traceback` in the engine."""

    @staticmethod
    def print_exc() -> None:
        _log.debug("Pycro-Manager's engine", exc_info=True)

    @staticmethod
    def format_exc() -> str:
        import traceback

        return traceback.format_exc()
