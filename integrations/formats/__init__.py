"""Tables of localizations in the formats of other programs."""

from __future__ import annotations

from blinkloop.integrations.formats.table import (
    TABLE_WRITERS,
    TableWriter,
    check_table_path,
    has_table_ending,
    read_table,
    table_endings,
    write_table,
)
from blinkloop.runtime.sinks import read_live_store

__all__ = [
    "TABLE_WRITERS",
    "TableWriter",
    "check_table_path",
    "has_table_ending",
    "read_live_store",
    "read_table",
    "table_endings",
    "write_table",
]
