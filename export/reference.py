"""What PyTorch says: the three-frame network on a whole movie at once.

The measure that the streaming graph and every backend are held to. It shares nothing
with them but the weights.

Shape legend: N frames, H rows, W columns, n detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from blinkloop.schema import DETECTION_COLUMNS, ModelCard
from blinkloop.training.detection import PHYSICAL_CHANNELS, physical_scale
from blinkloop.training.network import TwoStageNetwork, grown

__all__ = [
    "ExpectedDetections",
    "expected_detections",
    "expected_variance",
    "reference_maps",
]

_CROSS = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
"""Pixels of the 3 x 3 neighbourhood whose p makes the score."""


@dataclass(frozen=True, slots=True)
class ExpectedDetections:
    """Detections of one frame that another implementation may, or must, report.

    Parameters
    ----------
    rows
        (n, 11), columns `blinkloop.schema.DETECTION_COLUMNS`: all that it may report.
    certain
        (n,) False for those so close to a threshold, or to a tie with a neighbour, that
        differences within the tolerance decide.
    """

    rows: npt.NDArray[np.float32]
    certain: npt.NDArray[np.bool_]


def reference_maps(
    network: TwoStageNetwork, card: ModelCard, photons: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Maps (N, 10, H, W) in physical units of a movie (N, H, W) in photons.

    The first and the last frame are their own neighbour.
    """
    scaling = card.scaling
    _, height, width = photons.shape
    multiple = card.architecture.size_multiple
    frames = torch.from_numpy(photons) - scaling.input_offset_photons
    frames = frames / scaling.input_scale_photons
    frames = grown(frames[:, None], -height % multiple, -width % multiple)[:, 0]
    before = torch.cat([frames[:1], frames[:-1]])
    after = torch.cat([frames[1:], frames[-1:]])
    triples = torch.stack([before, frames, after], 1)
    with torch.no_grad():
        maps = network(triples)[:, :, :height, :width]
        maps = maps * torch.tensor(physical_scale(scaling)).reshape(1, -1, 1, 1)
    result: npt.NDArray[np.float32] = maps.numpy()
    return result


def expected_variance(p: npt.NDArray[np.float32]) -> float:
    """Variance of the number of emitters that p (H, W) says (`count_variance`)."""
    padded = np.pad(p, 1)
    height, width = p.shape
    score = sum(padded[r : r + height, c : c + width] for r, c in _CROSS)
    return float((p * (1 - np.minimum(score, 1))).sum())


def expected_detections(
    maps: npt.NDArray[np.float32], card: ModelCard
) -> list[ExpectedDetections]:
    """What the detection rule finds in maps (N, 10, H, W), frame by frame."""
    rule, slack = card.detection, len(_CROSS) * card.tolerances.prob
    p = maps[:, 0]
    _, height, width = p.shape
    padded = np.pad(p, ((0, 0), (1, 1), (1, 1)))
    shifted = {
        (row, column): padded[:, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    }
    score = np.stack([shifted[place] for place in _CROSS]).sum(0, dtype=np.float32)
    around = np.stack([v for k, v in shifted.items() if k != (1, 1)]).max(0)
    # How far p is from changing the decision: a detection where above 0; 0 at a tie.
    peak = np.minimum(p - rule.raw_threshold, p - around)
    candidate = np.maximum(peak, p - rule.split)
    margin = np.minimum(candidate, score - rule.threshold)
    result = []
    for frame in range(len(maps)):
        row, column = np.nonzero(margin[frame] > -slack)
        picked = maps[frame][:, row, column]
        values = dict(zip(PHYSICAL_CHANNELS, picked, strict=True))
        values["p_pixel"] = values["p"]
        values["prob"] = np.minimum(score[frame, row, column], 1)
        values["x_px"] = values["x_px"] + column.astype(np.float32)
        values["y_px"] = values["y_px"] + row.astype(np.float32)
        rows = np.stack([values[name] for name in DETECTION_COLUMNS], 1)
        certain = margin[frame, row, column] > slack
        result.append(ExpectedDetections(rows.astype(np.float32), certain))
    return result
