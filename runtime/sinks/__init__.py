"""Keepers of results: memory, and the live store on disk.

`LiveStore` and its reader need the extra "io"; importing this package does not.
"""

from __future__ import annotations

from blinkloop.runtime.sinks.events import EVENT_COLUMNS, EventLog
from blinkloop.runtime.sinks.frame_range import FrameRangeSink
from blinkloop.runtime.sinks.frame_set import FrameSetSink
from blinkloop.runtime.sinks.memory import MemorySink
from blinkloop.runtime.sinks.store_reader import LiveStoreReader, read_live_store
from blinkloop.runtime.sinks.writer import SinkWriter
from blinkloop.runtime.sinks.zarr_store import LiveStore

__all__ = [
    "EVENT_COLUMNS",
    "EventLog",
    "FrameRangeSink",
    "FrameSetSink",
    "LiveStore",
    "LiveStoreReader",
    "MemorySink",
    "SinkWriter",
    "read_live_store",
]
