"""Tables of localizations in the formats of other programs."""

from __future__ import annotations

from blinkloop.integrations.formats.table import (
    TABLE_WRITERS,
    TableWriter,
    check_table_path,
    read_table,
    write_table,
)
from blinkloop.runtime.sinks import read_live_store

__all__ = [
    "TABLE_WRITERS",
    "TableWriter",
    "check_table_path",
    "read_live_store",
    "read_table",
    "write_table",
]
