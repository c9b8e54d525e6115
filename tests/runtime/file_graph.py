"""The reference on the graph of the file, which doubles of other backends run, too."""

from __future__ import annotations

from blinkloop.runtime.backends.onnxruntime_cpu import OnnxRuntimeCpuBackend


class FileGraph(OnnxRuntimeCpuBackend):
    """Not rewritten for the CPU: rounds as a double of a device does."""

    for_cpu = False
