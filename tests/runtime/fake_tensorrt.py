"""A GPU and a TensorRT that are not there: host memory, and ONNX Runtime on it.

What is asked of the device waits in a queue until someone waits for it, as on a real
stream, so that code which reads too early reads old numbers. Memory that was given back
must not be touched, and at the end all must have been given back. An "engine" is the
ONNX file itself; it runs from and to the addresses its context was told.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from blinkloop.cuda_driver import Gpu
from blinkloop.errors import DeviceError

GPU = Gpu("Fake RTX 4090", "8.9", 13000)


class FakeDevice:
    stream = 7

    def __init__(self, gpu: Gpu = GPU) -> None:
        self.gpu = gpu
        self.memory: dict[int, Any] = {}
        self.closed = False
        self.recordable = True
        self.launches = 0
        self._queue: list[Callable[[], None]] = []
        self._recording: list[Callable[[], None]] | None = None

    def activate(self) -> None:
        assert not self.closed

    def allocate(self, nbytes: int) -> int:
        assert self._recording is None, "no allocation while recording"
        # 256 bytes more, so that the address can be aligned as CUDA's are.
        buffer = (ctypes.c_ubyte * (nbytes + 512))()
        address = -(-ctypes.addressof(buffer) // 256) * 256
        # Old bytes look like this; nothing may rely on zeros.
        ctypes.memset(ctypes.addressof(buffer), 0xA5, nbytes + 512)
        self.memory[address] = (buffer, nbytes)
        return address

    def release(self, address: int) -> None:
        assert not self._queue, "memory given back while it may be in use"
        del self.memory[address]

    def allocate_host(self, nbytes: int) -> np.ndarray:
        memory = np.full(nbytes, 0xA5, np.uint8)
        self.memory[memory.ctypes.data] = (memory, nbytes)
        return memory

    def release_host(self, memory: np.ndarray) -> None:
        self.release(memory.ctypes.data)

    def check(self, address: int, nbytes: int) -> None:
        inside = any(
            start <= address and address + nbytes <= start + size
            for start, (_, size) in self.memory.items()
        )
        assert inside, "an address outside of all memory"

    def enqueue(self, work: Callable[[], None]) -> None:
        (self._queue if self._recording is None else self._recording).append(work)

    def upload(self, address: int, memory: np.ndarray) -> None:
        self.check(address, memory.nbytes)
        self.enqueue(
            lambda: ctypes.memmove(address, memory.ctypes.data, memory.nbytes) and None
        )

    def download(self, memory: np.ndarray, address: int) -> None:
        self.check(address, memory.nbytes)
        self.enqueue(
            lambda: ctypes.memmove(memory.ctypes.data, address, memory.nbytes) and None
        )

    def clear(self, address: int, nbytes: int) -> None:
        self.check(address, nbytes)
        self.enqueue(lambda: ctypes.memset(address, 0, nbytes) and None)

    def wait(self) -> None:
        queue, self._queue = self._queue, []
        for work in queue:
            work()

    def record(self, work: Callable[[], None]) -> Any:
        self._recording = recorded = []
        try:
            work()
        except DeviceError:
            return None
        finally:
            self._recording = None
        return recorded if self.recordable else None

    def launch(self, graph: Any) -> None:
        assert graph, "an empty or discarded graph"
        self.launches += 1
        self._queue += graph

    def discard(self, graph: Any) -> None:
        graph.clear()

    def close(self) -> None:
        assert not self.closed
        assert self.memory == {}, f"{len(self.memory)} pieces of memory were kept"
        self.closed = True


class FakeClassicContext:
    def __init__(self, module: FakeTensorRt, engine: FakeEngine) -> None:
        self._module, self._engine = module, engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch = 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return len(shape) == len(self._engine.get_tensor_shape(name))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address % 256 == 0 and address > 0

    def infer_shapes(self) -> list[str]:
        return [n for n in self._engine.inputs if n not in self._shapes]

    def update_device_memory_size_for_shapes(self) -> int:
        return 1000 * self._shapes["frames"][0]

    def set_device_memory(self, address: int, nbytes: int) -> None:
        assert nbytes >= self.update_device_memory_size_for_shapes()
        self._scratch = address

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == FakeDevice.stream
        if self._module.fails:
            self._module.logger.log(1, "the launch\nfailed")
            return False
        missing = self._engine.names - set(self._addresses)
        assert not missing, missing
        addresses, shapes = dict(self._addresses), dict(self._shapes)
        # As they are now: a recorded graph keeps the addresses it was recorded with.
        scratch = self._scratch, 1000 * shapes["frames"][0]
        self._module.device.enqueue(lambda: self._run(addresses, shapes, scratch))
        return True

    def _run(
        self,
        addresses: dict[str, int],
        shapes: dict[str, Any],
        scratch: tuple[int, int],
    ) -> None:
        device = self._module.device
        device.check(*scratch)
        feed = {}
        for name in self._engine.inputs:
            view = device_array(device, addresses[name], shapes[name], np.float32)
            feed[name] = view.copy()
        names = list(self._engine.outputs)
        for name, value in zip(
            names, self._engine.session.run(names, feed), strict=True
        ):
            place = device_array(device, addresses[name], value.shape, value.dtype)
            place[...] = value


class FakeContext(FakeClassicContext):
    def is_stream_capturable(self, stream: int) -> bool:
        return self._module.capturable


def device_array(
    device: FakeDevice, address: int, shape: tuple[int, ...], dtype: Any
) -> np.ndarray:
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    device.check(address, nbytes)
    buffer = (ctypes.c_ubyte * nbytes).from_address(address)
    return np.ctypeslib.as_array(buffer).view(dtype).reshape(shape)


class FakeEngine:
    def __init__(self, module: FakeTensorRt, content: bytes) -> None:
        self._module = module
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {p.name: p for p in self.session.get_inputs()}
        self.outputs = {p.name: p for p in self.session.get_outputs()}
        self.names = set(self.inputs) | set(self.outputs)
        self._order = [*self.inputs, *self.outputs]

    @property
    def num_io_tensors(self) -> int:
        return len(self._order)

    def get_tensor_name(self, index: int) -> str:
        return self._order[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name in self.inputs else "out"

    def get_tensor_dtype(self, name: str) -> Any:
        return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[
            (self.inputs | self.outputs)[name].type
        ]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = (self.inputs | self.outputs)[name].shape
        return tuple(n if isinstance(n, int) else -1 for n in shape)

    def create_execution_context(self, how: Any) -> FakeClassicContext:
        wanted = FakeRuntimeConfig if self._module.rtx else str
        assert isinstance(how, wanted)
        made = FakeContext if self._module.rtx else FakeClassicContext
        return made(self._module, self)

    def create_runtime_config(self) -> FakeRuntimeConfig:
        return FakeRuntimeConfig(self._module)


class FakeRuntimeConfig:
    def __init__(self, module: FakeTensorRt) -> None:
        self._module = module
        self.dynamic_shapes_kernel_specialization_strategy = ""

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        assert strategy == "user managed"

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache(self._module)

    def set_runtime_cache(self, cache: Any) -> bool:
        return True


class FakeRuntimeCache:
    def __init__(self, module: FakeTensorRt) -> None:
        self._module = module

    def deserialize(self, content: bytes) -> bool:
        self._module.kernels_read = content
        return True

    def serialize(self) -> bytes:
        return b"compiled kernels"


class FakeTensorRt:
    """Stands for the module `tensorrt_rtx`, or for `tensorrt`."""

    __version__ = "1.7.1.116"

    class ILogger:
        ERROR = 1

        def __init__(self) -> None:
            pass

    class TensorIOMode:
        INPUT = "in"

    class ExecutionContextAllocationStrategy:
        USER_MANAGED = "user managed"

    class _Specialization:
        EAGER = "eager"

    def __init__(self, device: FakeDevice, *, rtx: bool = True) -> None:
        self.__name__ = "tensorrt_rtx" if rtx else "tensorrt"
        self.device, self.rtx = device, rtx
        self.capturable, self.fails = True, False
        self.kernels_read: bytes | None = None
        self.logger: Any = None
        if rtx:
            self.DynamicShapesKernelSpecializationStrategy = self._Specialization

    @staticmethod
    def nptype(dtype: Any) -> Any:
        return dtype

    def Runtime(self, logger: Any) -> FakeTensorRt:
        self.logger = logger
        return self

    def deserialize_cuda_engine(self, content: bytes) -> FakeEngine | None:
        try:
            return FakeEngine(self, content)
        except Exception as error:
            self.logger.log(1, f"no engine:\n{error}")
            return None
