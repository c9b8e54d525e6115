"""Memory of this process, asked of the operating system, without a package for it."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

__all__ = ["peak_rss_mb"]


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MB (10^6 bytes).

    Sources: `VmHWM` of proc(5); `PeakWorkingSetSize` of GetProcessMemoryInfo (Windows);
    `ru_maxrss` of getrusage(2) elsewhere. On Linux getrusage would count what the
    parent held when it started this process.
    """
    if sys.platform == "win32":
        return _windows_peak_bytes() / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of psapi.h."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        *((f"unused_{index}", ctypes.c_size_t) for index in range(7)),
    )


def _windows_peak_bytes() -> int:
    library = ctypes.WinDLL  # type: ignore[attr-defined,unused-ignore]
    counters = _Counters()
    counters.size = ctypes.sizeof(counters)
    process = library("kernel32")
    process.GetCurrentProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(process.GetCurrentProcess())
    library("psapi").GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.size)
    return int(counters.peak_working_set)
