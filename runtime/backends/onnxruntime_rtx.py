"""The streaming graph on an NVIDIA RTX GPU, through ONNX Runtime's RTX provider.

The provider is a plugin: a package of its own that brings TensorRT for RTX, beside the
ordinary onnxruntime from 1.24 on (https://nvidia.github.io/TensorRT-RTX-EP-ABI/). No
engine file is needed; the provider compiles the graph when it is loaded.

Design notes: never run on a GPU yet. The ordinary onnxruntime has no arrays on CUDA
devices, so the kept features come back to the host between calls. The `tensorrt-rtx`
engines keep them on the device.
"""

from __future__ import annotations

import importlib
from typing import Any

from blinkloop.cuda_driver import gpu_missing
from blinkloop.errors import InputError
from blinkloop.extras import installed
from blinkloop.runtime.backends.contract import one_line
from blinkloop.runtime.backends.onnxruntime_session import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeRtxBackend", "rtx_missing"]

_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx"
_MODULE = "onnxruntime_ep_nv_tensorrt_rtx"


def rtx_missing() -> str:
    """Why the RTX provider cannot run here; empty when it can. Imports nothing."""
    # First the reason that no package can cure.
    reason = gpu_missing()
    if not reason and not installed(_MODULE):
        reason = f"the package {_PACKAGE!r} is not installed: pip install {_PACKAGE}"
    return reason


class OnnxRuntimeRtxBackend(OnnxRuntimeBackend):
    """Runs a model file on an NVIDIA RTX GPU (Ampere and later)."""

    name = "onnxruntime-rtx"
    extra = "cpu"
    provider = "NvTensorRTRTXExecutionProvider"
    device = "cpu"

    def _load(self, content: bytes) -> Any:
        options = self._session_options()
        options.add_provider_for_devices(self._devices(), {})
        return self._ort.InferenceSession(content, options)

    def _devices(self) -> list[Any]:
        """The provider's devices; the plugin is told to ONNX Runtime the first time."""
        try:
            plugin = importlib.import_module(_MODULE)
            name = plugin.get_ep_name()
            if not self._found(name):
                library = plugin.get_library_path()
                self._ort.register_execution_provider_library(name, library)
        except Exception as error:  # of the plugin, its libraries or ONNX Runtime
            raise InputError(
                f"{_PACKAGE} is installed but does not load ({one_line(error)}); "
                f"{self._remedy()}"
            ) from error
        devices = self._found(name)
        if not devices:
            raise InputError(
                f"{self.name} finds no GPU that it can use (Ampere or later, a driver "
                f"for its CUDA); {self._remedy()}"
            )
        return devices

    def _found(self, name: str) -> list[Any]:
        return [d for d in self._ort.get_ep_devices() if d.ep_name == name]

    def _remedy(self) -> str:
        return f"install it: pip install {_PACKAGE}, or use another backend"
