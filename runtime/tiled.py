"""Localizers for frames analysed in part or in pieces; see `runtime/tiling.py`.

Law: tiled equals whole, and a region equals the whole restricted to it, to the
tolerance in the model card: localizations, `count_mean` and `block_mean`.

A localization belongs to the core that holds its position. At a border between two
cores the two tiles may differ by rounding about which side it is on; then it is taken
from both, and of a pair that agrees one is dropped.

Two things differ from the whole frame. `count_variance` is the tile's, scaled by the
share of the tile's emitters that are in the core: the graph gives one number per call.
And the detection table has its rows for every tile, so a crowded frame that overflows
as a whole may not overflow in tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.runtime.backends import create_backend
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.localizer import check_frame, frame_results
from blinkloop.runtime.model import ModelFile
from blinkloop.runtime.protocols import Backend, Localizer
from blinkloop.runtime.records import Frame, FrameResult, Roi
from blinkloop.runtime.tiling import BLOCK_PX, Tile, TilePlan
from blinkloop.runtime.window import FrameHeader
from blinkloop.schema import LOCALIZATION_DTYPE

__all__ = ["RegionLocalizer", "TiledLocalizer"]

_Rows = npt.NDArray[np.void]


class RegionLocalizer:
    """Cuts the results of a region's window down to the region.

    Parameters
    ----------
    localizer
        Is pushed frames of the plan's window; closed with this object.
    plan
        A plan of one tile.
    """

    def __init__(self, localizer: Localizer, plan: TilePlan) -> None:
        (self._tile,) = plan.tiles
        self._localizer = localizer
        self._plan = plan

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Take frames of the window; results of the region."""
        return self._cut(self._localizer.push(frames))

    def flush(self) -> list[FrameResult]:
        """End the segment and return its last frame, if one is due."""
        return self._cut(self._localizer.flush())

    def close(self) -> None:
        """Close the localizer."""
        self._localizer.close()

    def _cut(self, results: Sequence[FrameResult]) -> list[FrameResult]:
        cut = []
        for result in results:
            rows = result.localizations
            rows = rows[_inside(rows, self._plan.region, self._plan.frame, 0.0)]
            cut.append(_core_of(result, rows, self._tile))
        return cut


