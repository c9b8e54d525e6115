"""Fitted candidates to photons, background, on-time and density.

What is counted, and why it is not biased:

* photons: of the middle frames of chains, in which the emitter was on all the time;
* background: of candidates that stand alone;
* on-time: `chains.on_time`;
* density: all candidates, corrected for what must be missing (`_density`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.fitting import Fits
from blinkloop.noise_check import NOISE_RATIOS
from blinkloop.optics import Camera
from blinkloop.training.prefit.candidates import Finder
from blinkloop.training.prefit.chains import Chains, link, on_time
from blinkloop.training.prefit.pairs import count_pairs
from blinkloop.training.prefit.psf_width import PsfWidth
from blinkloop.training.prefit.records import FEWEST, Measured, Range, Run

__all__ = ["facts", "most_misfit"]

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_WIDEN = 0.3
_QUANTILES = (0.01, 0.98)
_LINK_PX = (0.75, 2.0)
_MISFIT = 4.0
"""A window is well explained when its chi-square per pixel is at most so many standard
deviations (those of noise, sqrt(2 / pixels)) above 1, or three spreads above the
movie's own median: no PSF is perfect."""

_MEMORY = 5.0
"""On-times, and a frame each, after which no emitter is seen any more."""

_UNLIKE = 0.25
"""Share of a spot's light, squared, that the PSF does not explain: half of it."""

_TOGETHER = 0.3
"""Spots that come with others of the same frame are lobes from here on."""

