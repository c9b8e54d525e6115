"""Which buffers a call of an engine needs: sizes, places and alignment, as numbers.

All that goes to the GPU in a call lies in one block, all that comes back in another,
so that a call is two copies whatever the number of tensors.

Design notes: pure functions of the card and the frame size; no CUDA, no TensorRT.

Legend: T frames, H rows, W columns, K rows of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from blinkloop.schema import DETECTION_COLUMNS, ModelCard

__all__ = ["Block", "CallPlan", "Slot", "call_plan", "split_calls"]

ALIGNMENT_BYTES = 256
"""Of every tensor: what cudaMalloc gives and TensorRT asks for."""

BLOCK_PX = 8
"""Side of the blocks of `block_mean` (docs/architecture.md)."""

_MAP_CHANNELS = 10


@dataclass(frozen=True, slots=True)
class Slot:
    """Place of one tensor in a block.

    Parameters
    ----------
    offset
        First byte.
    shape, dtype
        Of the tensor.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Block:
    """Tensors that lie one after the other in one piece of memory."""

    slots: Mapping[str, Slot]
    nbytes: int

    def views(
        self, memory: npt.NDArray[np.uint8]
    ) -> dict[str, npt.NDArray[np.generic]]:
        """The tensors as arrays in host memory of at least `nbytes`; not copied."""
        return {
            name: memory[slot.offset : slot.offset + slot.nbytes]
            .view(slot.dtype)
            .reshape(slot.shape)
            for name, slot in self.slots.items()
        }


@dataclass(frozen=True, slots=True)
class CallPlan:
    """Memory of a call.

    Parameters
    ----------
    frames, height_px, width_px
        Of the call.
    upload
        `frames` and `segment_start`.
    download
        The outputs of a step but the features, which stay on the GPU.
    features
        Shape of `features_in` and `features_out`.
    maps
        Shape of `maps`; it stays on the GPU unless asked for.
    """

    frames: int
    height_px: int
    width_px: int
    upload: Block
    download: Block
    features: tuple[int, ...]
    maps: tuple[int, ...]


def _block(tensors: Mapping[str, tuple[tuple[int, ...], str]]) -> Block:
    slots, end = {}, 0
    for name, (shape, dtype) in tensors.items():
        slot = Slot(end, shape, np.dtype(dtype))
        slots[name] = slot
        end = _aligned(end + slot.nbytes)
    return Block(slots, end)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def call_plan(card: ModelCard, frames: int, height_px: int, width_px: int) -> CallPlan:
    """Memory of a call with T frames of H x W px.

    Parameters
    ----------
    card
        Of the model.
    frames, height_px, width_px
        All at least 1.
    """
    rows = card.detection.max_detections
    blocks = (-(-height_px // BLOCK_PX), -(-width_px // BLOCK_PX))
    architecture = card.architecture
    return CallPlan(
        frames,
        height_px,
        width_px,
        upload=_block(
            {
                "frames": ((frames, height_px, width_px), "<f4"),
                "segment_start": ((1,), "<f4"),
            }
        ),
        download=_block(
            {
                "detections": ((frames, rows, len(DETECTION_COLUMNS)), "<f4"),
                "counts": ((frames,), "<i8"),
                "count_mean": ((frames,), "<f4"),
                "count_variance": ((frames,), "<f4"),
                "block_mean": ((frames, *blocks), "<f4"),
            }
        ),
        features=(
            2,
            architecture.kept_channels,
            *architecture.feature_size(height_px, width_px),
        ),
        maps=(frames, _MAP_CHANNELS, height_px, width_px),
    )


def split_calls(count: int, most: int) -> list[int]:
    """Calls of powers of two that make up T frames, longest first.

    Every length of a call needs buffers and a recorded CUDA graph of its own; with
    powers of two a run has few, however many frames happen to be waiting. The streaming
    law makes the split invisible in the results.

    Parameters
    ----------
    count
        Frames at hand, at least 1.
    most
        Frames of the longest call the engine takes, at least 1.
    """
    longest = 1 << (most.bit_length() - 1)
    calls = [longest] * (count // longest)
    rest = count % longest
    calls += [
        1 << bit for bit in range(rest.bit_length() - 1, -1, -1) if rest >> bit & 1
    ]
    return calls
