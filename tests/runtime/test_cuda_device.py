"""CUDA through ctypes, against a driver library written here."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import blinkloop.cuda_driver as cuda_driver
import blinkloop.runtime.backends.tensorrt_cuda as tensorrt_cuda
from blinkloop.cuda_driver import Gpu, find_gpus, gpu_missing
from blinkloop.errors import DeviceError
from blinkloop.runtime.backends.tensorrt_cuda import _SIGNATURES, CudaDevice


class FakeDriver:
    """Answers as CUDA does for one GPU; `failing` maps function -> error code."""

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.failing: dict[str, int] = {}
        self.calls: list[str] = []
        self.kept: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def function(*arguments: Any) -> int:
            self.calls.append(name)
            if name in self.failing:
                return self.failing[name]
            answer = getattr(self, f"_{name}", None)
            # As many arguments as the real one takes.
            if name in _SIGNATURES:
                assert len(arguments) == len(_SIGNATURES[name]), name
            if answer is not None:
                answer(*arguments)
            elif name in ("cuStreamCreate", "cuDevicePrimaryCtxRetain"):
                arguments[0]._obj.value = 4242
            elif name in ("cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
                arguments[-1 if "End" in name else 0]._obj.value = 99
            return 0

        return function

    def _cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = self.gpus

    def _cuDriverGetVersion(self, version: Any) -> None:
        version._obj.value = 13000

    def _cuDeviceGetName(self, text: Any, size: int, device: Any) -> None:
        text.value = b"RTX 4090"

    def _cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> None:
        value._obj.value = {75: 8, 76: 9}[which]

    def _cuGetErrorString(self, status: int, words: Any) -> None:
        words._obj.value = {2: b"out of memory"}.get(status)

    def _memory(self, handle: Any, nbytes: int) -> None:
        buffer = (ctypes.c_ubyte * nbytes)()
        handle._obj.value = ctypes.addressof(buffer)
        self.kept[handle._obj.value] = buffer

    def _cuMemAlloc_v2(self, handle: Any, nbytes: int) -> None:
        self._memory(handle, nbytes)

    def _cuMemHostAlloc(self, handle: Any, nbytes: int, flags: int) -> None:
        self._memory(handle, nbytes)

    def _cuMemFree_v2(self, address: int) -> None:
        del self.kept[address]

    def _cuMemFreeHost(self, address: int) -> None:
        del self.kept[address]

    def _cuMemcpyHtoDAsync_v2(self, to: int, source: int, n: int, stream: int) -> None:
        assert stream == 4242
        ctypes.memmove(to, source, n)

    def _cuMemcpyDtoHAsync_v2(self, to: int, source: int, n: int, stream: int) -> None:
        self._cuMemcpyHtoDAsync_v2(to, source, n, stream)

    def _cuMemsetD8Async(self, at: int, value: int, count: int, stream: int) -> None:
        ctypes.memset(at, value, count)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    # A new memory of the probe: the machine's own answer must stay.
    monkeypatch.setattr(cuda_driver, "_probe", cuda_driver._probe.__wrapped__)
    monkeypatch.setattr(cuda_driver, "driver_library", lambda: fake)
    monkeypatch.setattr(tensorrt_cuda, "driver_library", lambda: fake)
    return fake


def test_what_the_driver_says(driver: FakeDriver) -> None:
    assert gpu_missing() == ""
    assert find_gpus() == (Gpu("RTX 4090", "8.9", 13000),)
    driver.gpus = 2
    assert len(find_gpus()) == 2


@pytest.mark.parametrize(
    ("failing", "gpus", "message"),
    [
        ({}, 0, r"shows no GPU \(CUDA error 0\)"),
        ({"cuInit": 100}, 1, r"shows no GPU \(CUDA error 100\)"),
        ({"cuDeviceGetName": 3}, 1, r"GPU 0 does not answer \(CUDA error 3\)"),
    ],
)
def test_no_gpu(
    driver: FakeDriver, failing: dict[str, int], gpus: int, message: str
) -> None:
    driver.failing, driver.gpus = failing, gpus
    assert find_gpus() == ()
    with pytest.raises(DeviceError, match=message):
        CudaDevice()


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_probe", cuda_driver._probe.__wrapped__)
    monkeypatch.setattr(cuda_driver, "driver_library", lambda: None)
    with pytest.raises(DeviceError, match="has no NVIDIA driver"):
        CudaDevice()


def test_there_and_back(driver: FakeDriver) -> None:
    device = CudaDevice()
    device.activate()
    assert device.gpu.compute_capability == "8.9"
    host, back = device.allocate_host(40), device.allocate_host(40)
    host[...] = np.arange(40)
    address = device.allocate(40)
    device.upload(address, host)
    device.download(back, address)
    device.wait()
    np.testing.assert_array_equal(back, np.arange(40))
    device.clear(address, 40)
    device.download(back, address)
    np.testing.assert_array_equal(back, 0)
    device.release(address)
    for memory in (host, back):
        device.release_host(memory)
    device.close()
    assert driver.kept == {}
    assert driver.calls[-1] == "cuDevicePrimaryCtxRelease_v2"


def test_a_refusal_in_the_driver_s_words(driver: FakeDriver) -> None:
    device = CudaDevice()
    driver.failing = {"cuMemAlloc_v2": 2, "cuStreamSynchronize": 719}
    with pytest.raises(DeviceError, match=r"cuMemAlloc_v2: out of memory \(CUDA err"):
        device.allocate(10)
    with pytest.raises(DeviceError, match=r"unknown error \(CUDA error 719\)"):
        device.wait()


def _refuse() -> None:
    raise DeviceError("not while recording")


def test_recording(driver: FakeDriver) -> None:
    device = CudaDevice()
    graph = device.record(lambda: device.clear(device.allocate(8), 8))
    assert graph == 99
    device.launch(graph)
    device.discard(graph)
    names = [name for name in driver.calls if "Graph" in name or "Capture" in name]
    assert names == [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]
    # What cannot be recorded leaves no open recording behind.
    driver.calls.clear()
    assert device.record(_refuse) is None
    assert driver.calls[-2:] == ["cuStreamEndCapture", "cuGraphDestroy"]
    driver.failing = {"cuStreamEndCapture": 900}
    assert device.record(lambda: None) is None
    driver.failing = {"cuGraphInstantiateWithFlags": 2}
    assert device.record(lambda: None) is None
    assert driver.calls[-1] == "cuGraphDestroy"
