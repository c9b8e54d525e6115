"""Heaps of the C library, counted by itself."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from blinkloop.runtime.heaps import give_back, share_heaps

_THREADS = """
import ctypes, sys, threading
import numpy as np
from blinkloop.runtime.heaps import share_heaps

if sys.argv[1] == "share":
    assert share_heaps()
together = threading.Barrier(6)

def work():
    together.wait()
    for _ in range(200):  # too large for Python's own pools, too small for pages
        np.empty(9000).fill(1)
    together.wait()

threads = [threading.Thread(target=work) for _ in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[2].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps are glibc's")
def test_threads_share_heaps(tmp_path: Path) -> None:
    heaps = {}
    for how in ("share", "own"):
        info = tmp_path / how
        words = [sys.executable, "-c", _THREADS, how, str(info)]
        subprocess.run(words, check=True, timeout=120)
        heaps[how] = info.read_text().count("<heap ")
    assert heaps["share"] <= 2 < heaps["own"]


_FREED = """
import numpy as np
from blinkloop.runtime.heaps import give_back

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

arrays = [np.ones(8000) for _ in range(1000)]  # 64 kB each
last = np.ones(8000)
del arrays
before = held()
assert give_back()
print(before - held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps are glibc's")
def test_what_is_free_is_given_back() -> None:
    words = [sys.executable, "-c", _FREED]
    said = subprocess.run(words, check=True, timeout=120, capture_output=True)
    assert int(said.stdout) > 50_000


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not share_heaps()
    assert not give_back()
