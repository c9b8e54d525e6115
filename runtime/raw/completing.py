"""What a live run left undone, told from its raw data; two live stores made one.

Design notes: numbers and stores only; whoever fits the frames is somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.records import FrameResult, Gap, Roi
from blinkloop.runtime.sinks.store_reader import LiveStoreReader
from blinkloop.runtime.sinks.zarr_store import LiveStore

__all__ = ["frames_to_fit", "gaps_of", "merge_stores", "runs_with_context"]

Numbers = npt.NDArray[np.int64]
_BLOCK_FRAMES = 4096
_NO_BLOCKS = np.empty((0, 0), np.float32)


def frames_to_fit(live: npt.NDArray[np.void], raw: Numbers) -> Numbers:
    """Frames whose result is missing or was made without a neighbour that is there.

    Parameters
    ----------
    live
        (n,) of `FRAME_DTYPE`, numbers rising: frames with a result.
    raw
        (m,) numbers of the frames in the raw data, rising.

    Returns
    -------
    numpy.ndarray
        Those of `raw` to be fitted, rising.
    """
    numbers, segments = live["index"], live["segment"]
    good = np.ones(len(numbers), bool)
    for step in (-1, 1) if len(numbers) else ():
        beside = numbers + step
        at = np.minimum(np.searchsorted(numbers, beside), len(numbers) - 1)
        used = (numbers[at] == beside) & (segments[at] == segments)
        good &= used | ~np.isin(beside, raw)
    found: Numbers = raw[~np.isin(raw, numbers[good])]
    return found


def runs_with_context(wanted: Numbers, raw: Numbers) -> list[range]:
    """Unbroken runs of the wanted frames and their neighbours, as far as there."""
    around = np.unique(np.concatenate([wanted - 1, wanted, wanted + 1]))
    around = around[np.isin(around, raw)]
    if not len(around):
        return []
    parts = np.split(around, np.flatnonzero(np.diff(around) > 1) + 1)
    return [range(int(part[0]), int(part[-1]) + 1) for part in parts]


def gaps_of(numbers: Numbers, reason: str) -> list[Gap]:
    """Rising frame numbers as gaps."""
    if not len(numbers):
        return []
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return [Gap(int(part[0]), len(part), reason) for part in parts]


def merge_stores(
    parts: Sequence[LiveStoreReader],
    out: LiveStore,
    meta: Mapping[str, Any],
    summary: Mapping[str, Any],
    gaps: Sequence[Gap] = (),
) -> int:
    """Write one store with the frames of all, in order.

    Parameters
    ----------
    parts
        Where several have a frame, the last of them wins.
    out
        Not opened yet.
    meta, summary
        For its `open` and `close`.
    gaps
        Frames without a result.

    Returns
    -------
    int
        Frames in it.
    """
    frames = [part.frames() for part in parts]
    index = np.concatenate([f["index"] for f in frames])
    owner = np.concatenate([np.full(len(f), k) for k, f in enumerate(frames)])
    place = np.concatenate([np.arange(len(f)) for f in frames])
    order = np.lexsort((owner, index))
    # The last of equal numbers.
    order = order[np.append(np.diff(index[order]) > 0, True)[: len(order)]]
    segment = np.cumsum(np.append(0, np.diff(index[order]) > 1))
    out.open(meta)
    for first in range(0, len(order), _BLOCK_FRAMES):
        chosen = order[first : first + _BLOCK_FRAMES]
        results: list[FrameResult] = []
        rows = {
            k: _rows(parts[k], frames[k], place[chosen[owner[chosen] == k]])
            for k in range(len(parts))
        }
        for number, at in enumerate(chosen):
            record = frames[owner[at]][place[at]]
            base, table = rows[int(owner[at])]
            end = int(record["rows_end"]) - base
            results.append(
                FrameResult(
                    index=int(record["index"]),
                    timestamp_s=float(record["timestamp_s"]),
                    roi=Roi(0, 0, 0, 0),
                    segment=int(segment[first + number]),
                    localizations=table[end - int(record["localizations"]) : end],
                    table_full=bool(record["table_full"]),
                    count_mean=float(record["count_mean"]),
                    count_variance=float(record["count_variance"]),
                    block_mean=_NO_BLOCKS,
                )
            )
        out.write(results)
    for gap in gaps:
        out.gap(gap)
    out.close(summary)
    return len(order)


def _rows(
    part: LiveStoreReader, frames: npt.NDArray[np.void], places: npt.NDArray[np.int64]
) -> tuple[int, npt.NDArray[np.void]]:
    """Localizations of a stretch of frames, and the number of the first of them."""
    if not len(places):
        return 0, part.rows(0, 0)
    first, last = frames[places[0]], frames[places[-1]]
    start = int(first["rows_end"] - first["localizations"])
    return start, part.rows(start, int(last["rows_end"]))
