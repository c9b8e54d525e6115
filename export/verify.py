"""Compare a model file with PyTorch, channel by channel, detection by detection.

Of an fp32 model, first row: the network rebuilt from the file's own weights against
what the card says the network was when it was exported (or against a training
checkpoint); a damaged weight shows here. Other rows: each backend against that rebuilt
network, the whole movie at once against every chunking. A model in fewer bits is
compared with its own graph instead, run operator by operator (`verify_converted`);
an engine of an int8 model with the network of the rounded weights, for that it is.

Design notes: the tolerances are the card's. A detection so close to a threshold that
differences within the tolerance decide is neither lost nor added (`reference`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from blinkloop.engine_kinds import ENGINE_KINDS
from blinkloop.errors import CheckFailedError, InputError
from blinkloop.export.comparison import Comparison, VerifyRow
from blinkloop.export.model_file import load_model
from blinkloop.export.precision_float import float_card, to_float
from blinkloop.export.probe import ProbeMovie, probe_movies
from blinkloop.export.record import compare_with_record
from blinkloop.export.reference import expected_detections, reference_maps
from blinkloop.export.verify_converted import (
    ConvertedComparison,
    compare_with_digest,
    graph_maps,
    ordinary_movies,
)
from blinkloop.export.weights import (
    make_network,
    read_model_weights,
    weights_inside,
    weights_sha256,
)
from blinkloop.runtime.backends import backend_table, create_backend
from blinkloop.runtime.camera_maps import CameraMaps, make_camera_maps
from blinkloop.runtime.model import ModelFile, read_model
from blinkloop.runtime.protocols import Backend
from blinkloop.runtime.records import Roi
from blinkloop.schema import ModelCard
from blinkloop.training.detection import detection_scores, detection_table
from blinkloop.training.network import TwoStageNetwork

__all__ = ["raise_if_failed", "verify"]

PYTORCH = "pytorch"
"""Name of the first row."""


def verify(
    model: str | os.PathLike[str],
    backends: Sequence[str] | None = None,
    *,
    run: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    seed: int = 0,
) -> list[VerifyRow]:
    """Compare a model file with PyTorch.

    Parameters
    ----------
    model
        The model file.
    backends
        Names of backends; by default all that are available here.
    run
        Run folder or checkpoint the model was exported from; its weights then take the
        place of the record in the card.
    threads
        Threads of one backend call.
    seed
        Of the movies to compare on.

    Returns
    -------
    One row for PyTorch (fp32) or for the file (fewer bits), and one for each backend;
    see `VerifyRow`.

    Raises
    ------
    InputError
        A file that cannot be used, or a backend that is unknown or not available.
    MissingExtraError
        No backend, or not the package onnx.
    """
    message, card = load_model(model)
    if card.precision is not None:
        movies, first = _of_converted(message, card, model, run, seed)
    else:
        weights, card = read_model_weights(model)
        network = make_network(card.architecture, weights, source=os.fspath(model))
        movies = _of_network(network, card, seed)
        if run is None:
            first = compare_with_record(network, card, weights_sha256(weights))
        else:
            first = _compare_with_run(Path(run), card, movies)
    rows = [first]
    available = [row.name for row in backend_table() if row.available]
    file = read_model(model)
    plain = _Reference(card, movies)

    @functools.cache
    def of_engines() -> _Reference:
        if card.precision_name != "int8":
            return plain
        rounded = make_network(
            card.architecture,
            weights_inside(to_float(message)),
            source=os.fspath(model),
        )
        in_float = float_card(card, file.sha256)
        return _Reference(in_float, _of_network(rounded, in_float, seed))

    for name in available or ["auto"] if backends is None else backends:
        rows.append(_compare_backend(name, file, plain, of_engines, threads))
    return rows


def raise_if_failed(rows: Sequence[VerifyRow], *, source: str) -> None:
    """`CheckFailedError` that names the failures and the largest difference of each."""
    problems = [f"{row.backend}: {row.problem}" for row in rows if not row.passed]
    if problems:
        raise CheckFailedError(f"{source} failed verification: {'; '.join(problems)}")


_Movies = Sequence[tuple[ProbeMovie, npt.NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class _Reference:
    """What a backend must give, and with which tolerances."""

    card: ModelCard
    movies: _Movies


def _of_network(network: TwoStageNetwork, card: ModelCard, seed: int) -> _Movies:
    """Movies with what PyTorch says of them."""
    return [
        (movie, reference_maps(network, card, movie.photons))
        for movie in probe_movies(card, seed=seed)
    ]


def _of_converted(
    message: Any,
    card: ModelCard,
    model: str | os.PathLike[str],
    run: str | os.PathLike[str] | None,
    seed: int,
) -> tuple[_Movies, VerifyRow]:
    """Movies with what the file's own graph says of them, and whether it is whole."""
    if run is not None:
        raise InputError(
            f"{os.fspath(model)}: is an {card.precision_name} model, which no longer "
            f"holds the weights of a run; compare the fp32 model with the run, and "
            f"this one without --run"
        )
    movies = [
        (movie, graph_maps(message, card, movie.photons))
        for movie in ordinary_movies(card, seed=seed)
    ]
    return movies, compare_with_digest(message, card)


