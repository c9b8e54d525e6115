"""ONNX Runtime's RTX provider: all but the GPU, with a double of its plugin.

The double names ONNX Runtime's own CPU provider, so that a real session runs through
the provider's way of being found and loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from file_graph import FileGraph

from blinkloop.errors import InputError
from blinkloop.runtime import Frame
from blinkloop.runtime.backends import onnxruntime_rtx
from blinkloop.runtime.backends.onnxruntime_rtx import (
    OnnxRuntimeRtxBackend,
    rtx_missing,
)
from blinkloop.runtime.camera_maps import make_camera_maps
from blinkloop.runtime.model import ModelFile

pytest.importorskip("onnxruntime")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    double = SimpleNamespace(
        get_ep_name=lambda: "CPUExecutionProvider", get_library_path=lambda: "no.so"
    )
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", double)
    return double


def test_computes_what_the_reference_computes(
    plugin: SimpleNamespace,
    tiny_models: dict[str, ModelFile],
    make_movie: Callable[..., list[Frame]],
) -> None:
    model = tiny_models["full"]
    maps = make_camera_maps(model.card.camera)
    frames = np.stack([f.pixels for f in make_movie(list(range(5)))]).astype(np.float32)
    backend = OnnxRuntimeRtxBackend(model, maps, threads=1)
    reference = FileGraph(model, maps, threads=1)
    for part, start in ((frames[:3], True), (frames[3:], False)):
        got = backend.step(part, segment_start=start)
        expected = reference.step(part, segment_start=start)
        for field in ("detections", "counts", "count_mean", "block_mean"):
            one, other = getattr(got, field), getattr(expected, field)
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert backend.maps(frames).shape[:2] == (5, 10)
    backend.close()


def test_no_device_is_one_line(
    plugin: SimpleNamespace,
    tiny_models: dict[str, ModelFile],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import onnxruntime

    told: list[Any] = []
    plugin.get_ep_name = lambda: "NvTensorRTRTXExecutionProvider"
    monkeypatch.setattr(
        onnxruntime,
        "register_execution_provider_library",
        lambda *names: told.append(names),
    )
    model = tiny_models["full"]
    with pytest.raises(InputError, match="finds no GPU that it can use") as caught:
        OnnxRuntimeRtxBackend(model, make_camera_maps(model.card.camera))
    assert "\n" not in str(caught.value)
    assert told == [("NvTensorRTRTXExecutionProvider", "no.so")]


def test_a_plugin_that_does_not_load_is_one_line(
    plugin: SimpleNamespace, tiny_models: dict[str, ModelFile]
) -> None:
    plugin.get_ep_name = lambda: "NvTensorRTRTXExecutionProvider"
    model = tiny_models["full"]
    message = r"installed but does not load \(.*no\.so"
    with pytest.raises(InputError, match=message) as caught:
        OnnxRuntimeRtxBackend(model, make_camera_maps(model.card.camera))
    assert "\n" not in str(caught.value)


def test_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_rtx, "gpu_missing", lambda: "no GPU here")
    assert rtx_missing() == "no GPU here"
    monkeypatch.setattr(onnxruntime_rtx, "gpu_missing", str)
    monkeypatch.setattr(onnxruntime_rtx, "installed", lambda name: False)
    assert "pip install onnxruntime-ep-nv-tensorrt-rtx" in rtx_missing()
    monkeypatch.setattr(onnxruntime_rtx, "installed", lambda name: True)
    assert rtx_missing() == ""
