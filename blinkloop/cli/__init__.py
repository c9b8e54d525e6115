"""The command line: the one place that knows all rooms, and imports them at the call.

Each verb is a module of this package that exports a click command named `command`;
the table of verbs is in `blinkloop.cli._frame`.
"""

from __future__ import annotations

from blinkloop.cli._frame import main

__all__ = ["main"]
