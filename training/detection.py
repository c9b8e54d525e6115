"""From probability maps to a table of detections, with tensors of fixed shape.

Pooling-based detection (doi:10.1038/s41592-021-01236-x, in the variant of the published
code). Only operations that ONNX Runtime and TensorRT know, so that the very same code
scores a network in training and sits inside the exported graph.

Design notes: this module knows neither network units nor the camera chip; coordinates
are relative to the image it is given.

Legend: T frames, H rows, W columns, K rows of the table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from blinkloop.schema import (
    DETECTION_COLUMNS,
    LOCALIZATION_DTYPE,
    DetectionSettings,
    Scaling,
)

__all__ = [
    "PHYSICAL_CHANNELS",
    "BestPixels",
    "best_pixels",
    "count_variance",
    "detection_scores",
    "detection_table",
    "localize",
    "physical_scale",
    "table_of",
]

PHYSICAL_CHANNELS = (
    "p",
    "photons",
    "x_px",
    "y_px",
    "z_nm",
    "photons_sigma",
    "x_sigma_px",
    "y_sigma_px",
    "z_sigma_nm",
    "background_photons",
)
"""Channels of the maps, in order; `x_px`, `y_px` are offsets from the pixel centre."""

_TABLE_CHANNELS = tuple(
    PHYSICAL_CHANNELS.index("p" if name == "p_pixel" else name)
    for name in DETECTION_COLUMNS[1:]
)


def physical_scale(scaling: Scaling) -> tuple[float, ...]:
    """What each of the ten maps in network units is multiplied by.

    Parameters
    ----------
    scaling
        Constants of the model card.

    Returns
    -------
    Ten factors in the order of `PHYSICAL_CHANNELS`.
    """
    photons, z = scaling.photons_max, scaling.z_max_nm
    return (1.0, photons, 1.0, 1.0, z, photons, 1.0, 1.0, z, scaling.background_max)


def detection_scores(
    p: Tensor, settings: DetectionSettings, threshold: Tensor | float | None = None
) -> Tensor:
    """Score of every pixel that holds a detection, 0 elsewhere.

    A pixel is a candidate when p > `raw_threshold` and it is the maximum of its 3 x 3
    neighbourhood, or when p > `split` (two emitters in adjacent pixels). Its score is p
    plus its four neighbours, at most 1; it is kept when the score reaches `threshold`.
    Among equal neighbours the first in raster order is the maximum, so a tie is one
    detection; equal pixels above `split` are as many emitters, like unequal ones.

    Parameters
    ----------
    p
        (T, H, W) probabilities.
    settings
        Thresholds.
    threshold
        Kept when the score is at least this; (1,) tensor or number, by default that of
        `settings`.

    Returns
    -------
    (T, H, W) scores in [0, 1].
    """
    keep = settings.threshold if threshold is None else threshold
    padded = F.pad(p, (1, 1, 1, 1))
    left, right = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    score = _score(p, padded)

    triples = torch.maximum(padded[:, :, :-2], padded[:, :, 2:])
    triples = torch.maximum(triples, padded[:, :, 1:-1])
    earlier = torch.maximum(triples[:, :-2], left)
    later = torch.maximum(triples[:, 2:], right)
    peak = (p > settings.raw_threshold) & (p > earlier) & (p >= later)
    found = (peak | (p > settings.split)) & (score >= keep)
    return torch.where(found, score, torch.zeros_like(score))


def count_variance(p: Tensor) -> Tensor:
    """Variance of the number of emitters in each frame.

    sum p (1 - s), s = the score: p plus its four neighbours, at most 1. Where the
    network knows that there is one emitter but not in which of two pixels, p is shared
    out between them; sum p (1 - p) (Speiser et al. 2021) would count that as doubt
    about the number, though the pixels exclude each other.

    Parameters
    ----------
    p
        (T, H, W) probabilities.

    Returns
    -------
    (T,) variances.
    """
    variance: Tensor = (p * (1.0 - _score(p, F.pad(p, (1, 1, 1, 1))))).sum((1, 2))
    return variance


def _score(p: Tensor, padded: Tensor) -> Tensor:
    """Sum of p and its four neighbours, at most 1; `padded`: p with a zero border."""
    up, down = padded[:, :-2, 1:-1], padded[:, 2:, 1:-1]
    left, right = padded[:, 1:-1, :-2], padded[:, 1:-1, 2:]
    return torch.clamp(p + up + down + left + right, max=1.0)


def detection_table(
    maps: Tensor, scores: Tensor, max_detections: int
) -> tuple[Tensor, Tensor]:
    """The best detections of every frame in a table of fixed size.

    Parameters
    ----------
    maps
        (T, 10, H, W) in physical units, channels `PHYSICAL_CHANNELS`.
    scores
        (T, H, W) from `detection_scores`.
    max_detections
        Rows K.

    Returns
    -------
    table
        (T, K, 11), columns `blinkloop.schema.DETECTION_COLUMNS`, best score first;
        rows beyond the count are zero.
    counts
        (T,) int64 detections found; more than K means that the table is full.
    """
    best = best_pixels(scores, max_detections)
    width = scores.shape[2]
    index = (best.row * width + best.column).unsqueeze(1)
    picked = maps.flatten(2).gather(2, index.expand(-1, len(PHYSICAL_CHANNELS), -1))
    return table_of(picked, best), best.counts


class BestPixels(NamedTuple):
    """The pixels with the best scores of every frame, best first.

    Parameters
    ----------
    score
        (T, K); 0 beyond the detections.
    row, column
        (T, K) int64; 0 beyond the detections.
    counts
        (T,) int64 detections found; more than K means that some are left out.
    """

    score: Tensor
    row: Tensor
    column: Tensor
    counts: Tensor


def best_pixels(scores: Tensor, max_detections: int) -> BestPixels:
    """The K best of (T, H, W) `detection_scores`."""
    width = scores.shape[2]
    flat = scores.flatten(1)
    counts = (flat > 0).sum(1)
    # K zeros keep K constant for images of fewer than K pixels.
    best, where = torch.topk(F.pad(flat, (0, max_detections)), max_detections, dim=1)
    where = torch.where(best > 0, where, torch.zeros_like(where))
    row = torch.div(where, width, rounding_mode="floor")
    return BestPixels(best, row, where - row * width, counts)


def table_of(picked: Tensor, best: BestPixels) -> Tensor:
    """Rows of `detection_table` from the values at those pixels.

    Parameters
    ----------
    picked
        (T, 10, K) in physical units, channels `PHYSICAL_CHANNELS`.
    best
        Where they were taken.
    """
    columns = [best.score]
    # Before they are put together: along the last axis a mask costs several times more.
    valid = (best.score > 0).unsqueeze(1)
    picked = torch.where(valid, picked, torch.zeros_like(picked))
    for channel in _TABLE_CHANNELS:
        value = picked[:, channel]
        if channel == PHYSICAL_CHANNELS.index("x_px"):
            value = value + best.column.to(value.dtype)
        elif channel == PHYSICAL_CHANNELS.index("y_px"):
            value = value + best.row.to(value.dtype)
        columns.append(value)
    return torch.stack(columns, 2)


def localize(
    maps: Tensor,
    settings: DetectionSettings | None = None,
    *,
    first_frame: int = 0,
) -> npt.NDArray[np.void]:
    """All detections in maps as localizations.

    Parameters
    ----------
    maps
        (T, 10, H, W) in physical units, on any device.
    settings
        Thresholds; `max_detections` does not limit here.
    first_frame
        Number of the first frame.

    Returns
    -------
    (n,) of `LOCALIZATION_DTYPE`, by frame and raster order; coordinates relative to the
    image.
    """
    chosen = DetectionSettings() if settings is None else settings
    maps = maps.detach().float()
    scores = detection_scores(maps[:, 0], chosen)
    frame, row, column = torch.nonzero(scores, as_tuple=True)
    values = maps[frame, :, row, column].cpu().numpy()
    result = np.zeros(len(values), LOCALIZATION_DTYPE)
    for channel, name in enumerate(PHYSICAL_CHANNELS):
        if name != "p":
            result[name] = values[:, channel]
    result["frame"] = frame.cpu().numpy() + first_frame
    result["x_px"] += column.cpu().numpy()
    result["y_px"] += row.cpu().numpy()
    result["prob"] = scores[frame, row, column].cpu().numpy()
    return result
