"""Rows that a long benchmark keeps in a file, so that a run cut short goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["KeptRows"]


class KeptRows:
    """Rows of a file.

    Parameters
    ----------
    path
        JSON lines, one per row; None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        there = path is not None and path.exists()
        lines = path.read_text().splitlines() if path is not None and there else []
        self._rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last row that has all of these values; None: it has to be made."""
        wanted = key.items()
        return next((r for r in reversed(self._rows) if wanted <= r.items()), None)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row at once."""
        self._rows.append(row)
        if self._path is not None:
            with self._path.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
