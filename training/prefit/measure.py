"""From a movie to what a training needs to know, by single-emitter fits.

Steps (REFERENCE section 11, with the corrections told in docs/prefit.md): candidates in
runs of consecutive frames, maximum-likelihood fits, chains of frames, facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.fit_models import FitPsf
from blinkloop.fitting import Fits, Windows, cut_windows, fit_psf, fit_widths
from blinkloop.optics import Camera
from blinkloop.training.prefit.candidates import Finder
from blinkloop.training.prefit.facts import facts
from blinkloop.training.prefit.frames import PixelCheck
from blinkloop.training.prefit.psf_width import PsfWidth, measure_width
from blinkloop.training.prefit.records import FEWEST, Measured, Run
from blinkloop.training.prefit.standing import standing_spots

__all__ = ["measure"]

_ENOUGH = 20_000
"""Isolated candidates after which no further run is read."""

_WIDTH_FITS = 3000
"""Windows fitted to learn whether the PSF is astigmatic."""

_MOST_FILLED = 0.65
"""Beyond this, and with few lone spots, spots are clusters that nobody can count."""

_LEAST_ALONE = 0.3


def measure(
    runs: Iterable[npt.NDArray[Any]],
    camera: Camera,
    *,
    psf: FitPsf | None = None,
    z_range_nm: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Measure a movie.

    Parameters
    ----------
    runs
        Stretches of consecutive frames, each (T, H, W) in ADU; read one by one, and
        only until there is enough.
    camera
        What the frames come from; its pixel size gives the density.
    psf
        Calibrated PSF; None: a Gaussian whose width is measured.
    z_range_nm
        Range of z of the PSF; None: its own.
    progress
        Called with the frames read and the candidates found so far.

    Raises
    ------
    InputError
        When the movie cannot tell: no emitters, too few or too many, saturated, a wrong
        baseline, frames that do not change.
    """
    if psf is not None:
        z_range_nm = z_range_nm or psf.z_range_nm
        finder = Finder.for_psf(psf, z_range_nm)
    else:
        finder = Finder.for_pixel(camera.settings.pixel_size_nm)
    parts, check = _read(runs, camera, finder, progress)
    frames = sum(part.n_frames for part in parts)
    found = sum(int(np.count_nonzero(~part.standing)) for part in parts)
    if found < FEWEST:
        beads = max(part.beads for part in parts)
        but = f" that blink (and {beads} that always shine)" if beads else ""
        raise InputError(
            f"only {found} spots{but} above the noise in {frames} frames, but {FEWEST} "
            f"are needed; give more frames (--frames), a movie of blinking emitters, "
            f"or the right camera facts (--e-per-adu, --em-gain)"
        )
    lone = [
        part.candidates.alone(finder.isolation_px) & ~part.standing for part in parts
    ]
    count = sum(int(np.count_nonzero(flags)) for flags in lone)
    filled = _filled(parts, finder)
    crowded = filled > _MOST_FILLED and count < _LEAST_ALONE * found
    if count < FEWEST or crowded:
        raise InputError(
            f"only {count} of {found} spots in {frames} frames stand alone (no other "
            f"within {finder.isolation_px} px): too dense for single-emitter fits; "
            f"take a sparser part of the movie, or write the recipe by hand"
        )
    width = _width(parts, lone) if psf is None else None
    fits = [_fit(part.windows, psf, z_range_nm, width) for part in parts]
    return facts(parts, fits, finder, camera, width, check.noise_ratio)


def _filled(parts: list[Run], finder: Finder) -> float:
    """Share of the field that is too close to some spot for another to be found."""
    border = 2 * finder.border_px
    seen = [p.n_frames * (p.height - border) * (p.width - border) for p in parts]
    found = sum(len(part.candidates) for part in parts)
    return found * finder.merged_px2 / sum(seen)


def _read(
    runs: Iterable[npt.NDArray[Any]],
    camera: Camera,
    finder: Finder,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Run], PixelCheck]:
    """Candidates of as many runs as it takes, and their windows."""
    parts: list[Run] = []
    check: PixelCheck | None = None
    frames = found = alone = 0
    for adu in runs:
        whole = bool(np.issubdtype(adu.dtype, np.integer))
        check = check or PixelCheck(camera, whole)
        photons = camera.backward(adu.astype(np.float32))
        check.look(adu, photons)
        size = 2 * finder.half_px + 1
        if min(adu.shape[1:]) < size + 2 * finder.border_px:
            raise InputError(
                f"frames of {adu.shape[1]} x {adu.shape[2]} px are too small for fits "
                f"of {size} x {size} px; give a movie of a larger field"
            )
        candidates = finder.find(photons, camera)
        windows = cut_windows(
            photons,
            candidates.frame,
            candidates.column,
            candidates.row,
            finder.half_px,
            camera,
        )
        height, width = photons.shape[1:]
        standing = standing_spots(
            candidates, len(adu), (height, width), finder.apart_px
        )
        parts.append(Run(len(adu), height, width, candidates, windows, *standing))
        frames, found = frames + len(adu), found + len(candidates)
        lone = candidates.alone(finder.isolation_px) & ~parts[-1].standing
        alone += int(np.count_nonzero(lone))
        if progress is not None:
            progress(frames, found)
        if alone >= _ENOUGH:
            break
    if check is None:
        raise InputError("the movie holds no frames that can be read")
    check.finish()
    return parts, check


def _width(parts: list[Run], lone: list[npt.NDArray[np.bool_]]) -> PsfWidth:
    """The PSF's width from some of the isolated candidates of all runs."""
    share = min(1.0, _WIDTH_FITS / max(1, sum(int(flags.sum()) for flags in lone)))
    step = max(1, round(1 / share))
    fits = [
        fit_widths(part.windows.part(np.flatnonzero(flags)[::step]), separate=True)
        for part, flags in zip(parts, lone, strict=True)
    ]
    together = Fits.join(fits)
    if int(np.count_nonzero(together.good)) < FEWEST:
        raise InputError(
            f"only {np.count_nonzero(together.good)} of {len(together)} spots could be "
            f"fitted with a Gaussian, but {FEWEST} are needed; give the PSF of this "
            f"microscope (--psf), or a movie with brighter emitters"
        )
    return measure_width(together)


def _fit(
    windows: Windows,
    psf: FitPsf | None,
    z_range_nm: tuple[float, float] | None,
    width: PsfWidth | None,
) -> Fits:
    if psf is not None:
        return fit_psf(windows, psf, z_range_nm=z_range_nm)
    return fit_widths(windows, separate=width is not None and width.astigmatism > 0)
