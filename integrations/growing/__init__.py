"""Movies that another program is still writing, as frame sources."""

from __future__ import annotations

from blinkloop.integrations.growing.reader import GrowingMovie
from blinkloop.integrations.growing.source import GrowingSource, open_growing

__all__ = ["GrowingMovie", "GrowingSource", "open_growing"]
