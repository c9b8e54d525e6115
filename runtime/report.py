"""What a run reports at its end, with the keys of docs/architecture and `--json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import PurePath
from typing import Any

import numpy as np

from blinkloop.runtime.records import Gap

__all__ = ["EndedBy", "RunReport", "jsonable"]


class EndedBy(StrEnum):
    """Why a run ended."""

    SOURCE = "source ended"
    MAX_FRAMES = "max frames"
    DURATION = "duration"
    STOP = "stop"
    INTERRUPT = "interrupted"
    FAILURE = "failure"


def jsonable(value: Any) -> Any:
    """The value in JSON's own types: arrays as lists, paths as text, NaN as null."""
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Gap):
        return {"first": value.first, "count": value.count, "reason": value.reason}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(item) for item in value]
    return str(value)


@dataclass(frozen=True, slots=True)
class RunReport:
    """End of a run. `frames_seen = frames_localized + frames_skipped + frames_lost`.

    Parameters
    ----------
    frames_seen
        Frames the source numbered, and those it says it lost after the last.
    frames_localized, frames_skipped, frames_lost
        With a result; delivered without one (analysis behind or failed); never
        delivered.
    localizations
        Rows that came out.
    tables_full
        Frames whose detection table overflowed: localizations are missing there.
    latency_ms
        p50, p95, p99, max from the hand-over of a frame to its result; NaN if none.
    elapsed_s
        From the start of the source to the end of the analysis.
    files
        {kind: path} of what the sinks wrote.
    gaps
        Every skipped and lost frame, in order.
    failure
        One line that names everything that failed, or None.
    warnings
        One line each; nothing was lost by them.
    ended_by
        Why the run ended.
    ring_frames, ring_high_water
        Room of the hand-over, and the most it held.
    frames_unwritten
        Frames whose results did not reach every sink, because one failed or hung.
    writer_waits, writer_wait_s
        How often, and how long in all, the analysis waited for the sinks.
    extra
        What the observers' `summary()` mappings add (density, laser, ...): merged into
        the top level of the JSON, where it never replaces a key of this class.
    """

    frames_seen: int
    frames_localized: int
    frames_skipped: int
    frames_lost: int
    localizations: int
    tables_full: int
    latency_ms: Mapping[str, float]
    elapsed_s: float
    ended_by: EndedBy
    files: Mapping[str, str] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    failure: str | None = None
    warnings: tuple[str, ...] = ()
    ring_frames: int = 0
    ring_high_water: int = 0
    frames_unwritten: int = 0
    writer_waits: int = 0
    writer_wait_s: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields in JSON's types, `extra` merged in; NaN becomes None."""
        own = {
            name: jsonable(getattr(self, name))
            for name in self.__slots__
            if name != "extra"
        }
        return {**jsonable(self.extra), **own}

    def to_json(self) -> str:
        """One JSON object in one line."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def with_keys(self, **changes: Any) -> RunReport:
        """A copy with entries added to `extra` (accuracy against a truth, say)."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["extra"] = {**self.extra, **changes}
        return RunReport(**values)
