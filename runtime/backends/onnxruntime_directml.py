"""The streaming graph on DirectML: any GPU of a Windows machine.

Design notes: DirectML allows neither planned memory nor parallel execution
(https://onnxruntime.ai/docs/execution-providers/DirectML-ExecutionProvider.html).
"""

from __future__ import annotations

import sys
from typing import Any

from blinkloop.runtime.backends.onnxruntime_files import provider_library_missing
from blinkloop.runtime.backends.onnxruntime_session import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeDirectMlBackend", "directml_missing"]

_PACKAGE = "onnxruntime-directml"


def directml_missing() -> str:
    """Why DirectML cannot run here; empty when it can. Imports nothing."""
    if sys.platform != "win32":
        return "DirectML is part of Windows, and this is not Windows"
    return provider_library_missing("DirectML.dll", "DirectML", _PACKAGE)


class OnnxRuntimeDirectMlBackend(OnnxRuntimeBackend):
    """Runs a model file on a GPU through DirectML."""

    name = "onnxruntime-directml"
    extra = "gpu"
    provider = "DmlExecutionProvider"
    device = "dml"

    def _remedy(self) -> str:
        return f"install it: pip install {_PACKAGE}"

    def _session_options(self) -> Any:
        options = super()._session_options()
        options.enable_mem_pattern = False
        return options
