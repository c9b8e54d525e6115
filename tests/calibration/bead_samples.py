"""Simulated bead stacks of known PSFs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blinkloop.optics import GaussianPsf, SplinePsf
from blinkloop.schema import GaussianPsfSettings
from blinkloop.training.calibration.spline_fit import spline_coefficients

GOLDEN = Path(__file__).parents[1] / "golden" / "decode_spline.npz"


def astigmatic():
    return GaussianPsf(GaussianPsfSettings(z_range_nm=(-800, 800)))


def golden_spline():
    """A spline through the voxels of DECODE's golden PSF: 13 x 13 px, 21 x 50 nm.

    The golden coefficients themselves jump at the voxels' borders (they are random
    numbers in part); no bead looks like that.
    """
    with np.load(GOLDEN) as file:
        samples = file["coeff"][..., 0].astype(np.float64)
        reference = tuple(float(v) for v in file["ref0"])
    return SplinePsf(spline_coefficients(samples, closed=True), reference, 50.0)


class Lobes:
    """Two or four Gaussian lobes that move with z: double helix, tetrapod.

    A double helix turns by 180 degrees over 1.6 um; the lobes of a tetrapod open along
    y below and along x above the focus.
    """

    def __init__(self, kind, size_px=1.3, reach_px=4.0):
        self.kind, self.size, self.reach = kind, size_px, reach_px
        self.z_range_nm = (-800.0, 800.0)

    def places(self, z):
        if self.kind == "helix":
            angle = np.pi * z / 1600
            x, y = self.reach * np.cos(angle), self.reach * np.sin(angle)
            return [(x, y), (-x, -y)]
        open_x = self.reach * np.maximum(z, 0) / 300 + 1.2
        open_y = self.reach * np.maximum(-z, 0) / 300 + 1.2
        return [(open_x, 0 * z), (-open_x, 0 * z), (0 * z, open_y), (0 * z, -open_y)]

    def render(self, x, y, z, photons, frame, n_frames, height, width):
        spot = GaussianPsf(GaussianPsfSettings(sigma0_px=self.size, astigmatism_nm=0))
        places = self.places(np.asarray(z))
        stack = 0.0
        for dx, dy in places:
            share = photons / len(places)
            stack = stack + spot.render(
                x + dx, y + dy, 0 * z, share, frame, n_frames, height, width
            )
        return stack


def stack_of(
    psf,
    beads,
    rng,
    *,
    dz_nm=50.0,
    slices=33,
    shape=(48, 61),
    photons=60_000.0,
    background=20.0,
    offset_adu=100.0,
    drift_px=(0.0, 0.0),
    rising=True,
    noise=True,
):
    """(Z, H, W) uint16 ADU of beads (x, y[, brightness[, z]]) at 1 photon per ADU.

    The focus rises from slice to slice, so the emitters fall: slice k shows them at
    (middle - k) dz_nm + their z. `drift_px` is the way in x, y over the stack.
    """
    height, width = shape
    k = np.arange(slices)
    stage = ((slices - 1) / 2 - k) * dz_nm
    total = np.zeros((slices, height, width))
    for bead in beads:
        x, y, bright, z = (*bead, *(1.0, 0.0)[len(bead) - 2 :])
        ones = np.ones(slices)
        part = k / (slices - 1) - 0.5
        total += psf.render(
            x + drift_px[0] * part,
            y + drift_px[1] * part,
            stage + z,
            photons * bright * ones,
            k,
            slices,
            height,
            width,
        )
    light = np.maximum(total, 0) + background
    adu = (rng.poisson(light) if noise else light) + offset_adu
    adu = np.clip(adu, 0, 65535).astype(np.uint16)
    return adu if rising else adu[::-1]


def places(rng, shape, apart, border):
    """Places on a grid, each moved at random by less than a pixel."""
    rows = np.arange(border, shape[0] - border, apart)
    columns = np.arange(border, shape[1] - border, apart)
    grid = [(float(x), float(y)) for y in rows for x in columns]
    return [(x + rng.uniform(-0.5, 0.5), y + rng.uniform(-0.5, 0.5)) for x, y in grid]
