"""What prefit carries from step to step, and what it hands out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.fitting import Windows
from blinkloop.training.prefit.candidates import Candidates
from blinkloop.training.prefit.psf_width import PsfWidth

__all__ = ["FEWEST", "Measured", "Range", "Run"]

FEWEST = 30
"""Emitters (or transitions) below which a number is not worth to be believed."""


@dataclass(frozen=True, slots=True)
class Range:
    """A number, its 95 % interval, and how many things it was measured on."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a movie told.

    Parameters
    ----------
    frames, candidates, fits
        Read; found; fitted well and alone.
    photons
        Mean flux of an emitter, per full frame.
    photons_relative_sd
        SD of the flux between emitters over its mean, without the error of the fits.
    background
        Median per pixel and frame.
    background_range
        Quantiles widened by 30 % of their distance, as a recipe takes them.
    on_time
        Mean, in frames.
    density_per_um2
        Emitters that touch a frame.
    density_found_per_um2
        Before the correction for those that were missed.
    width
        Of the PSF, when none was given.
    noise_ratio
        SD of the noise over that of the camera facts.
    warnings
        What a person should know, in sentences.
    """

    frames: int
    candidates: int
    fits: int
    photons: Range
    photons_relative_sd: float
    background: Range
    background_range: tuple[float, float]
    on_time: Range
    density_per_um2: Range
    density_found_per_um2: float
    width: PsfWidth | None
    noise_ratio: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Candidates of one run of frames, and their windows.

    `standing` are those of spots that shine all the time, `beads` their number.
    """

    n_frames: int
    height: int
    width: int
    candidates: Candidates
    windows: Windows
    standing: npt.NDArray[np.bool_]
    beads: int
