"""A deserialized engine, and calls of one shape that run it.

Design notes: both modules of TensorRT have one Python API; what only one of them has
(kernels compiled at the first call, kept in a runtime cache) is asked for by name. The
GPU comes in as a `Device`, so that all but the launch is tested without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.cache import cache_folder, cache_key, read_cached, write_cached
from blinkloop.cuda_driver import Gpu
from blinkloop.engine_file import EngineHeader
from blinkloop.errors import DeviceError, InputError
from blinkloop.runtime.backends.contract import Port, check_contract
from blinkloop.runtime.backends.tensorrt_cuda import Device
from blinkloop.runtime.backends.tensorrt_plan import CallPlan
from blinkloop.tensorrt_module import error_logger

__all__ = ["Call", "CallMemory", "LoadedEngine"]

_TYPES = {"float32": "tensor(float)", "int64": "tensor(int64)"}


class LoadedEngine:
    """An engine on the GPU.

    Parameters
    ----------
    trt
        The module, `tensorrt_rtx` or `tensorrt`.
    file, header, engine
        What `read_engine` read.
    gpu
        Where it runs.

    Raises
    ------
    InputError
        TensorRT refuses the engine, or its ports break the contract.
    """

    def __init__(
        self, trt: Any, file: Path, header: EngineHeader, engine: bytes, gpu: Gpu
    ) -> None:
        self._trt = trt
        self.logger = error_logger(trt)
        runtime = trt.Runtime(self.logger)
        loaded = runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise InputError(
                f"{file}: {trt.__name__} {trt.__version__} cannot load this engine "
                f"({self.logger.reason()}); build it again: blinkloop export "
                f"MODEL.onnx --engine {header.kind}"
            )
        # The runtime must outlive its engine, the engine its contexts.
        self._runtime, self._engine = runtime, loaded
        inputs, outputs = self._ports()
        check_contract(file, header.card, inputs, outputs)
        self._cache: Any = None
        self._cache_file = _runtime_cache_file(trt, header, gpu)
        self._kept: bytes | None = None
        self._config = self._runtime_config()

    def context(self) -> Any:
        """A new execution context whose memory the caller provides."""
        if self._config is not None:
            context = self._engine.create_execution_context(self._config)
        else:
            strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
            context = self._engine.create_execution_context(strategy)
        if context is None:
            raise DeviceError(
                f"TensorRT made no execution context ({self.logger.reason()}); if the "
                f"GPU's memory ran out, close other programs"
            )
        return context

    def close(self) -> None:
        """Keep the compiled kernels for the next start, let go of the engine."""
        if self._cache is not None:
            compiled = bytes(self._cache.serialize())
            if compiled != self._kept:
                write_cached(self._cache_file, compiled)
        self._cache = self._config = None
        self._engine = self._runtime = None

    def _runtime_config(self) -> Any:
        """Settings of TensorRT for RTX; None for the other module."""
        trt = self._trt
        if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
            return None
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(
            trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        # Compiled at the first call of a shape and not beside the running camera.
        config.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._cache = config.create_runtime_cache()
        self._kept = read_cached(self._cache_file)
        if self._kept is not None:
            self._cache.deserialize(self._kept)  # refuses what is not of this machine
        config.set_runtime_cache(self._cache)
        return config

    def _ports(self) -> tuple[list[Port], list[Port]]:
        engine, trt = self._engine, self._trt
        inputs: list[Port] = []
        outputs: list[Port] = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            kind = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
            shape = tuple(
                int(n) if n >= 0 else None for n in engine.get_tensor_shape(name)
            )
            ports = (
                inputs
                if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
                else outputs
            )
            ports.append(Port(name, _TYPES.get(kind, kind), shape))
        return inputs, outputs


def _runtime_cache_file(trt: Any, header: EngineHeader, gpu: Gpu) -> Path:
    key = cache_key(
        content="kernels",
        kind=header.kind,
        engine_sha256=header.engine_sha256,
        version=str(trt.__version__),
        gpu={
            "name": gpu.name,
            "compute_capability": gpu.compute_capability,
            "driver": gpu.driver,
        },
    )
    return cache_folder() / "kernels" / f"{key}.bin"


class CallMemory:
    """Buffers of calls with one number of frames, on the host and on the device."""

    def __init__(self, device: Device, plan: CallPlan) -> None:
        self._device = device
        self.plan = plan
        self.host_up = device.allocate_host(plan.upload.nbytes)
        self.host_down = device.allocate_host(plan.download.nbytes)
        self.inputs = plan.upload.views(self.host_up)
        self.outputs = plan.download.views(self.host_down)
        self.up = device.allocate(plan.upload.nbytes)
        self.down = device.allocate(plan.download.nbytes)
        self.maps = device.allocate(int(np.prod(plan.maps)) * 4)

    def addresses(self) -> dict[str, int]:
        """Where the engine reads and writes, by tensor."""
        plan = self.plan
        places = {n: self.up + s.offset for n, s in plan.upload.slots.items()}
        places |= {n: self.down + s.offset for n, s in plan.download.slots.items()}
        return places | {"maps": self.maps}

    def close(self) -> None:
        """Give all back."""
        self.inputs, self.outputs = {}, {}
        self._device.release_host(self.host_up)
        self._device.release_host(self.host_down)
        for address in (self.up, self.down, self.maps):
            self._device.release(address)


class Call:
    """Calls of one shape from one set of addresses: copy in, run, copy out.

    The first one runs as it is, which lets TensorRT compile and settle; the second is
    recorded as a CUDA graph where that is possible, and all later ones launch it.

    Parameters
    ----------
    engine
        The engine.
    device
        The GPU.
    memory
        Host and device buffers.
    addresses
        Tensor -> address on the device, of all tensors.
    shapes
        Input -> shape.
    """

    def __init__(
        self,
        engine: LoadedEngine,
        device: Device,
        memory: CallMemory,
        addresses: Mapping[str, int],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._logger, self._device, self.memory = engine.logger, device, memory
        self._context = context = engine.context()
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise self._failed(f"refuses the shape {shape} of {name!r}")
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise self._failed(f"refuses the address of {name!r}")
        if missing := context.infer_shapes():
            raise self._failed(f"misses {', '.join(missing)}")
        self.scratch_bytes = int(context.update_device_memory_size_for_shapes())
        self._graph: Any = None
        self._runs = 0
        self._recordable = True

    @property
    def recorded(self) -> bool:
        """Whether calls launch a CUDA graph by now."""
        return self._graph is not None

    def use_scratch(self, address: int, nbytes: int) -> None:
        """Memory for values in between, shared by all calls: they run one by one."""
        self._forget()
        self._context.set_device_memory(address, nbytes)

    def run(self) -> None:
        """Run once, until the results are in host memory.

        Raises
        ------
        DeviceError
            TensorRT or CUDA failed.
        """
        if self._graph is None and self._runs and self._recordable:
            self._graph = self._record()
            self._recordable = self._graph is not None
        if self._graph is not None:
            self._device.launch(self._graph)
        else:
            self._work()
        self._runs += 1
        self._device.wait()

    def close(self) -> None:
        """Let go of the graph and the context."""
        self._forget()
        self._context = None

    def _work(self) -> None:
        memory, device = self.memory, self._device
        device.upload(memory.up, memory.host_up)
        if not self._context.execute_async_v3(device.stream):
            raise self._failed("did not run")
        device.download(memory.host_down, memory.down)

    def _record(self) -> Any:
        # Only TensorRT for RTX can tell; the other one is tried.
        ask = getattr(self._context, "is_stream_capturable", None)
        if ask is not None and not ask(self._device.stream):
            return None
        return self._device.record(self._work)

    def _forget(self) -> None:
        if self._graph is not None:
            self._device.discard(self._graph)
        self._graph, self._runs = None, 0

    def _failed(self, what: str) -> DeviceError:
        return DeviceError(f"the engine {what} ({self._logger.reason()})")
