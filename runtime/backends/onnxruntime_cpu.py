"""The streaming graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from blinkloop.runtime.backends.onnxruntime_session import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeCpuBackend"]


class OnnxRuntimeCpuBackend(OnnxRuntimeBackend):
    """Runs a model file on the CPU: the reference the other backends are held to."""

    name = "onnxruntime-cpu"
    extra = "cpu"
    provider = "CPUExecutionProvider"
    device = "cpu"
