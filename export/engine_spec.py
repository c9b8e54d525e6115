"""For which frames an engine is built, and how.

Design notes: pure data and arithmetic; knows neither TensorRT nor files.

Legend: T frames, H rows, W columns, C features, Hf x Wf feature grid.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from blinkloop.engine_file import SizeRange
from blinkloop.errors import InputError
from blinkloop.schema import ModelCard

__all__ = ["MAX_ROWS", "PORTABLE_CAPABILITIES", "EngineSpec", "engine_spec", "profile"]

MAX_ROWS = 3840
"""Rows K of the detection table a TopK layer of TensorRT can fill."""

MAX_FRAMES, MAX_SIDE_PX = 1024, 16384

PORTABLE_CAPABILITIES = ("8.0", "8.6", "8.9", "12.0")
"""GPUs of an engine for TensorRT for RTX unless said otherwise: Ampere and later."""

Triple = tuple[int, int, int]


_SIZES = SizeRange(
    frames=(1, 8, 64), height_px=(32, 256, 1024), width_px=(32, 256, 1024)
)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a person chooses about an engine.

    Parameters
    ----------
    sizes
        Frames per call and frame sizes: (least, best, most) each. The engine runs all
        in the range and is fastest near the middle value.
    tf32
        Allow float32 products rounded to 10 bits (TF32): faster, less exact.
    compute_capabilities
        GPUs to build for, e.g. ("8.6", "8.9"); for portable kinds only.
    """

    sizes: SizeRange = _SIZES
    tf32: bool = False
    compute_capabilities: tuple[str, ...] = PORTABLE_CAPABILITIES


def engine_spec(
    size: str | None = None,
    frames: str | None = None,
    *,
    tf32: bool = False,
    gpus: str | None = None,
) -> EngineSpec:
    """A spec from texts of the command line.

    Parameters
    ----------
    size
        "LEAST:BEST:MOST" of height x width in px, e.g. "64x64:256x320:512x640", or one
        size alone.
    frames
        Frames per call, "1:8:64"; one number N stands for "1:N:N".
    tf32
        See `EngineSpec`.
    gpus
        Compute capabilities with commas, e.g. "7.5,8.6".

    Raises
    ------
    InputError
        A text that does not read so, or values that do not rise.
    """
    plain = EngineSpec()
    heights, widths = plain.sizes.height_px, plain.sizes.width_px
    if size is not None:
        found = [_side_pair(part, size) for part in _parts(size, "--engine-size")]
        heights = _rising([h for h, _ in found], "--engine-size", size, MAX_SIDE_PX)
        widths = _rising([w for _, w in found], "--engine-size", size, MAX_SIDE_PX)
    counts = plain.sizes.frames
    if frames is not None:
        numbers = [_count(part, frames) for part in _parts(frames, "--engine-frames")]
        if ":" not in frames:
            numbers[0] = 1
        counts = _rising(numbers, "--engine-frames", frames, MAX_FRAMES)
        if counts[0] != 1:
            raise InputError(
                f"--engine-frames {frames!r}: the least must be 1, because the last "
                f"frame of a recording is analysed alone"
            )
    capabilities = plain.compute_capabilities
    if gpus is not None:
        capabilities = tuple(part.strip() for part in gpus.split(","))
        bad = [part for part in capabilities if not re.fullmatch(r"\d+\.\d", part)]
        if bad or len(set(capabilities)) < len(capabilities):
            raise InputError(
                f"--engine-gpus {gpus!r} is no list of different compute capabilities; "
                f"write them like 7.5,8.6"
            )
    sizes = SizeRange(frames=counts, height_px=heights, width_px=widths)
    return EngineSpec(sizes, tf32, capabilities)


def _parts(text: str, option: str) -> list[str]:
    parts = text.split(":")
    if len(parts) == 1:
        return parts * 3
    if len(parts) != 3:
        raise InputError(
            f"{option} {text!r} has {len(parts)} values; give one, or three as "
            f"LEAST:BEST:MOST"
        )
    return parts


def _side_pair(part: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", part.strip())
    if match is None:
        raise InputError(
            f"--engine-size {text!r}: {part!r} is no size; write height x width in px, "
            f"e.g. 256x320"
        )
    return int(match[1]), int(match[2])


def _count(part: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", part.strip()):
        raise InputError(
            f"--engine-frames {text!r}: {part!r} is no number of frames; write e.g. "
            f"1:8:64"
        )
    return int(part)


def _rising(values: list[int], option: str, text: str, most: int) -> Triple:
    low, middle, high = values
    if not 1 <= low <= middle <= high <= most:
        raise InputError(
            f"{option} {text!r}: least, best and most must rise and lie between 1 and "
            f"{most}"
        )
    return low, middle, high


def profile(
    card: ModelCard, sizes: SizeRange
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Shapes of the inputs that vary: name -> (least, best, most).

    Raises
    ------
    InputError
        The model's detection table has more rows than a layer of TensorRT can fill.
    """
    rows = card.detection.max_detections
    if rows > MAX_ROWS:
        raise InputError(
            f"the model's detection table has {rows} rows, TensorRT fills at most "
            f"{MAX_ROWS}; export the model again with --max-detections {MAX_ROWS}"
        )
    architecture = card.architecture
    frames = tuple(zip(sizes.frames, sizes.height_px, sizes.width_px, strict=True))
    kept = tuple(
        (2, architecture.kept_channels, *architecture.feature_size(height, width))
        for _, height, width in frames
    )
    # 1 x 1 for a camera of constant offset and gain, else of the frames' size.
    maps = ((1, 1), (1, 1), frames[-1][1:])
    return {
        "frames": frames,
        "features_in": kept,
        "offset_adu": maps,
        "photons_per_adu": maps,
    }
