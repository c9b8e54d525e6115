"""The streaming graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.backends.onnxruntime_session import OnnxRuntimeBackend
from blinkloop.runtime.backends.slices import step_in_slices
from blinkloop.runtime.protocols import BackendOutput

__all__ = ["OnnxRuntimeCpuBackend"]


class OnnxRuntimeCpuBackend(OnnxRuntimeBackend):
    """Runs a model file on the CPU: the reference the other backends are held to."""

    name = "onnxruntime-cpu"
    extra = "cpu"
    provider = "CPUExecutionProvider"
    device = "cpu"
    for_cpu = True

    def step(
        self, frames: npt.NDArray[np.float32], *, segment_start: bool
    ) -> BackendOutput:
        """Run the graph on T frames; see `Backend.step`."""
        return step_in_slices(self._step, frames, segment_start)

    def _session_options(self) -> Any:
        options = super()._session_options()
        # A plan takes its whole block beside what the first call took already: at 512 x
        # 512 px 267 MB instead of 216, for the same time of a call.
        options.enable_mem_pattern = False
        return options

    def _step(
        self, frames: npt.NDArray[np.float32], segment_start: bool
    ) -> BackendOutput:
        return super().step(frames, segment_start=segment_start)
