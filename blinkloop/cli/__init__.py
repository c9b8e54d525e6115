"""The command line: the one place that knows all rooms, and imports them at the call.

Each verb is a module of this package that exports a click command named `command`;
the table of verbs is in `blinkloop.cli._frame`.
"""

from __future__ import annotations

import os

from blinkloop.cli._frame import main

# Small matrix products of NumPy gain nothing from more threads, and those of OpenBLAS
# spin while they wait: at 100 frames/s that took half the processor from network and
# camera (docs/speed.md). It reads this when NumPy is first imported, at a call.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

__all__ = ["main"]
