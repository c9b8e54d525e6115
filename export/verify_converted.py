"""What is right for a model in fewer bits: the file's own graph, operator by operator.

An fp16 or int8 model is not the fp32 network, and its card says by how much. What a
backend must give is what the file says: every operator on its own, in ONNX Runtime,
without any rewriting, fp16 values rounded after each. Backends may differ from that
where rounding to a step falls the other way; the tolerances for it come from the
conversion itself.

Shape legend: N frames, H rows, W columns.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.export.comparison import Comparison, VerifyRow
from blinkloop.export.onnx_runs import OnnxRun
from blinkloop.export.precision_emulated import with_roundings
from blinkloop.export.precision_graph import graph_sha256
from blinkloop.export.probe import ProbeMovie, probe_movies
from blinkloop.schema import ModelCard, Tolerances
from blinkloop.training.detection import PHYSICAL_CHANNELS

__all__ = [
    "ConvertedComparison",
    "compare_with_digest",
    "conversion_tolerances",
    "distance_in_conversions",
    "graph_maps",
    "ordinary_movies",
]

FILE = "file"
"""Name of the first row."""

_TIMES_RMS = 8.0
"""A step that falls the other way moves a value like the conversion did, at times more
(at most 6.2 times the RMS in OpenVINO, three models, three seeds)."""
_FP16_TIMES = 20.0
_PHOTONS_FLOOR = 0.01
"""Photons are compared relative to their value, or to this share of the full scale."""
_Maps = npt.NDArray[np.float32]


def compare_with_digest(model: Any, card: ModelCard) -> VerifyRow:
    """Whether operators and numbers of a file are those that were converted."""
    comparison = Comparison(FILE, card)
    if card.precision is None:
        raise ValueError("an fp32 model has no digest of its graph")
    digest, recorded = graph_sha256(model), card.precision.graph_sha256
    if digest != recorded:
        comparison.fail(
            f"the graph is not the one that was converted (sha256 {digest[:12]}..., "
            f"converted {recorded[:12]}...)"
        )
    return comparison.row()


def ordinary_movies(card: ModelCard, *, seed: int = 0) -> list[ProbeMovie]:
    """The movies of `verify`, ordinary frames in place of empty and overexposed ones.

    Fewer bits were chosen for light as in the card's ranges. Beyond them what a network
    says turns on the last bit, in fp16 more than a tolerance can say.
    """
    movies = []
    for movie in probe_movies(card, seed=seed):
        photons = movie.photons
        if movie.pixel_maps:
            photons = photons[[0, 3, 0, 3]]
        movies.append(replace(movie, photons=photons))
    return movies


def graph_maps(model: Any, card: ModelCard, photons: _Maps) -> _Maps:
    """Maps (N, 10, H, W) of a movie (N, H, W) in photons, as the file's graph says.

    The first and the last frame are their own neighbour.
    """
    run = OnnxRun(with_roundings(model), as_written=True)
    grid = card.architecture.feature_size(*photons.shape[1:])
    one = np.ones(1, np.float32)
    feed = {
        "frames": photons,
        "features_in": np.zeros(
            (2, card.architecture.kept_channels, *grid), np.float32
        ),
        "segment_start": one,
        "offset_adu": np.zeros((1, 1), np.float32),
        "photons_per_adu": np.ones((1, 1), np.float32),
        "threshold": np.array([card.detection.threshold], np.float32),
    }
    names = ("maps", "features_out")
    maps, kept = (value for _, value in run.values(names, feed))
    rest = feed | {
        "frames": photons[-1:],
        "features_in": kept,
        "segment_start": 0 * one,
    }
    # Row 0 of a call that starts a segment says nothing.
    return np.concatenate([maps[1:], run.value("maps", rest)])


def conversion_tolerances(
    before: Any, after: Any, card: ModelCard, *, precision: str, seed: int = 0
) -> Tolerances:
    """Tolerances of a converted model for the largest difference of a single value.

    Eight times the RMS by which the conversion changed the maps of `ordinary_movies`,
    and no less than the fp32 model's (fp16: 20 times those, because a backend may keep
    sums between fp16 values in float or not). `ConvertedComparison` holds a backend's
    RMS to an eighth of it.

    Parameters
    ----------
    before, after
        `onnx.ModelProto` of the two graphs.
    card
        Of the fp32 model.
    precision
        Of the converted one.
    seed
        Of the movies.
    """
    rms = _rms_between(before, after, card, seed=seed)
    least = card.tolerances.model_dump()
    if precision == "fp16":
        least = {kind: _FP16_TIMES * value for kind, value in least.items()}
    return Tolerances(
        **{
            kind: max(value, float(f"{_TIMES_RMS * rms[kind]:.2g}"))
            for kind, value in least.items()
        }
    )


def _rms_between(
    one: Any, other: Any, card: ModelCard, *, seed: int
) -> dict[str, float]:
    """RMS difference of the maps of two graphs, by field of `Tolerances`."""
    changed = _Squares(card)
    for movie in ordinary_movies(card, seed=seed):
        if movie.pixel_maps:
            continue  # frames that are all border, which some networks answer badly
        old = graph_maps(one, card, movie.photons)
        changed.add(graph_maps(other, card, movie.photons), old)
    return changed.rms()


def distance_in_conversions(converted: Any, other: Any, card: ModelCard) -> float:
    """How far a graph is from a converted one, in what the conversion changed (RMS).

    Parameters
    ----------
    converted
        `onnx.ModelProto` of the converted file.
    other
        The one to compare with it.
    card
        Of the converted file.
    """
    tolerances = card.tolerances.model_dump()
    rms = _rms_between(converted, other, card, seed=0)
    return max(_TIMES_RMS * rms[kind] / float(tolerances[kind]) for kind in rms)


class ConvertedComparison(Comparison):
    """As `Comparison`, and the RMS over all values counts too.

    A backend that is as far from the file's graph as this graph is from fp32 would lose
    what the conversion lost once more; it fails.
    """

    def __init__(self, backend: str, card: ModelCard) -> None:
        super().__init__(backend, card)
        self._squares = _Squares(card)

    def maps(self, where: str, got: _Maps, reference: _Maps) -> None:
        """Compare maps (10, H, W) in physical units; `where` names them."""
        super().maps(where, got, reference)
        self._squares.add(got[None], reference[None])

    def row(self) -> VerifyRow:
        """The verdict."""
        tolerances = self.card.tolerances.model_dump()
        for kind, rms in self._squares.rms().items():
            allowed = tolerances[kind] / _TIMES_RMS
            if not rms <= allowed:
                self.fail(f"{kind} differs by {rms:.2g} RMS (allowed {allowed:.2g})")
        return super().row()


class _Squares:
    """Squared differences of maps, by field of `Tolerances`."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, got: _Maps, reference: _Maps) -> None:
        """Maps (N, 10, H, W) of one and of the other."""
        scaling = self._card.scaling
        for index, channel in enumerate(PHYSICAL_CHANNELS):
            theirs = reference[:, index].astype(np.float64)
            difference, kind = got[:, index] - theirs, _kind(channel)
            if kind == "photons_relative":
                background = channel == "background_photons"
                full = scaling.background_max if background else scaling.photons_max
                difference /= np.maximum(np.abs(theirs), _PHOTONS_FLOOR * full)
            self._sums[kind] = self._sums.get(kind, 0.0) + float(np.sum(difference**2))
            self._counts[kind] = self._counts.get(kind, 0) + difference.size

    def rms(self) -> dict[str, float]:
        """Root of the mean square; empty when nothing was added."""
        return {k: math.sqrt(v / self._counts[k]) for k, v in self._sums.items()}


def _kind(channel: str) -> str:
    """Field of `Tolerances` that a channel of the maps falls under."""
    if "photons" in channel:
        return "photons_relative"
    if channel.startswith("z"):
        return "z_nm"
    return "prob" if channel == "p" else "position_px"
