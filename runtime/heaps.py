"""Memory that is free, and who gets it: other threads, or other programs.

The C library of Linux gives threads heaps of their own, up to eight for each core, and
what lies free in one is not there for the others. A live run has a dozen threads, a
few of which need large pieces of memory for a short time; with two heaps its peak is 25
to 35 MB lower at 512 x 512 px (docs/speed.md).
"""

from __future__ import annotations

import ctypes
import platform

__all__ = ["give_back", "share_heaps"]

_M_ARENA_MAX = -8
_HEAPS = 2


def share_heaps() -> bool:
    """Let threads that start from now on share two heaps, until the process ends.

    Returns
    -------
    Whether the C library knows how: glibc does.
    """
    return _of_glibc("mallopt", _M_ARENA_MAX, _HEAPS)


def give_back() -> bool:
    """Give the system what is free now; takes some milliseconds.

    Returns
    -------
    Whether there was something.
    """
    return _of_glibc("malloc_trim", 0)


def _of_glibc(name: str, *words: int) -> bool:
    """Call a function of glibc; whether it is there and says yes."""
    if platform.libc_ver()[0] != "glibc":
        return False
    function = getattr(ctypes.CDLL(None), name, None)
    return function is not None and function(*words) == 1