_DIM = 1.5
"""Emitters below this multiple of the threshold are partly missed."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    """One run, its fits, which of them are good, and its chains."""

    run: Run
    fits: Fits
    good: Flags
    chains: Chains


def facts(
    runs: list[Run],
    fits: list[Fits],
    finder: Finder,
    camera: Camera,
    width: PsfWidth | None,
    noise_ratio: float,
) -> Measured:
    """What fitted runs tell.

    Raises
    ------
    InputError
        When too few fits are good, or too few emitters are seen in three frames.
    """
    parts = _chained(runs, fits, finder)
    kept = [part.good & part.chains.alone for part in parts]
    count = sum(int(np.count_nonzero(flags)) for flags in kept)
    found = sum(int(np.count_nonzero(~run.standing)) for run in runs)
    frames = sum(run.n_frames for run in runs)
    if count < FEWEST:
        raise InputError(
            f"only {count} of {found} spots in {frames} frames stand alone and look "
            f"like the PSF, but {FEWEST} are needed; check --psf and the pixel size, "
            f"or take a sparser or brighter movie"
        )
    warnings: list[str] = []
    beads = max(run.beads for run in runs)
    if beads:
        warnings.append(
            f"{beads} spot{'s shine' if beads > 1 else ' shines'} in nearly all frames "
            f"(beads, or dirt) and {'were' if beads > 1 else 'was'} left out"
        )
    if width is None and noise_ratio <= NOISE_RATIOS[1]:
        _another_psf(runs, fits, finder, warnings)
    time = _on_time(parts, warnings)
    flux, flux_error = _flux(parts, time, warnings)
    mean = float(flux.mean())
    sd = math.sqrt(max(float(flux.var()) - float(np.mean(flux_error**2)), 0.0))
    background = np.concatenate(
        [part.fits.background[flags] for part, flags in zip(parts, kept, strict=True)]
    )
    least = np.concatenate(
        [run.candidates.least_photons[~run.standing] for run in runs]
    )
    density, before = _density(parts, finder, camera, time.value, flux, least, warnings)
    if np.quantile(flux, 0.1) < _DIM * np.median(least):
        warnings.append(
            f"emitters need about {np.median(least):.0f} photons to be found here, so "
            f"the dim ones are missed: the flux is rather too high, on-time and "
            f"density rather too low"
        )
    if not NOISE_RATIOS[0] <= noise_ratio <= NOISE_RATIOS[1]:
        warnings.append(
            f"the noise of the movie is {noise_ratio:.2f} times what the camera facts "
            f"say; all photons hang on --e-per-adu, --em-gain and --baseline: check "
            f"them"
        )
    return Measured(
        frames=frames,
        candidates=found,
        fits=count,
        photons=_mean_range(flux),
        photons_relative_sd=sd / mean,
        background=_median_range(background),
        background_range=_widened(background),
        on_time=time,
        density_per_um2=density,
        density_found_per_um2=before,
        width=width,
        noise_ratio=noise_ratio,
        warnings=tuple(warnings),
    )


def _chained(runs: list[Run], fits: list[Fits], finder: Finder) -> list[_Fitted]:
    together = Fits.join(fits)
    blinking = ~np.concatenate([run.standing for run in runs])
    lone = np.concatenate([run.candidates.alone(finder.isolation_px) for run in runs])
    limit = most_misfit(together, lone & blinking)
    usable = together.good & blinking
    error = np.hypot(together.x_sigma_px, together.y_sigma_px)[usable]
    # Two positions, each with its error; three standard deviations of their distance.
    step = 3 * math.sqrt(2) * float(np.median(error)) if len(error) else 0.0
    radius = float(np.clip(step, *_LINK_PX))
    parts = []
    for run, fit in zip(runs, fits, strict=True):
        good = fit.good & (fit.pearson < limit * (fit.pixels - 5)) & ~run.standing
        chains = link(
            run.candidates,
            np.where(fit.good, fit.x_px, run.candidates.column),
            np.where(fit.good, fit.y_px, run.candidates.row),
            run.n_frames,
            radius_px=radius,
            isolation_px=finder.isolation_px,
        )
        # A bead is a neighbour like any other, but its frames tell no on-time.
        chains = replace(chains, exposed=chains.exposed & ~run.standing)
        parts.append(_Fitted(run, fit, good, chains))
    return parts


def most_misfit(fits: Fits, lone: Flags) -> float:
    """Chi-square per pixel of a window that one emitter explains.

    Spots that stand alone say it, and of these the better half: the worse one holds
    pairs that were found as one, many of them where the PSF is wide.
    """
    misfit = (fits.pearson / np.maximum(fits.pixels - 5, 1))[lone]
    middle = float(np.median(misfit))
    spread = 1.4826 * float(np.median(middle - misfit[misfit <= middle]))
    noise = math.sqrt(2 / float(fits.pixels.max()))
    return max(1 + _MISFIT * noise, middle + 3 * spread)


def _another_psf(
    runs: list[Run], fits: list[Fits], finder: Finder, warnings: list[str]
) -> None:
    """Warn when what a given PSF leaves of a spot is not small against the spot.

    Chi-square above that of noise is the squared error of the model over the variance;
    photons over their error, squared, is the spot itself in that unit. Of lone spots
    the lower quartile counts: others may be pairs.
    """
    together = Fits.join(fits)
    kept = ~np.concatenate([run.standing for run in runs])
    kept &= np.concatenate([run.candidates.alone(finder.isolation_px) for run in runs])
    kept &= np.isfinite(together.photons_sigma)
    if not kept.any():
        return
    pixels = np.maximum(together.pixels[kept] - 5, 1)
    excess = float(np.quantile(together.pearson[kept] / pixels, 0.25)) - 1
    spot = (together.photons / together.photons_sigma)[kept] ** 2
    unlike = excess / float(np.median(spot / pixels))
    if excess > _MISFIT * math.sqrt(2 / float(pixels.max())) and unlike > _UNLIKE:
        warnings.append(
            f"the spots do not look like the PSF given: it leaves "
            f"{100 * math.sqrt(min(unlike, 1.0)):.0f} % of their light (RMS) "
            f"unexplained, so every number is doubtful; is --psf of this microscope "
            f"and depth, and turned as the movie is?"
        )


def _on_time(parts: list[_Fitted], warnings: list[str]) -> Range:
    found = on_time([(part.run.candidates, part.chains, part.good) for part in parts])
    longest = max(part.run.n_frames for part in parts)
    if found is None or found.transitions < FEWEST:
        times = 0 if found is None else found.transitions
        lengths = np.concatenate([_lengths(part) for part in parts])
        value = max(1.0, float(lengths.mean()) - 1.0)
        warnings.append(
            f"only {times} times an emitter could be followed beyond its second frame; "
            f"the on-time is a guess from the mean length of {len(lengths)} groups"
        )
        return Range(value, 0.0, math.inf, len(lengths))
    if not found.frames < longest / 3:
        warnings.append(
            f"emitters stay on for a good part of the {longest} frames of a run: the "
            f"on-time is only known to be long; give a longer movie"
        )
    value = min(found.frames, float(longest))
    return Range(value, found.low, found.high, found.transitions)


def _lengths(part: _Fitted) -> Floats:
    """Frames of each chain, beads left out."""
    count = np.bincount(part.chains.chain[~part.run.standing])
    lengths: Floats = count[count > 0].astype(float)
    return lengths


def _flux(
    parts: list[_Fitted], time: Range, warnings: list[str]
) -> tuple[Floats, Floats]:
    """Photons per full frame of each emitter, and the error of each."""
    values, errors = [], []
    for part in parts:
        chains = part.chains
        middle = part.good & chains.alone & (chains.before >= 0) & (chains.after >= 0)
        mean, error = _per_chain(part, middle, average=True)
        values.append(mean)
        errors.append(error)
    flux, error = np.concatenate(values), np.concatenate(errors)
    if len(flux) >= FEWEST:
        middle_flux = float(np.median(flux))
        spread = 1.4826 * float(np.median(np.abs(flux - middle_flux)))
        usual = np.abs(flux - middle_flux) <= 5 * max(spread, 1e-9)
        return flux[usual], error[usual]
    warnings.append(
        f"only {len(flux)} emitters were seen in three frames or more; the flux is a "
        f"guess from all photons of an emitter and the on-time"
    )
    summed = []
    for part in parts:
        usable = part.good & part.chains.alone
        spoiled = np.unique(part.chains.chain[~usable])
        whole = usable & ~np.isin(part.chains.chain, spoiled)
        summed.append(_per_chain(part, whole, average=False)[0])
    total = np.concatenate(summed)
    if len(total) < FEWEST:
        raise InputError(
            f"only {len(total)} emitters stand alone from their first frame to their "
            f"last, but {FEWEST} are needed to measure their photons; give more frames "
            f"(--frames), a larger field or a sparser movie"
        )
    return total / max(time.value, 1.0), np.zeros(len(total))


def _per_chain(part: _Fitted, used: Flags, *, average: bool) -> tuple[Floats, Floats]:
    """Mean or sum of the photons of each chain's used candidates, and its error."""
    chain = part.chains.chain[used]
    count = np.bincount(chain)
    total = np.bincount(chain, part.fits.photons[used])
    variance = np.bincount(chain, part.fits.photons_sigma[used] ** 2)
    some = count > 0
    by = count[some] if average else np.ones(int(some.sum()))
    return total[some] / by, np.sqrt(variance[some]) / by


