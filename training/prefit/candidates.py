"""Where emitters may be: maxima of background-subtracted, matched-filtered frames.

A template is the PSF minus its mean in a window, or a Gaussian minus a broader one
(difference of Gaussians) when no PSF is known. Its response is insensitive to a flat
background, and its noise follows from the expected variance of the pixels: a
candidate's signal-to-noise ratio means the same in every frame and for every camera.

Shapes: T frames of H x W px, C candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.fit_models import FitPsf
from blinkloop.optics import Camera, pixel_variance
from blinkloop.optics.gaussian import gaussian_lines

__all__ = ["Candidates", "Finder", "disk"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SNR_MIN = 5.5
"""Noise alone reaches this about once in 10^7 pixels (more where light is scarce)."""

_WIDTHS = (1.0, 1.7)
"""Without a PSF: templates of these widths, in units of a focused one."""

_FOCUS_NM = 130.0
"""SD of a focused PSF of visible light at high aperture."""

_LIGHT = 0.85
"""A template's window holds this share of the PSF's light at every z."""

_MERGED = 1.75
"""Two emitters are found as one within so many `apart_px`: the dark ring of a template
around a bright one hides a dim one. Measured on simulated movies (docs/prefit.md)."""

_MOST_HALF_PX = 15
_DEPTHS = 7


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Maxima above the threshold, sorted by frame; every array is (C,).

    `snr` is the response over its noise, `least_photons` what an emitter there needs
    to be found.
    """

    frame: Integers
    column: Integers
    row: Integers
    snr: Floats
    least_photons: Floats

    def __len__(self) -> int:
        return int(self.frame.shape[0])

    def alone(self, radius_px: float) -> npt.NDArray[np.bool_]:
        """(C,) no other candidate of the same frame within the radius."""
        if not len(self):
            return np.zeros(0, np.bool_)
        spatial = extras.require("scipy.spatial", "Finding emitters", "train")
        # Frames far apart in a third coordinate: one search for all of them.
        apart = 2.0 * radius_px + 1.0
        points = np.stack([self.column, self.row, self.frame * apart], 1)
        distance, _ = spatial.cKDTree(points).query(points, k=2)
        lone: npt.NDArray[np.bool_] = distance[:, 1] > radius_px
        return lone


@dataclass(frozen=True, slots=True, eq=False)
class Finder:
    """Finds candidates with the templates of one microscope.

    Parameters
    ----------
    templates
        Each (2 half + 1)^2, sum 0.
    gains
        Response of each to its own PSF with one photon.
    apart_px
        Of two maxima closer than this, the better one is kept.
    half_px
        Half of the window that a fit needs.
    border_px
        Candidates closer to the edge of the frame are left out.
    """

    templates: tuple[Floats, ...]
    gains: tuple[float, ...]
    apart_px: int
    half_px: int
    border_px: int

    @classmethod
    def for_psf(cls, psf: FitPsf, z_range_nm: tuple[float, float]) -> Finder:
        """Templates of a known PSF at depths over its range."""
        low, high = z_range_nm
        z = np.linspace(low, high, _DEPTHS if high > low else 1)
        drawn = np.zeros((len(z), 2 * _MOST_HALF_PX + 1, 2 * _MOST_HALF_PX + 1))
        at = np.zeros(len(z))
        images, column, row = psf.roi(at, at, z, np.ones(len(z)))
        rows = np.arange(images.shape[1]) + row[0] + _MOST_HALF_PX
        columns = np.arange(images.shape[2]) + column[0] + _MOST_HALF_PX
        in_rows = (rows >= 0) & (rows < drawn.shape[1])
        in_columns = (columns >= 0) & (columns < drawn.shape[2])
        kept = np.asarray(images)[:, in_rows][:, :, in_columns]
        drawn[:, rows[in_rows][:, None], columns[in_columns]] = kept
        half = _half_of_light(drawn)
        side = slice(_MOST_HALF_PX - half, _MOST_HALF_PX + half + 1)
        return cls._of(drawn[:, side, side], half)

    @classmethod
    def for_pixel(cls, pixel_size_nm: float) -> Finder:
        """Templates for a Gaussian of usual width: no PSF is known."""
        sigma = float(np.clip(_FOCUS_NM / pixel_size_nm, 0.8, 4.0))
        half = math.ceil(3.5 * sigma)
        drawn = [_gaussian(width * sigma, half) for width in _WIDTHS]
        broad = [_gaussian(2.5 * width * sigma, half) for width in _WIDTHS]
        images = np.array([n - b / b.sum() * n.sum() for n, b in zip(drawn, broad)])  # noqa: B905
        gains = tuple(
            float((image * template).sum())
            for image, template in zip(drawn, images, strict=True)
        )
        apart = math.ceil(2.0 * sigma)
        fit_half = int(np.clip(math.ceil(4.0 * sigma), 4, 10))
        return cls(tuple(images), gains, apart, fit_half, apart)

    @classmethod
    def _of(cls, images: Floats, half: int) -> Finder:
        templates = images - images.mean((1, 2), keepdims=True)
        gains = tuple((templates * images).sum((1, 2)).tolist())
        steps = np.arange(-half, half + 1)
        away = steps[:, None] ** 2 + steps**2
        light = images.clip(min=0)
        spread = (light * away).sum((1, 2)) / light.sum((1, 2))
        # Twice the SD along one axis, of the sharpest and of the broadest image.
        apart = math.ceil(2.0 * math.sqrt(0.25 * (spread.min() + spread.max())))
        return cls(tuple(templates), gains, apart, max(half, 4), apart)

    @property
    def isolation_px(self) -> int:
        """Emitters farther apart do not spoil each other's fit."""
        return self.half_px + self.apart_px

    @property
    def merged_px2(self) -> float:
        """Area around an emitter in which a dimmer one is not found."""
        return math.pi * (_MERGED * self.apart_px) ** 2

    def find(self, photons: npt.NDArray[np.float32], camera: Camera) -> Candidates:
        """Candidates of a run of frames (T, H, W) in photons."""
        ndimage = extras.require("scipy.ndimage", "Finding emitters", "train")
        level = _level(photons, ndimage)
        found: list[tuple[Integers, Integers, Integers, Floats, Floats]] = []
        b, (height, width) = self.border_px, photons.shape[1:]
        inner = np.zeros((height, width), np.bool_)
        inner[b : height - b, b : width - b] = True
        around = disk(self.apart_px)
        smooth_px = 0.75 * self.apart_px
        dark = np.sqrt(np.maximum(pixel_variance(level, camera), 1e-6))
        for number, frame in enumerate(photons):
            # An emitter's own light is noise for what is close to it.
            light = np.maximum(level, ndimage.gaussian_filter(frame, smooth_px))
            noise = np.sqrt(np.maximum(pixel_variance(light, camera), 1e-6))
            best, least = self._responses(frame, noise, dark, ndimage)
            top = ndimage.maximum_filter(best, footprint=around, mode="nearest")
            row, column = np.nonzero((best >= top) & (best > SNR_MIN) & inner)
            row, column = _first_of_plateaus(row, column, self.apart_px)
            snr, needed = best[row, column], least[row, column]
            at = np.full(len(row), number, np.int64)
            found.append((at, column, row, snr, needed))
        at, column, row, snr, needed = map(np.concatenate, zip(*found, strict=True))
        return Candidates(at, column, row, snr, needed)

    def _responses(
        self,
        frame: npt.NDArray[np.float32],
        noise: Floats,
        dark: Floats,
        ndimage: Any,
    ) -> tuple[Floats, Floats]:
        """Best signal-to-noise ratio of all templates, and the photons it takes.

        `noise` is that of a pixel with its light, `dark` with background alone.
        """
        best = np.full(frame.shape, -np.inf)
        least = np.full(frame.shape, np.inf)
        for template, gain in zip(self.templates, self.gains, strict=True):
            spread = float(np.sqrt((template**2).sum()))
            answer = _correlate(frame, template, ndimage.correlate)
            ratio = answer / (spread * noise)
            better = ratio > best
            best = np.where(better, ratio, best)
            needed = SNR_MIN * spread * dark / gain
            least = np.where(better, needed, least)
        return best, least


