"""How `fit` goes through a movie: frames, region, tiles and frames per call."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blinkloop.cli._call_size import MOST_FRAMES, call_frames, on_cpu
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.integrations.movies import Movie
    from blinkloop.runtime import (
        Backend,
        CameraMaps,
        Localizer,
        ModelFile,
        PipelineSettings,
        Roi,
    )
    from blinkloop.runtime.tiling import TilePlan

__all__ = ["FitPlan", "Wanted", "frame_range", "parse_region", "parse_tile"]

_MEMORY_MB = 384
_DEVICE_MEMORY_MB = 8192
_RAW_BYTES = 96 * 2**20
_TABLE_PER_UM2 = 1.0
"""Detections that a table of fixed length must hold; a CPU's has no such length."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asks for, of every movie.

    Parameters
    ----------
    frames
        First frame and the one after the last, None = from the first, to the last.
    region
        Column, row, width, height on the chip; None = whole frames.
    tile
        Height and width of the tiles' cores; None = only when the memory demands it.
    memory_mb
        For one call of the network; None = by backend.
    batch
        Frames per call; None = by size.
    """

    frames: tuple[int | None, int | None] = (None, None)
    region: tuple[int, int, int, int] | None = None
    tile: tuple[int, int] | None = None
    memory_mb: float | None = None
    batch: int | None = None


def frame_range(text: str | None) -> tuple[int | None, int | None]:
    """`START:STOP`, either may be missing.

    Raises
    ------
    InputError
        When it is something else, or empty.
    """
    if text is None:
        return None, None
    match = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)
    if match is None:
        raise InputError(
            f"--frames is START:STOP (STOP not included), such as 100:2000 or 100:, "
            f"got {text!r}"
        )
    start, stop = (int(part) if part else None for part in match.groups())
    if stop is not None and stop <= (start or 0):
        raise InputError(f"--frames {text} holds no frame: STOP must be above START")
    return start, stop


def parse_region(text: str | None) -> tuple[int, int, int, int] | None:
    """`X,Y,WIDTH,HEIGHT` in px of the chip; InputError when it is something else."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
    if match is None:
        raise InputError(
            f"--roi is X,Y,WIDTH,HEIGHT in whole px of the camera chip, such as "
            f"128,64,256,256, got {text!r}"
        )
    x, y, width, height = (int(part) for part in match.groups())
    return x, y, width, height


