"""Exact tiling: how far the network looks, and tiles with margins wide enough.

A tile is analysed with a margin (its halo) so wide that the network's result in the
tile's core does not depend on what lies beyond. Two facts make it exact, not nearly so:
the halo covers the receptive field, and every window begins on the grid on which the
network down-samples, counted from the frame's first pixel (REFERENCE section 1).

Design notes: geometry only; knows neither pixels, backends nor detections.
"""

from __future__ import annotations

from dataclasses import dataclass

from blinkloop.errors import InputError
from blinkloop.runtime.records import Roi
from blinkloop.schema import Architecture

__all__ = [
    "BLOCK_PX",
    "KNOWN_FIELDS",
    "Tile",
    "TilePlan",
    "grid_px",
    "halo_px",
    "plan_tiles",
    "receptive_field",
    "step_bytes",
]

BLOCK_PX = 8
"""Side of the blocks of `FrameResult.block_mean`, px."""

KNOWN_FIELDS = frozenset(
    {
        *("name", "features", "depth", "stem_stride", "logit_clamp", "activation"),
        *("kept_features", "context_features", "context_depth", "convolutions"),
    }
)
"""Fields of `Architecture` this module has been told of: a new one may widen what the
network sees, so a test compares."""

_DETECTION_PX = 2
"""A detection needs the neighbours of its pixel, and may lie 1 px away from it."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One piece of a frame, chip coordinates.

    Parameters
    ----------
    core
        Region whose results it gives; cores cover the region without overlap.
    window
        Region the network is shown, inside the frame: the core and at least its halo.
    """

    core: Roi
    window: Roi


@dataclass(frozen=True, slots=True)
class TilePlan:
    """How a region of a frame is analysed.

    Parameters
    ----------
    frame
        The whole frame, chip coordinates.
    region
        What is asked for. Localizations are those inside it; at an edge of the frame
        also those beyond, as the network may place one up to 1 px outside.
    tiles
        Row by row. Their cores cover the region, widened to the grid.
    """

    frame: Roi
    region: Roi
    tiles: tuple[Tile, ...]

    @property
    def window(self) -> Roi:
        """The smallest region that holds every window: what must be read."""
        return _union([tile.window for tile in self.tiles])

    @property
    def covered(self) -> Roi:
        """The smallest region that holds every core."""
        return _union([tile.core for tile in self.tiles])


def receptive_field(architecture: Architecture) -> tuple[int, int]:
    """How far the maps of a pixel look, towards smaller and larger coordinates, px.

    The same for rows and columns. The worst case over the pixel's position on the grid:
    (44, 44) for the official network, where REFERENCE section 1 measured 41 to 44.
    """
    before = after = 0
    for x in range(architecture.size_multiple):
        low, high = _seen(architecture, x)
        before, after = max(before, x - low), max(after, high - x)
    return before, after


def grid_px(architecture: Architecture) -> int:
    """Windows and cores begin on multiples of this from the frame's first pixel, px."""
    # Both are powers of two. The blocks of `block_mean` must not straddle two cores.
    return max(architecture.size_multiple, BLOCK_PX)


def halo_px(architecture: Architecture) -> int:
    """Margin of a tile on each side, px: receptive field and detection, on the grid."""
    return _up(
        max(receptive_field(architecture)) + _DETECTION_PX, grid_px(architecture)
    )


def plan_tiles(
    frame: Roi,
    architecture: Architecture,
    *,
    region: Roi | None = None,
    tile: tuple[int, int] | None = None,
) -> TilePlan:
    """Cut a frame, or a region of it, into tiles.

    Parameters
    ----------
    frame
        The whole frame, chip coordinates.
    architecture
        Of the network.
    region
        Part that is wanted, chip coordinates; default: all of it.
    tile
        Height and width of a core, px, rounded up to the grid; those at the frame's
        edges, which need less halo, may be larger and the others smaller. Default: one
        tile.

    Raises
    ------
    InputError
        The region is empty or not inside the frame, or the tile has no pixel.
    """
    region = frame if region is None else region
    _check_inside(region, frame)
    if tile is not None and min(tile) < 1:
        raise InputError(
            f"a tile must be at least 1 x 1 px, got {tile[0]} x {tile[1]} (height x "
            f"width); {halo_px(architecture)} px on each side come on top"
        )
    grid, halo = grid_px(architecture), halo_px(architecture)
    height, width = tile or (region.height + grid, region.width + grid)
    rows = _cuts(region.y - frame.y, region.height, frame.height, height, grid, halo)
    columns = _cuts(region.x - frame.x, region.width, frame.width, width, grid, halo)
    tall = _windows(rows, frame.height, halo, grid)
    wide = _windows(columns, frame.width, halo, grid)
    tiles = []
    for (top, bottom), (y, below) in zip(rows, tall, strict=True):
        for (left, right), (x, beyond) in zip(columns, wide, strict=True):
            core = Roi(frame.x + left, frame.y + top, right - left, bottom - top)
            window = Roi(frame.x + x, frame.y + y, beyond - x, below - y)
            tiles.append(Tile(core, window))
    return TilePlan(frame, region, tuple(tiles))