def _compare_with_run(run: Path, card: ModelCard, movies: _Movies) -> VerifyRow:
    from blinkloop.export.from_run import read_run

    trained = read_run(run)
    if trained.recipe.architecture != card.architecture:
        raise InputError(
            f"{run}: was trained as {trained.recipe.architecture}, the model file is "
            f"{card.architecture}; give the run that this model was exported from"
        )
    comparison = Comparison(PYTORCH, card)
    for movie, maps in movies:
        before = reference_maps(trained.network, card, movie.photons)
        scores = detection_scores(torch.from_numpy(maps[:, 0]), card.detection)
        table, counts = detection_table(
            torch.from_numpy(maps), scores, card.detection.max_detections
        )
        for frame, expected in enumerate(expected_detections(before, card)):
            where = f"frame {frame} of {movie.name!r}"
            comparison.maps(where, maps[frame], before[frame])
            comparison.detections(
                where, table[frame].numpy(), int(counts[frame]), expected
            )
    return comparison.row()


def _compare_backend(
    name: str,
    model: ModelFile,
    plain: _Reference,
    of_engines: Callable[[], _Reference],
    threads: int | None,
) -> VerifyRow:
    maps = make_camera_maps(model.card.camera)
    backend = create_backend(name, model, maps, threads=threads)
    try:
        reference = of_engines() if backend.name in ENGINE_KINDS else plain
        return _compare_movies(backend, reference)
    finally:
        backend.close()


def _compare_movies(backend: Backend, reference: _Reference) -> VerifyRow:
    card = reference.card
    kind = Comparison if card.precision is None else ConvertedComparison
    comparison = kind(backend.name, card)
    for movie, maps in reference.movies:
        camera = _camera(card, movie)
        backend.set_camera(camera)
        adu = movie.photons / camera.photons_per_adu + camera.offset_adu
        for chunks in movie.chunkings:
            _compare_stream(comparison, backend, adu, maps, chunks, movie.name)
    return comparison.row()


def _camera(card: ModelCard, movie: ProbeMovie) -> CameraMaps:
    """The card's camera; per pixel, and different in each, where the movie wants it."""
    if not movie.pixel_maps:
        return make_camera_maps(card.camera)
    _, height, width = movie.photons.shape
    ramp = np.arange(height * width).reshape(height, width) / (height * width)
    return make_camera_maps(
        card.camera,
        baseline_adu_map=card.camera.baseline_adu + 10 * ramp,
        e_per_adu_map=card.camera.e_per_adu * (1 + 0.1 * ramp),
        area=Roi(0, 0, width, height),
    )


def _calls(
    adu: npt.NDArray[np.float32], chunks: Sequence[int]
) -> Iterator[tuple[npt.NDArray[np.float32], bool, int]]:
    """Frames, segment start and number of the frame that row 0 describes."""
    first = 0
    for count in chunks:
        yield adu[first : first + count], first == 0, first - 1
        first += count
    yield adu[-1:], False, first - 1


def _compare_stream(
    comparison: Comparison,
    backend: Backend,
    adu: npt.NDArray[np.float32],
    reference: npt.NDArray[np.float32],
    chunks: Sequence[int],
    movie: str,
) -> None:
    expected = expected_detections(reference, comparison.card)
    # Engines may leave the maps out; their tables and sums are compared all the same.
    fetch = getattr(backend, "maps", None)
    for frames, start, first in _calls(adu.astype(np.float32), chunks):
        # Before the step, which moves on the features that both start from.
        maps = fetch(frames, segment_start=start) if fetch else None
        out = backend.step(frames, segment_start=start)
        for row in range(int(start), len(frames)):
            frame = first + row
            where = f"frame {frame} of {movie!r}, calls of {chunks}"
            if maps is not None:
                comparison.maps(where, maps[row], reference[frame])
            comparison.detections(
                where, out.detections[row], int(out.counts[row]), expected[frame]
            )
            comparison.sums(
                where,
                out.count_mean[row],
                out.count_variance[row],
                out.block_mean[row],
                reference[frame, 0],
            )
