"""The few CUDA calls a backend needs, of the driver's own library, through ctypes.

No package is needed beside the driver. TensorRT uses the primary context of the device
as well, so addresses and streams are shared. Functions:
https://docs.nvidia.com/cuda/cuda-driver-api/.

Design notes: knows nothing of engines. One device, one stream; every call raises
`DeviceError` with the driver's words when it fails.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blinkloop.cuda_driver import Gpu, driver_library, find_gpus, gpu_missing
from blinkloop.errors import DeviceError

__all__ = ["CudaDevice", "Device"]

_STREAM_NON_BLOCKING = 1
_CAPTURE_THREAD_LOCAL = 1

_OUT = ctypes.POINTER(c_void_p)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (ctypes.POINTER(c_int), c_int),
    "cuDevicePrimaryCtxRetain": (_OUT, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (ctypes.POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (_OUT, c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemsetD8Async": (c_uint64, c_ubyte, c_size_t, c_void_p),
    "cuStreamCreate": (_OUT, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, _OUT),
    "cuGraphInstantiateWithFlags": (_OUT, c_void_p, c_uint64),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGetErrorString": (c_int, ctypes.POINTER(c_char_p)),
}


class Device(Protocol):
    """What a backend asks of a GPU. Addresses are integers; copies are in order."""

    @property
    def gpu(self) -> Gpu: ...
    @property
    def stream(self) -> int: ...
    def activate(self) -> None:
        """Use the device on the calling thread."""
        ...

    def allocate(self, nbytes: int) -> int: ...
    def release(self, address: int) -> None: ...
    def allocate_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Pinned host memory: the GPU copies from and to it by itself."""
        ...

    def release_host(self, memory: npt.NDArray[np.uint8]) -> None: ...
    def upload(self, address: int, memory: npt.NDArray[np.uint8]) -> None: ...
    def download(self, memory: npt.NDArray[np.uint8], address: int) -> None: ...
    def clear(self, address: int, nbytes: int) -> None: ...
    def wait(self) -> None:
        """Until all that was asked for is done."""
        ...

    def record(self, work: Callable[[], None]) -> Any:
        """A graph of what `work` asks for, not done yet; None when it cannot be."""
        ...

    def launch(self, graph: Any) -> None: ...
    def discard(self, graph: Any) -> None: ...
    def close(self) -> None: ...


class CudaDevice:
    """The first NVIDIA GPU; implements `Device`.

    Raises
    ------
    DeviceError
        There is none, or it does not answer.
    """

    def __init__(self) -> None:
        if gpu_missing():
            raise DeviceError(f"no engine can run here: {gpu_missing()}")
        self._library = driver_library()
        for name, arguments in _SIGNATURES.items():
            getattr(self._library, name).argtypes = arguments
        self.gpu = find_gpus()[0]
        self._call("cuInit", 0)
        device = c_int()
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._device = device.value
        self._context = self._made("cuDevicePrimaryCtxRetain", self._device)
        self.activate()
        self.stream = self._made("cuStreamCreate", _STREAM_NON_BLOCKING)

    def activate(self) -> None:
        """Use the device on the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, nbytes: int) -> int:
        """Device memory, aligned to 256 bytes at least."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), max(nbytes, 1))
        return address.value

    def release(self, address: int) -> None:
        """Give device memory back."""
        self._call("cuMemFree_v2", address)

    def allocate_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Pinned host memory, uint8 (nbytes,)."""
        size = max(nbytes, 1)
        pointer = self._made("cuMemHostAlloc", size, 0)
        buffer = (c_ubyte * size).from_address(pointer)
        memory: npt.NDArray[np.uint8] = np.ctypeslib.as_array(buffer)
        return memory

    def release_host(self, memory: npt.NDArray[np.uint8]) -> None:
        """Give pinned memory back; the array must not be used any more."""
        self._call("cuMemFreeHost", memory.ctypes.data)

    def upload(self, address: int, memory: npt.NDArray[np.uint8]) -> None:
        """Copy to the device."""
        source = memory.ctypes.data
        self._call("cuMemcpyHtoDAsync_v2", address, source, memory.nbytes, self.stream)

    def download(self, memory: npt.NDArray[np.uint8], address: int) -> None:
        """Copy from the device."""
        target = memory.ctypes.data
        self._call("cuMemcpyDtoHAsync_v2", target, address, memory.nbytes, self.stream)

    def clear(self, address: int, nbytes: int) -> None:
        """Fill with zeros."""
        self._call("cuMemsetD8Async", address, 0, nbytes, self.stream)

    def wait(self) -> None:
        """Until all that was asked for is done."""
        self._call("cuStreamSynchronize", self.stream)

    def record(self, work: Callable[[], None]) -> Any:
        """A graph of what `work` asks for, not done yet; None when it cannot be."""
        self._call("cuStreamBeginCapture_v2", self.stream, _CAPTURE_THREAD_LOCAL)
        failed = False
        try:
            work()
        except DeviceError:
            failed = True
        graph = c_void_p()
        # Ends the recording also when something in it was not allowed.
        status = self._library.cuStreamEndCapture(self.stream, ctypes.byref(graph))
        if status or not graph.value:
            return None
        try:
            if failed:
                return None
            return self._made("cuGraphInstantiateWithFlags", graph, 0)
        except DeviceError:
            return None
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: Any) -> None:
        """Do what was recorded."""
        self._call("cuGraphLaunch", graph, self.stream)

    def discard(self, graph: Any) -> None:
        """Give a graph back."""
        self._call("cuGraphExecDestroy", graph)

    def close(self) -> None:
        """Let go of the device; memory of others in it stays."""
        self._call("cuStreamDestroy_v2", self.stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _made(self, name: str, *arguments: Any) -> int:
        """Call a function whose first argument returns what it makes."""
        handle = c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            words = c_char_p()
            self._library.cuGetErrorString(status, ctypes.byref(words))
            text = (words.value or b"unknown error").decode(errors="replace")
            raise DeviceError(
                f"the GPU refused {name}: {text} (CUDA error {status}); if its memory "
                f"ran out, use fewer frames per call or a smaller region"
            )