def _check_inside(region: Roi, frame: Roi) -> None:
    inside = (
        min(region.width, region.height) > 0
        and region.x >= frame.x
        and region.y >= frame.y
        and region.x + region.width <= frame.x + frame.width
        and region.y + region.height <= frame.y + frame.height
    )
    if not inside:
        raise InputError(
            f"the region of {region.width} x {region.height} px (width x height) from "
            f"({region.x}, {region.y}) is not inside the frames, which are "
            f"{frame.width} x {frame.height} px from ({frame.x}, {frame.y}); give it "
            f"in px of the camera chip"
        )


def _cuts(
    start: int, size: int, frame_size: int, step: int, grid: int, halo: int
) -> list[tuple[int, int]]:
    """Borders of the cores along one axis, px of the frame.

    As many as cores of `step` would be. Where the frame cuts off a halo the core is
    larger instead, so that all windows are about as long.
    """
    first, last = start // grid * grid, min(_up(start + size, grid), frame_size)
    step = _up(step, grid)
    borders = list(range(first, last, step))
    missing = max(halo - first, 0), max(last + halo - frame_size, 0)
    even = (last - first - sum(missing)) / len(borders)
    if even >= 2 * grid:
        ideal = (first + missing[0] + n * even for n in range(1, len(borders)))
        borders[1:] = [round(at / grid) * grid for at in ideal]
    return list(zip(borders, [*borders[1:], last], strict=True))


def _windows(
    cores: list[tuple[int, int]], frame_size: int, halo: int, grid: int
) -> list[tuple[int, int]]:
    """Borders of the windows along one axis, px of the frame: all of one length.

    Some see a little more than they must, so that a network is asked for one size
    only, which it can be compiled for.
    """
    wanted = [(max(a - halo, 0), min(b + halo, frame_size)) for a, b in cores]
    longest = max(end - start for start, end in wanted)
    # A window that ends with the frame must begin on the grid, too.
    length = longest + (frame_size - longest) % grid
    if len(cores) == 1:
        return wanted
    starts = [_up(max(end - length, 0), grid) for _, end in wanted]
    return [(start, start + length) for start in starts]


def _seen(architecture: Architecture, x: int) -> tuple[int, int]:
    """First and last pixel of a frame that the maps at pixel x depend on."""
    stride = architecture.stem_stride
    low = high = x // stride
    # From the maps backwards: heads, context network, frame network, stem.
    low, high = low - 1, high + 1
    for depth in (architecture.context_levels, architecture.depth):
        low, high = _through_unet(depth, architecture.convolutions, low, high)
    if stride == 1:
        return low, high
    # The stem is a convolution of 2 s x 2 s px, stride s and padding s / 2.
    return stride * low - stride // 2, stride * high + stride + stride // 2 - 1


def _through_unet(
    depth: int, convolutions: int, low: int, high: int
) -> tuple[int, int]:
    """What a stretch of a U-Net's output depends on: 3 x 3 convolutions at each level.

    The way through the lowest level reaches at least as far as every skip.
    """
    n = convolutions
    for _ in range(depth):
        low, high = (low - n) // 2, (high + n) // 2
    low, high = low - n, high + n
    for _ in range(depth):
        low, high = 2 * low - n, 2 * high + 1 + n
    return low, high


def step_bytes(architecture: Architecture, pixels: int) -> int:
    """Memory of one call of the graph on that many pixels (frames x height x width).

    An upper estimate for ONNX Runtime on the CPU, see `docs/fit.md`.
    """
    width = max(architecture.features, architecture.context_channels)
    per_pixel = _LIVE_MAPS * width / architecture.stem_stride**2 + _EXTRA_FLOATS
    return int(4 * per_pixel * pixels)


_LIVE_MAPS = 17.0
_EXTRA_FLOATS = 45.0
"""Floats per pixel: maps of the network's width alive at once; maps, scores and
sorted scores of the detection."""


def _union(regions: list[Roi]) -> Roi:
    x, y = min(r.x for r in regions), min(r.y for r in regions)
    right = max(r.x + r.width for r in regions)
    bottom = max(r.y + r.height for r in regions)
    return Roi(x, y, right - x, bottom - y)


def _up(value: int, grid: int) -> int:
    return -(-value // grid) * grid