class TiledLocalizer:
    """Localizes frames tile by tile; implements `Localizer`.

    Frames pushed at once are analysed tile after tile, each as a segment of its own,
    together with the two frames before them: the more frames in a push, the less is
    analysed twice, (n + 2) / n. The features of one tile are all that is kept.

    Parameters
    ----------
    model, backend, maps, threshold, threads
        As `StreamLocalizer`.
    plan
        The tiles. Frames are the plan's window, or contain it.
    max_frames_per_call
        Frames in one call of the backend; bounds the memory of a call.
    """

    def __init__(
        self,
        model: ModelFile,
        backend: Backend | str,
        maps: CameraMaps | None,
        plan: TilePlan,
        *,
        threshold: float | None = None,
        threads: int | None = None,
        max_frames_per_call: int = 4,
    ) -> None:
        self._maps = make_camera_maps(model.card.camera) if maps is None else maps
        if isinstance(backend, str):
            backend = create_backend(
                backend, model, self._maps, threshold=threshold, threads=threads
            )
        elif threshold is not None or threads is not None:
            raise ValueError("a loaded backend already has its threshold and threads")
        if max_frames_per_call < 1:
            raise ValueError(f"max_frames_per_call is {max_frames_per_call}")
        self._backend = backend
        self._plan = plan
        self._most = max_frames_per_call
        self._slack_px = model.card.tolerances.position_px
        self._carried: list[Frame] = []
        self._segment = -1

    @property
    def backend_name(self) -> str:
        """Name of the backend in use."""
        return self._backend.name

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        """Take some frames, return the results that are ready; as `StreamLocalizer`.

        Raises
        ------
        InputError
            A frame cannot be used; none was taken.
        DeviceError
            The backend failed. The open segment is lost.
        """
        for frame in frames:
            check_frame(frame)
            _check_holds(frame, self._plan.window)
        if frames:
            self._maps.crop(self._plan.window)
        results: list[FrameResult] = []
        start = 0
        while start < len(frames):
            if self._carried and not _follows(frames[start], self._carried[-1]):
                results += self.flush()
            if not self._carried:
                self._segment += 1
            stop = start + 1
            while stop < len(frames) and _follows(frames[stop], frames[stop - 1]):
                stop += 1
            results += self._run(frames[start:stop], ends=False)
            start = stop
        return results

    def flush(self) -> list[FrameResult]:
        """End the segment and return its last frame, if one is due."""
        if not self._carried:
            return []
        results = self._run((), ends=True)
        self._carried = []
        return results

    def close(self) -> None:
        """Release the backend."""
        self._carried = []
        self._backend.close()

    def _run(self, new: Sequence[Frame], *, ends: bool) -> list[FrameResult]:
        """Results that are due once `new` is known, of every tile, merged."""
        frames = [*self._carried, *new]
        # The last of those carried is the one whose result is still due.
        due = range(max(len(self._carried) - 1, 0), len(frames) - (0 if ends else 1))
        merger = _Merger(self._plan, self._slack_px)
        try:
            if due:
                for tile in self._plan.tiles:
                    merger.add(tile, self._tile_results(tile, frames, due, ends=ends))
        except BaseException:
            self._carried = []
            raise
        # Copies: the pixels are the caller's.
        self._carried = [
            replace(frame, pixels=frame.pixels.copy()) for frame in frames[-2:]
        ]
        return merger.results()

    def _tile_results(
        self, tile: Tile, frames: Sequence[Frame], due: range, *, ends: bool
    ) -> list[FrameResult]:
        window = tile.window
        self._backend.set_camera(self._maps.crop(window))
        headers = [
            FrameHeader(frame.index, frame.timestamp_s, window, self._segment)
            for frame in frames
        ]
        wanted = [header if i in due else None for i, header in enumerate(headers)]
        shape = (min(self._most, len(frames)), window.height, window.width)
        buffer_THW = np.empty(shape, np.float32)
        results: list[FrameResult] = []
        for start in range(0, len(frames), self._most):
            taken = frames[start : start + self._most]
            for row, frame in zip(buffer_THW, taken, strict=False):
                row[...] = _window_pixels(frame, window)
            output = self._backend.step(
                buffer_THW[: len(taken)], segment_start=start == 0
            )
            # One frame late, so the first row of a call is the last frame before it.
            before = wanted[start - 1] if start else None
            rows = [before, *wanted[start : start + len(taken) - 1]]
            results += frame_results(rows, output)
        if ends:
            last = len(frames) - 1
            buffer_THW[0] = _window_pixels(frames[last], window)
            output = self._backend.step(buffer_THW[:1], segment_start=False)
            results += frame_results([wanted[last]], output)
        return results


class _Merger:
    """Joins the results of tiles into results of the region."""

    def __init__(self, plan: TilePlan, slack_px: float) -> None:
        self._plan = plan
        self._slack_px = slack_px
        self._parts: list[list[FrameResult]] = []
        self._rows: list[_Rows] = []
        self._tiles: list[Tile] = []

    def add(self, tile: Tile, results: Sequence[FrameResult]) -> None:
        """Results of one tile, of the same frames as those of every other."""
        rows = [result.localizations for result in results]
        table = np.concatenate([np.zeros(0, LOCALIZATION_DTYPE), *rows])
        self._rows.append(
            table[_inside(table, tile.core, self._plan.frame, self._slack_px)]
        )
        self._parts.append(
            [_core_of(result, result.localizations, tile) for result in results]
        )
        self._tiles.append(tile)

    def results(self) -> list[FrameResult]:
        """One result per frame."""
        if not self._parts:
            return []
        plan, covered = self._plan, self._plan.covered
        number = np.repeat(np.arange(len(self._rows)), [len(r) for r in self._rows])
        table = np.concatenate(self._rows)
        keep = _once(table, number, self._tiles, self._slack_px)
        keep &= _inside(table, plan.region, plan.frame, 0.0)
        table = table[keep]
        # Best first, as the graph's table is.
        order = np.lexsort((table["x_px"], table["y_px"], -table["prob"]))
        table = table[order]
        merged = []
        for parts in zip(*self._parts, strict=True):
            first = parts[0]
            blocks = np.zeros(_blocks(covered), np.float32)
            for part in parts:
                y = (part.roi.y - covered.y) // BLOCK_PX
                x = (part.roi.x - covered.x) // BLOCK_PX
                height, width = part.block_mean.shape
                blocks[y : y + height, x : x + width] = part.block_mean
            result = FrameResult(
                index=first.index,
                timestamp_s=first.timestamp_s,
                roi=covered,
                segment=first.segment,
                localizations=table[table["frame"] == first.index],
                table_full=any(part.table_full for part in parts),
                count_mean=sum(part.count_mean for part in parts),
                count_variance=sum(part.count_variance for part in parts),
                block_mean=blocks,
            )
            merged.append(result)
        return merged


