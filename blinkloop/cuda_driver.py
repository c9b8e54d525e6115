"""Is there an NVIDIA GPU: asked of the driver itself, through its C library.

The driver's library (`libcuda.so.1`, `nvcuda.dll`) comes with every NVIDIA driver, so
no package is needed to find out, and none is imported. Functions and their codes: CUDA
driver API, https://docs.nvidia.com/cuda/cuda-driver-api/.

Design notes: knows nothing of models or engines; a probe never raises.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = ["Gpu", "driver_library", "find_gpus", "gpu_missing"]

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of this machine.

    Parameters
    ----------
    name
        As the driver calls it.
    compute_capability
        Of its architecture, e.g. "8.9".
    driver
        Newest CUDA version the driver serves, e.g. 13000 for 13.0.
    """

    name: str
    compute_capability: str
    driver: int


def driver_library() -> Any:
    """The driver's library, loaded; None where there is no NVIDIA driver."""
    windows = sys.platform == "win32"
    name = "nvcuda.dll" if windows else "libcuda.so.1"
    load: Any = getattr(ctypes, "WinDLL", ctypes.CDLL)
    try:
        return load(name)
    except OSError:
        return None


@lru_cache(maxsize=1)
def _probe() -> tuple[tuple[Gpu, ...], str]:
    """GPUs, and why there is none."""
    library = driver_library()
    if library is None:
        return (), "this machine has no NVIDIA driver (its CUDA library is missing)"
    count, version = ctypes.c_int(), ctypes.c_int()
    status = library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return (), f"the NVIDIA driver shows no GPU (CUDA error {status})"
    library.cuDriverGetVersion(ctypes.byref(version))
    gpus = []
    for ordinal in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(_NAME_BYTES)
        failed = (
            library.cuDeviceGet(ctypes.byref(device), ordinal)
            or library.cuDeviceGetName(name, _NAME_BYTES, device)
            or library.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
            or library.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
        )
        if failed:
            return (), f"GPU {ordinal} does not answer (CUDA error {failed})"
        text = name.value.decode(errors="replace")
        gpus.append(Gpu(text, f"{major.value}.{minor.value}", version.value))
    return tuple(gpus), ""


def find_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that CUDA programs see here, in their order; asked once."""
    return _probe()[0]


def gpu_missing() -> str:
    """Why no CUDA program can run here; empty when one can."""
    return _probe()[1]