def _correlate(frame: npt.NDArray[np.float32], template: Floats, direct: Any) -> Floats:
    """Correlation with mirrored borders; by FFT where the template is large."""
    if template.shape[0] < 15:
        weights = template.astype(np.float32)
        small: Floats = direct(frame, weights, mode="mirror")
        return small
    signal = extras.require("scipy.signal", "Finding emitters", "train")
    half = template.shape[0] // 2
    reach = min(half, frame.shape[0] - 1, frame.shape[1] - 1)
    padded = np.pad(frame, reach, mode="reflect")
    padded = np.pad(padded, half - reach, mode="edge")
    answer: Floats = signal.fftconvolve(
        padded, template[::-1, ::-1].astype(np.float32), mode="valid"
    )
    return answer


def _level(photons: npt.NDArray[np.float32], ndimage: Any) -> Floats:
    """(H, W) background, never negative: blinking emitters are gone in the median."""
    step = max(1, len(photons) // 50)
    median = np.median(photons[::step], axis=0)
    level: Floats = ndimage.median_filter(median, 5, mode="mirror")
    return np.maximum(level, 0.0)


def _gaussian(sigma: float, half: int) -> Floats:
    at, first = np.zeros(1), np.full(1, -half)
    line = gaussian_lines(at, np.full(1, sigma), first, 2 * half + 1)[0][0]
    image: Floats = line[:, None] * line
    return image


def _half_of_light(images: Floats) -> int:
    """Smallest half window that holds most of the light of every image."""
    middle = _MOST_HALF_PX
    total = images.clip(min=0).sum((1, 2))
    for half in range(3, middle):
        side = slice(middle - half, middle + half + 1)
        if (images[:, side, side].clip(min=0).sum((1, 2)) > _LIGHT * total).all():
            return half
    return middle


def disk(radius: int) -> npt.NDArray[np.bool_]:
    """(2 radius + 1)^2 pixels, True within the radius."""
    steps = np.arange(-radius, radius + 1)
    inside: npt.NDArray[np.bool_] = steps[:, None] ** 2 + steps**2 <= radius**2
    return inside


def _first_of_plateaus(
    row: Integers, column: Integers, apart: int
) -> tuple[Integers, Integers]:
    """Of maxima that tie within `apart`, the first in reading order."""
    kept: list[int] = []
    for i in range(len(row)):
        for j in reversed(kept):
            if row[i] - row[j] > apart:
                kept.append(i)
                break
            if (row[i] - row[j]) ** 2 + (column[i] - column[j]) ** 2 <= apart**2:
                break
        else:
            kept.append(i)
    return row[kept], column[kept]
