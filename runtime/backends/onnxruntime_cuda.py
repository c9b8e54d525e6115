"""The streaming graph on an NVIDIA GPU, through ONNX Runtime's CUDA provider.

Two ways to run it. The ordinary one binds what it is given; the kept features stay on
the device. With `cuda_graph` every address is fixed: frames, features and outputs live
in buffers made once per frame size, so that CUDA can record the whole step and replay
it as one launch. Features then go back and forth between two buffers, and each
direction is a recording of its own.

Options: onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.cuda_driver import gpu_missing
from blinkloop.runtime.backends.contract import STEP_OUTPUTS, new_outputs
from blinkloop.runtime.backends.onnxruntime_files import provider_library_missing
from blinkloop.runtime.backends.onnxruntime_session import OnnxRuntimeBackend
from blinkloop.runtime.camera_maps import CameraMaps
from blinkloop.runtime.model import ModelFile

__all__ = ["OnnxRuntimeCudaBackend", "OnnxRuntimeCudaGraphBackend", "cuda_missing"]

_PACKAGE = "onnxruntime-gpu"


def cuda_missing() -> str:
    """Why the CUDA provider cannot run here; empty when it can. Imports nothing."""
    windows = sys.platform == "win32"
    library = "onnxruntime_providers_cuda" + (".dll" if windows else ".so")
    name = library if windows else "lib" + library
    # First the reason that no package can cure.
    return gpu_missing() or provider_library_missing(name, "CUDA", _PACKAGE)


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """Runs a model file on an NVIDIA GPU."""

    name = "onnxruntime-cuda"
    extra = "gpu"
    provider = "CUDAExecutionProvider"
    device = "cuda"

    def _load(self, content: bytes) -> Any:
        # The CUDA and cuDNN that torch or NVIDIA's wheels brought, wherever they lie.
        preload = getattr(self._ort, "preload_dlls", None)
        if preload is not None:
            with suppress(Exception):  # what is really missing shows in a moment
                preload()
        return super()._load(content)

    def _provider_options(self) -> dict[str, str]:
        return {
            "device_id": "0",
            # TF32 rounds to 10 bits: far outside the tolerances of a float32 model.
            "use_tf32": "0",
            # Measures the convolutions once per size; sizes do not change in a run.
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "cudnn_conv_use_max_workspace": "1",
            # Grows by what is asked for, not in powers of two: another program (the
            # camera's viewer) may need the rest.
            "arena_extend_strategy": "kSameAsRequested",
        }

    def _remedy(self) -> str:
        return (
            f"onnxruntime-gpu 1.31 needs CUDA 13 and cuDNN 9: "
            f'pip install "{_PACKAGE}[cuda,cudnn]"'
        )


@dataclass(slots=True)
class _Buffers:
    """Values at fixed addresses for one frame size."""

    number: int
    frames: Any
    start: Any
    features: tuple[Any, Any]
    outputs: dict[str, Any]
    turn: int = 0


class OnnxRuntimeCudaGraphBackend(OnnxRuntimeCudaBackend):
    """As `OnnxRuntimeCudaBackend`, each step replayed as one CUDA graph."""

    name = "onnxruntime-cuda:graph"

    def __init__(self, model: ModelFile, maps: CameraMaps, **options: Any) -> None:
        self._buffers: dict[tuple[int, ...], _Buffers] = {}
        self._made = 0
        super().__init__(model, maps, **options)

    def set_camera(self, maps: CameraMaps) -> None:
        """Use these maps from the next step on; what was recorded is recorded anew."""
        super().set_camera(maps)
        self._buffers.clear()

    def close(self) -> None:
        """Let go of the buffers too."""
        self._buffers.clear()
        super().close()

    def _provider_options(self) -> dict[str, str]:
        return super()._provider_options() | {"enable_cuda_graph": "1"}

    def _maps_options(self) -> Any:
        return self._graph_options(-1)  # -1: neither recorded nor replayed

    def _graph_options(self, number: int) -> Any:
        options = self._ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(number))
        return options

    def _run(
        self, frames: npt.NDArray[np.float32], features: Any, segment_start: bool
    ) -> list[Any]:
        buffers = self._buffers_for(frames)
        turn = buffers.turn
        # A recording reads from one address; what another frame count kept elsewhere is
        # brought there once. A segment's start reads nothing of it.
        if not segment_start and features is not buffers.features[turn]:
            buffers.features[turn].update_inplace(features.numpy())
        buffers.frames.update_inplace(frames)
        buffers.start.update_inplace(np.array([segment_start], np.float32))
        binding = self._binding
        binding.clear_binding_inputs()
        binding.clear_binding_outputs()
        for name, value in (
            ("frames", buffers.frames),
            ("features_in", buffers.features[turn]),
            ("segment_start", buffers.start),
            ("offset_adu", self._offset),
            ("photons_per_adu", self._gain),
            ("threshold", self._threshold),
        ):
            binding.bind_ortvalue_input(name, value)
        *small, kept = STEP_OUTPUTS
        for name in small:
            binding.bind_ortvalue_output(name, buffers.outputs[name])
        result = buffers.features[1 - turn]
        binding.bind_ortvalue_output(kept, result)
        options = self._graph_options(2 * buffers.number + turn)
        self._session.run_with_iobinding(binding, options)
        buffers.turn = 1 - turn
        # Copies: the next step writes to the same addresses.
        return [*(np.array(buffers.outputs[n].numpy()) for n in small), result]

    def _buffers_for(self, frames: npt.NDArray[np.float32]) -> _Buffers:
        found = self._buffers.get(frames.shape)
        if found is None:
            found = self._buffers[frames.shape] = self._new_buffers(frames)
        return found

    def _new_buffers(self, frames: npt.NDArray[np.float32]) -> _Buffers:
        card = self._card
        rows = card.detection.max_detections
        size = card.architecture.feature_size(*frames.shape[1:])
        kept = np.zeros((2, card.architecture.kept_channels, *size), np.float32)
        self._made += 1
        return _Buffers(
            number=self._made,
            frames=self._value(frames.copy()),
            start=self._value(np.zeros(1, np.float32)),
            features=(self._value(kept), self._value(kept.copy())),
            outputs={
                name: self._value(array)
                for name, array in new_outputs(rows, *frames.shape).items()
            },
        )
