"""Pycro-Manager's Python backend: a core and an engine in this process."""

from __future__ import annotations

import importlib
import logging
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

__all__ = ["start_python_backend", "stop_python_backend"]

_ENGINE = "pycromanager.acquisition.acq_eng_py.internal.engine"
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
    engine: Any = importlib.import_module(_ENGINE)
    # One that was shut down stays behind, and a new one would not replace it.
    with suppress(AttributeError):
        del engine.Engine.singleton
    # It prints a page for every error that it raises as well.
    engine.traceback = _Quiet()
    try:
        module.start_headless(
            folder, str(path.resolve()), python_backend=True, buffer_size_mb=_RING_MB
        )
    except Exception as error:
        raise configuration_error(error, path, folder) from error
    return CamelCore(module.Core())


def stop_python_backend() -> None:
    """Unload its devices and end its threads."""
    require("pycromanager", "Pycro-Manager", "pycromanager").stop_headless()


class _Quiet:
    """In place of the module `traceback` in the engine."""

    @staticmethod
    def print_exc() -> None:
        _log.debug("Pycro-Manager's engine", exc_info=True)

    @staticmethod
    def format_exc() -> str:
        import traceback

        return traceback.format_exc()
