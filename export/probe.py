"""Frames to compare networks on: spots on background, like the data a model is for.

Frozen on purpose. Model files carry what their network answered to `record_photons`, so
neither the formula nor its random numbers may ever change: `RandomState` is the one
NumPy generator whose stream is, and everything after it is continuous, so that another
machine's rounding moves the answer no more than it moves the question. For the same
reason this does not use blinkloop.optics, whose formulas may improve.

Shape legend: N frames, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.schema import ModelCard

__all__ = ["PROBE_VERSION", "ProbeMovie", "probe_movies", "record_photons"]

PROBE_VERSION = 1
"""Raised when the frames of `record_photons` change."""

_RECORD_SEED = 20211022


@dataclass(frozen=True, slots=True)
class ProbeMovie:
    """One movie and the ways to cut it into calls.

    Parameters
    ----------
    name
        What it tests.
    photons
        float32 (N, H, W), photons.
    chunkings
        Frames per call; each sums up to N.
    pixel_maps
        True: give the camera's offset and gain per pixel instead of once.
    """

    name: str
    photons: npt.NDArray[np.float32]
    chunkings: tuple[tuple[int, ...], ...]
    pixel_maps: bool = False


def _spots(
    card: ModelCard, shape: tuple[int, int, int], seed: int
) -> npt.NDArray[np.float32]:
    """(N, H, W) photons: elliptical Gaussian spots, background, noise of its size."""
    count, height, width = shape
    random = np.random.RandomState(seed)
    low, high = card.training_ranges.background_photons
    mean = np.full(shape, (low + high) / 2)
    spots = max(3, height * width // 80)
    flux = np.mean(card.training_ranges.photons)
    row = random.uniform(-1, height, spots)
    column = random.uniform(-1, width, spots)
    photons = flux * random.uniform(0.3, 1.7, spots)
    sigma_row = random.uniform(0.9, 2.2, spots)
    sigma_column = random.uniform(0.9, 2.2, spots)
    present = random.uniform(0, 1, (count, spots)) < 0.6
    y, x = np.arange(height)[:, None], np.arange(width)
    for i in range(spots):
        profile = np.exp(-0.5 * ((y - row[i]) / sigma_row[i]) ** 2) * np.exp(
            -0.5 * ((x - column[i]) / sigma_column[i]) ** 2
        )
        profile *= photons[i] / (2 * np.pi * sigma_row[i] * sigma_column[i])
        mean += present[:, i, None, None] * profile
    noise = random.standard_normal(shape)
    noisy: npt.NDArray[np.float64] = mean + np.sqrt(mean) * noise
    return noisy.astype(np.float32)


def record_photons(card: ModelCard) -> npt.NDArray[np.float32]:
    """(3, 20, 28) photons; the answer to the middle frame is kept in the model card."""
    return _spots(card, (3, 20, 28), _RECORD_SEED)


def probe_movies(card: ModelCard, *, seed: int = 0) -> list[ProbeMovie]:
    """Movies that show a difference between two implementations of a network.

    Odd, non-square, exact and smallest sizes; one frame; an empty and an overexposed
    frame; calls of 1, 2, 5 and all frames.

    Parameters
    ----------
    card
        Card of the model; its ranges give photons and background.
    seed
        Of the spots and the noise.
    """
    m = card.architecture.size_multiple
    side = max(20, m)
    extremes = _spots(card, (4, m + 1, 2 * m + 3), seed + 1)
    extremes[1] = 0
    extremes[2, :, m:] = 2.0**16
    return [
        ProbeMovie(
            "odd size",
            _spots(card, (7, side + 1, side + 9), seed),
            ((7,), (1,) * 7, (2, 5)),
        ),
        ProbeMovie("exact size", _spots(card, (2, 2 * m, m), seed + 2), ((2,), (1, 1))),
        ProbeMovie("one frame", _spots(card, (1, 2 * m + 1, 3 * m), seed + 3), ((1,),)),
        ProbeMovie("extremes, camera maps", extremes, ((4,), (1, 2, 1)), True),
        ProbeMovie("one row", _spots(card, (2, 1, 5), seed + 4), ((1, 1),)),
    ]