def _core_of(result: FrameResult, found: _Rows, tile: Tile) -> FrameResult:
    """Counts of the core from those of the window, with these localizations."""
    core, window = tile.core, tile.window
    rows, columns = _blocks(core)
    # Cores and windows begin on the blocks' grid, so none is cut.
    y, x = (core.y - window.y) // BLOCK_PX, (core.x - window.x) // BLOCK_PX
    blocks = np.ascontiguousarray(result.block_mean[y : y + rows, x : x + columns])
    count = float(blocks.sum(dtype=np.float64))
    share = count / result.count_mean if result.count_mean > 0 else 0.0
    return FrameResult(
        index=result.index,
        timestamp_s=result.timestamp_s,
        roi=core,
        segment=result.segment,
        localizations=found,
        table_full=result.table_full,
        count_mean=count,
        count_variance=result.count_variance * share,
        block_mean=blocks,
    )


def _blocks(region: Roi) -> tuple[int, int]:
    return -(-region.height // BLOCK_PX), -(-region.width // BLOCK_PX)


def _inside(
    rows: _Rows, region: Roi, frame: Roi, slack_px: float
) -> npt.NDArray[np.bool_]:
    """Which localizations are in a region, open where it meets the frame's edge."""
    inside = np.ones(len(rows), bool)
    for name, start, size, edge, whole in (
        ("x_px", region.x, region.width, frame.x, frame.width),
        ("y_px", region.y, region.height, frame.y, frame.height),
    ):
        if start > edge:
            inside &= rows[name] >= start - 0.5 - slack_px
        if start + size < edge + whole:
            inside &= rows[name] < start + size - 0.5 + slack_px
    return inside


def _once(
    rows: _Rows, number: npt.NDArray[np.int64], tiles: Sequence[Tile], slack_px: float
) -> npt.NDArray[np.bool_]:
    """Which localizations remain when those that two tiles gave are taken once."""
    keep = np.ones(len(rows), bool)
    close = np.zeros(len(rows), bool)
    for name, starts in (
        ("x_px", sorted({tile.core.x for tile in tiles})[1:]),
        ("y_px", sorted({tile.core.y for tile in tiles})[1:]),
    ):
        for start in starts:
            close |= np.abs(rows[name] - (start - 0.5)) <= 2 * slack_px
    suspects: dict[int, list[int]] = {}
    for position in np.flatnonzero(close).tolist():
        suspects.setdefault(int(rows["frame"][position]), []).append(position)
    for indices in suspects.values():
        # Each may stand for one of every later tile: two emitters at one place are two.
        absorbed: set[tuple[int, int]] = set()
        for i in indices:
            for j in indices:
                if number[j] >= number[i] or not keep[j]:
                    continue
                near = all(
                    abs(rows[name][i] - rows[name][j]) <= 2 * slack_px
                    for name in ("x_px", "y_px")
                )
                if near and (j, int(number[i])) not in absorbed:
                    absorbed.add((j, int(number[i])))
                    keep[i] = False
                    break
    return keep


def _check_holds(frame: Frame, window: Roi) -> None:
    """Refuse frames of another region than the plan's."""
    roi = frame.roi
    y, x = window.y - roi.y, window.x - roi.x
    if min(y, x) < 0 or y + window.height > roi.height or x + window.width > roi.width:
        raise InputError(
            f"frame {frame.index} shows {roi.width} x {roi.height} px from ({roi.x}, "
            f"{roi.y}), the tiles need {window.width} x {window.height} px from "
            f"({window.x}, {window.y}); plan the tiles for these frames"
        )


def _window_pixels(frame: Frame, window: Roi) -> npt.NDArray[np.generic]:
    y, x = window.y - frame.roi.y, window.x - frame.roi.x
    return frame.pixels[y : y + window.height, x : x + window.width]


def _follows(frame: Frame, before: Frame) -> bool:
    return frame.index == before.index + 1 and frame.roi == before.roi
