"""Heaps of the C library, counted by itself."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from blinkloop.runtime.heaps import share_heaps

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


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not share_heaps()