def _density(
    parts: list[_Fitted],
    finder: Finder,
    camera: Camera,
    on_time_frames: float,
    flux: Floats,
    least: Floats,
    warnings: list[str],
) -> tuple[Range, float]:
    """Emitters per um^2 that touch a frame, and those found.

    Two within an area A are found as one, the better: of a density D there remain
    (1 - exp(-D A)) / A (hard-core thinning, Matern 1960); A is counted from pairs of
    spots where there are enough, and else that of the finder. Then, an emitter
    must give the share c of its flux in a frame to be found; of the tau + 1 frames that
    it touches on average, (tau + 1 - c) exp(-c / tau) are left.
    """
    pixel_um = camera.settings.pixel_size_nm / 1000.0
    border = 2 * finder.border_px
    runs = [part.run for part in parts]
    memory = _MEMORY * (on_time_frames + 1)
    pairs = count_pairs(runs, finder.apart_px, 1000.0 * pixel_um, memory)
    hidden = finder.merged_px2 if pairs is None else pairs.hidden_px2
    if pairs is not None and pairs.together > _TOGETHER:
        warnings.append(
            f"spots light up in groups: each has {pairs.together:.1f} others within "
            f"2 um in its frame beyond chance, as the lobes of one PSF have, so every "
            f"number is of lobes, not of emitters; give the PSF of this microscope "
            f"(--psf), calibrated over the depth of the sample"
        )
    counts: list[float] = []
    for part in parts:
        run = part.run
        blinking = run.candidates.frame[~run.standing]
        per_frame = np.bincount(blinking, minlength=run.n_frames)
        inner = (run.height - border) * (run.width - border)
        area = max(inner - run.beads * hidden, 0.5 * inner) * pixel_um**2
        # Blocks longer than the memory of the blinking are independent.
        block = max(1, min(run.n_frames, math.ceil(4 * (on_time_frames + 1))))
        edges = np.arange(0, run.n_frames - block + 1, block)
        counts += (np.add.reduceat(per_frame, edges)[:-1] / block / area).tolist()
        last = per_frame[edges[-1] : edges[-1] + block]
        counts.append(float(last.mean() / area))
    found = float(np.mean(counts))
    error = 1.96 * float(np.std(counts)) / math.sqrt(len(counts))
    # Few blocks tell no spread; independent emitters scatter by this at least.
    lengths = np.concatenate([_lengths(part) for part in parts])
    error = max(error, 1.96 * found * float(np.linalg.norm(lengths) / lengths.sum()))
    filled = min(found * hidden * pixel_um**2, 0.95)
    merged = -math.log(1.0 - filled) / filled if filled > 0 else 1.0
    tau = max(on_time_frames, 0.1)
    c = np.clip(float(np.median(least)) / flux, 0.0, 1.0)
    seen = float(np.mean((tau + 1.0 - c) * np.exp(-c / tau))) / (tau + 1.0)
    factor = merged / seen
    if factor > 2.0:
        warnings.append(
            f"more than half of the emitters are not found ({found:.3g} per um^2 are), "
            f"so the density is not much more than a guess"
        )
    value = found * factor
    half = error * factor
    return Range(value, max(0.0, value - half), value + half, len(least)), found


def _widened(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, _QUANTILES)
    more = _WIDEN * (high - low)
    return max(0.0, float(low - more)), float(high + more)


def _mean_range(values: Floats) -> Range:
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / math.sqrt(len(values))
    return Range(mean, mean - half, mean + half, len(values))


def _median_range(values: Floats) -> Range:
    middle = float(np.median(values))
    half = 1.96 * 1.2533 * float(values.std()) / math.sqrt(len(values))
    return Range(middle, middle - half, middle + half, len(values))
