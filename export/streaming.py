"""The streaming graph: raw frames in, detections out, every frame analysed once.

Wraps a trained `TwoStageNetwork` with all that a microscope needs around it: camera
conversion, scaling, padding, the memory of two frames, units, detection, density. The
contract (names, shapes, delays) is in docs/architecture.md.

Design notes: holds no state between calls; the caller feeds `features_out` back. It
does not know chips, regions of interest or segments beyond `segment_start`.

Legend: T frames, H rows, W columns, C features, Hf x Wf feature grid, K table rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blinkloop.schema import DetectionSettings, Scaling
from blinkloop.training.detection import (
    best_pixels,
    count_variance,
    detection_scores,
    physical_scale,
    table_of,
)
from blinkloop.training.network import TwoStageNetwork, grown, places_in_cells

__all__ = ["BLOCK_PX", "INPUT_NAMES", "OUTPUT_NAMES", "StreamingNetwork"]

INPUT_NAMES = (
    "frames",
    "features_in",
    "segment_start",
    "offset_adu",
    "photons_per_adu",
    "threshold",
)
"""Inputs of the graph, in order."""

OUTPUT_NAMES = (
    "detections",
    "counts",
    "count_mean",
    "count_variance",
    "block_mean",
    "features_out",
    "maps",
)
"""Outputs of the graph, in order."""

BLOCK_PX = 8
"""Side of the blocks of `block_mean`, px."""


class StreamingNetwork(nn.Module):
    """The network as it runs at the microscope.

    Parameters
    ----------
    network
        Trained network; its weights are shared, not copied.
    scaling
        Constants between network units and physical units.
    detection
        Detection settings; `threshold` is an input of the graph instead.
    """

    scale: Tensor

    def __init__(
        self,
        network: TwoStageNetwork,
        scaling: Scaling,
        detection: DetectionSettings,
    ) -> None:
        super().__init__()
        self.network = network
        self.scaling = scaling
        self.detection = detection
        scale = torch.tensor(physical_scale(scaling)).reshape(1, -1, 1, 1)
        # The scale belongs to the card, not to the weights.
        self.register_buffer("scale", scale, persistent=False)

    def forward(
        self,
        frames: Tensor,
        features_in: Tensor,
        segment_start: Tensor,
        offset_adu: Tensor,
        photons_per_adu: Tensor,
        threshold: Tensor,
    ) -> tuple[Tensor, ...]:
        """Analyse T frames; returns `OUTPUT_NAMES`, row t describing frame t - 1.

        Parameters
        ----------
        frames
            (T, H, W) ADU.
        features_in
            (2, C, Hf, Wf) `features_out` of the call before.
        segment_start
            (1,) 1 when the first frame starts a segment, else 0.
        offset_adu, photons_per_adu
            (1 or H, 1 or W) camera maps or constants.
        threshold
            (1,) detection threshold.
        """
        height, width = frames.shape[1], frames.shape[2]
        # The kept features have the padded size. Taking it from them instead of
        # computing it again keeps the shapes in the graph, and its export, simple.
        stride = self.network.architecture.stem_stride
        below = features_in.shape[2] * stride - height
        right = features_in.shape[3] * stride - width
        scaled = self._scaled(frames, offset_adu, photons_per_adu)
        new = self.network.analyse(grown(scaled.unsqueeze(1), below, right))
        context, features_out = self._windows(features_in, new, segment_start)
        cells = self.network.raw_cells(context)
        pixels = [h.spread(c) for h, c in zip(self.network.heads, cells, strict=True)]
        maps = self.network.activate(*pixels) * self.scale
        maps = maps.narrow(2, 0, height).narrow(3, 0, width)

        p = self.network.probability(pixels[0])[:, 0]
        p = p.narrow(1, 0, height).narrow(2, 0, width)
        scores = detection_scores(p, self.detection, threshold)
        best = best_pixels(scores, self.detection.max_detections)
        # Of the other nine channels only these pixels: without `maps`, which a runtime
        # leaves out, nothing else is computed of them.
        places = places_in_cells(best.row, best.column, context, stride)
        raw = [h.at(c, places) for h, c in zip(self.network.heads, cells, strict=True)]
        picked = self.network.activate(*raw) * self.scale[..., 0]
        detections = table_of(picked, best)
        blocks = F.pad(p, (0, BLOCK_PX - 1, 0, BLOCK_PX - 1)).unsqueeze(1)
        block_mean = F.avg_pool2d(blocks, BLOCK_PX).squeeze(1) * float(BLOCK_PX**2)
        return (
            detections,
            best.counts,
            p.sum((1, 2)),
            count_variance(p),
            block_mean,
            features_out,
            maps,
        )

    @staticmethod
    def _windows(
        before: Tensor, new: Tensor, segment_start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Features of each frame and its two neighbours, and those to keep.

        (2, C, Hf, Wf) and (T, C, Hf, Wf) -> (T, 3C, Hf, Wf) and (2, C, Hf, Wf).
        """
        known = torch.cat([before, new], 0)
        rows = torch.arange(new.shape[0]).unsqueeze(1) + torch.arange(3)
        # At the start of a segment the first frame stands for those before it. Chosen,
        # not multiplied: what was kept may be anything.
        first = 2 * (segment_start > 0.5).to(rows.dtype)
        rows = torch.maximum(rows, first)
        triples = known.index_select(0, rows.reshape(-1))
        context = triples.reshape(new.shape[0], -1, *new.shape[2:])
        return context, known.index_select(0, rows[-1, 1:])

    def _scaled(
        self, frames: Tensor, offset: Tensor, photons_per_adu: Tensor
    ) -> Tensor:
        """ADU -> network input, both (T, H, W)."""
        photons = (frames - offset) * photons_per_adu
        scaled = photons - self.scaling.input_offset_photons
        return scaled / self.scaling.input_scale_photons