def parse_tile(text: str | None) -> tuple[int, int] | None:
    """`HxW` in px; InputError when it is something else."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*[xX]\s*(\d+)\s*", text)
    if match is None:
        raise InputError(f"--tile is HEIGHTxWIDTH in px, such as 512x512, got {text!r}")
    return int(match[1]), int(match[2])


class FitPlan:
    """What to read of one movie and how to analyse it.

    `localizer` is handed to `open_session`, which knows the model; the other members
    are valid from then on.

    Parameters
    ----------
    movie
        Opened movie.
    wanted
        What the person asks for.

    Raises
    ------
    InputError
        The movie has no such frames or no such region.
    """

    tiles: TilePlan
    """Tiles, chip coordinates."""
    batch: int
    """Frames handed over at once."""

    def __init__(self, movie: Movie, wanted: Wanted) -> None:
        from blinkloop.integrations.movies import frame_roi
        from blinkloop.runtime import Roi

        self._wanted = wanted
        self._frame = frame_roi(movie)
        self._pixel_bytes = movie.dtype.itemsize
        start, stop = wanted.frames
        self.start = start or 0
        self.stop = movie.n_frames if stop is None else min(stop, movie.n_frames)
        if self.start >= movie.n_frames:
            raise InputError(
                f"the movie has frames 0 to {movie.n_frames - 1}, --frames begins at "
                f"{self.start}; the first frame is 0"
            )
        self._region: Roi | None = None
        if wanted.region is not None:
            self._region = Roi(*wanted.region)
        self.note: str | None = None

    def localizer(
        self, model: ModelFile, backend: Backend, maps: CameraMaps
    ) -> Localizer:
        """The localizer, and with it tiles and batch."""
        from blinkloop.runtime import StreamLocalizer
        from blinkloop.runtime.tiled import RegionLocalizer, TiledLocalizer
        from blinkloop.runtime.tiling import plan_tiles, step_bytes

        architecture = model.card.architecture
        cpu = on_cpu(backend)
        default = _MEMORY_MB if cpu else _DEVICE_MEMORY_MB
        memory = (self._wanted.memory_mb or default) * 2**20
        most_px = int(memory / step_bytes(architecture, 1_000_000) * 1e6)
        window_px = most_px
        why = (
            f"stay below {memory / 2**20:g} MB for the network; --memory gives it more"
        )
        if not cpu and _table_px(model) < most_px:
            window_px = _table_px(model)
            why = (
                f"keep {_TABLE_PER_UM2:g} detection per um2 within the table of "
                f"{model.card.detection.max_detections} rows; --tile decides otherwise"
            )

        def plan(tile: tuple[int, int] | None) -> TilePlan:
            return plan_tiles(self._frame, architecture, region=self._region, tile=tile)

        tiles = plan(self._wanted.tile)
        if self._wanted.tile is None and _largest_px(tiles) > window_px:
            tiles = plan(_core_size(tiles, plan, window_px))
            self.note = (
                f"frames of {tiles.window.width} x {tiles.window.height} px are "
                f"analysed in {len(tiles.tiles)} tiles to {why}"
            )
        self.tiles = tiles
        call = self._wanted.batch or call_frames(backend, _largest_px(tiles), most_px)
        if len(tiles.tiles) > 1:
            # Two frames are analysed twice for every hand-over, so it is a long one.
            self.batch = max(call, MOST_FRAMES // 2)
            return TiledLocalizer(model, backend, maps, tiles, max_frames_per_call=call)
        self.batch = call
        stream = StreamLocalizer(model, backend, maps, max_frames_per_call=call)
        return stream if self._region is None else RegionLocalizer(stream, tiles)

    def settings(self) -> PipelineSettings:
        """The movie waits for the analysis; few frames in between, so that it can end.

        The hand-over is the read-ahead: while a batch is analysed, the next is read.
        """
        from blinkloop.runtime import PipelineSettings

        window = self.tiles.window
        frame_bytes = window.width * window.height * self._pixel_bytes
        room = max(_RAW_BYTES // frame_bytes, 3)
        # In tiles a call of fewer frames analyses more of them twice.
        patience_s = 10.0 if len(self.tiles.tiles) > 1 else PipelineSettings().call_s
        return PipelineSettings(
            ring_frames=min(2 * self.batch, room),
            wait=True,
            max_batch=self.batch,
            stall_abort_s=None,
            call_s=patience_s,
        )

    def facts(self) -> dict[str, Any]:
        """For the results and the check of a resumed fit: frames and region."""
        region = self._region
        return {
            "frames": [self.start, self.stop],
            "region_px": None
            if region is None
            else [region.x, region.y, region.width, region.height],
        }


def _largest_px(tiles: TilePlan) -> int:
    return max(tile.window.width * tile.window.height for tile in tiles.tiles)


def _table_px(model: ModelFile) -> int:
    """Pixels of a window whose detections a table of fixed length holds."""
    area_um2 = model.card.detection.max_detections / _TABLE_PER_UM2
    return int(area_um2 / (model.card.pixel_size_nm / 1e3) ** 2)


def _core_size(
    tiles: TilePlan,
    plan: Callable[[tuple[int, int] | None], TilePlan],
    most_px: int,
) -> tuple[int, int]:
    """Height and width of the fewest equal cores whose windows fit."""
    covered = tiles.covered
    rows = columns = 1
    while True:
        size = (math.ceil(covered.height / rows), math.ceil(covered.width / columns))
        if _largest_px(plan(size)) <= most_px or max(size) <= 64:
            return size
        # Cut the longer side: square tiles have the smallest margins.
        if size[0] >= size[1]:
            rows += 1
        else:
            columns += 1
