"""PSFs and cameras that differ from frame to frame, for networks that serve many.

A stack of frames of several microscopes is drawn in one go: every fact is an array
with one entry per frame. `for_frames` gives the part for some of the frames.

Shapes: F frames, H x W px, E emitters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from blinkloop.optics._namespace import Array, array_namespace, full_like_dtype
from blinkloop.optics.camera import draw_gamma, draw_normal, draw_poisson
from blinkloop.optics.gaussian import (
    REACH,
    astigmatic_sigmas,
    astigmatic_slopes,
    gaussian_derivatives,
    gaussian_windows,
    render_gaussians,
    window_corner,
)

__all__ = ["EmitterGaussians", "VariedCamera", "VariedGaussianPsf", "VariedPsf"]


@runtime_checkable
class VariedPsf(Protocol):
    """An image former with a PSF of its own for every frame."""

    def for_frames(self, first: int, last: int) -> VariedPsf:
        """Those of frames first .. last - 1, counted from 0."""
        ...

    def for_emitters(self, frame: Array) -> Any:
        """The PSF that each emitter (E,) has in its frame: `Differentiable`."""
        ...

    def render(
        self,
        x_px: Array,
        y_px: Array,
        z_nm: Array,
        photons: Array,
        frame: Array,
        n_frames: int,
        height: int,
        width: int,
    ) -> Array:
        """(n_frames, height, width) expected photons, as `GaussianPsf.render`."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class VariedGaussianPsf:
    """Pixel-integrated Gaussians whose width and astigmatism belong to the frame.

    sigma_x(z) = s0 sqrt(1 + ((z + a)/d)^2), sigma_y(z) with z - a, as `GaussianPsf`.

    Parameters
    ----------
    sigma0_px, astigmatism_nm, depth_nm
        (F,) one entry per frame.
    """

    sigma0_px: Array
    astigmatism_nm: Array
    depth_nm: Array

    def for_frames(self, first: int, last: int) -> VariedGaussianPsf:
        """The PSFs of frames first .. last - 1, counted from 0."""
        part = slice(first, last)
        return VariedGaussianPsf(
            self.sigma0_px[part], self.astigmatism_nm[part], self.depth_nm[part]
        )

    def sigmas_px(self, z_nm: Array, frame: Array) -> tuple[Array, Array]:
        """Standard deviations (E,) along x and y, px, of emitters at z in a frame."""
        facts = (self.sigma0_px, self.astigmatism_nm, self.depth_nm)
        of_frame = [full_like_dtype(fact, z_nm)[frame] for fact in facts]
        return astigmatic_sigmas(z_nm, *of_frame)

    def for_emitters(self, frame: Array) -> EmitterGaussians:
        """The PSF that each emitter (E,) has in its frame."""
        return EmitterGaussians(
            self.sigma0_px[frame], self.astigmatism_nm[frame], self.depth_nm[frame]
        )

    def render(
        self,
        x_px: Array,
        y_px: Array,
        z_nm: Array,
        photons: Array,
        frame: Array,
        n_frames: int,
        height: int,
        width: int,
    ) -> Array:
        """(n_frames, height, width) expected photons, as `GaussianPsf.render`."""
        xp = array_namespace(x_px)
        known = xp.clip(frame, 0, self.sigma0_px.shape[0] - 1)
        sigma_x, sigma_y = self.sigmas_px(z_nm, known)
        return render_gaussians(
            x_px, y_px, sigma_x, sigma_y, photons, frame, n_frames, height, width
        )


@dataclass(frozen=True, slots=True, eq=False)
class EmitterGaussians:
    """One Gaussian PSF per emitter, with windows and derivatives as `GaussianPsf`.

    Parameters
    ----------
    sigma0_px, astigmatism_nm, depth_nm
        (E,) one entry per emitter.
    """

    sigma0_px: Array
    astigmatism_nm: Array
    depth_nm: Array

    def _widths(
        self, z_nm: Array
    ) -> tuple[tuple[Array, Array], tuple[Array, Array], int]:
        """Standard deviations, px, their slopes by z, px/nm, and half a window."""
        s0, a, d = (
            full_like_dtype(fact, z_nm)
            for fact in (self.sigma0_px, self.astigmatism_nm, self.depth_nm)
        )
        sigmas = astigmatic_sigmas(z_nm, s0, a, d)
        widest = max(float(sigma.max()) for sigma in sigmas)
        slopes = astigmatic_slopes(z_nm, s0, a, d, sigmas)
        return sigmas, slopes, math.ceil(REACH * widest)

    def roi(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> tuple[Array, Array, Array]:
        """Windows (E, rows, columns), first columns and rows (E,); E at least 1."""
        sigmas, _, half = self._widths(z_nm)
        return gaussian_windows(x_px, y_px, photons, sigmas, half)

    def derivatives(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> Array:
        """(E, 5, rows, columns) in the windows of `roi`; E at least 1."""
        sigmas, slopes, half = self._widths(z_nm)
        first = window_corner(x_px, y_px, half)
        shape = (2 * half + 1, 2 * half + 1)
        return gaussian_derivatives(x_px, y_px, photons, sigmas, slopes, first, shape)


@dataclass(frozen=True, slots=True, eq=False)
class VariedCamera:
    """Cameras whose facts belong to the frame, in photoelectrons.

    Electrons are counted before multiplication, so an EMCCD of gain g with read noise
    r and e_per_adu k appears with r / g and k / g: only the excess noise tells it from
    another camera.

    Parameters
    ----------
    multiplied
        (F,) bool: EM register, whose excess noise doubles the variance of shot noise.
    read_noise_e, spurious_e, e_per_adu, baseline_adu
        (F, 1, 1), or (F, H, W) for maps. `baseline_adu` is the mean of dark frames
        without spurious charge.
    saturation_adu
        Largest value of the ADC.
    quantum_efficiency
        Photoelectrons per photon.
    """

    multiplied: Array
    read_noise_e: Array
    spurious_e: Array
    e_per_adu: Array
    baseline_adu: Array
    saturation_adu: float = 65535.0
    quantum_efficiency: float = 1.0

    def for_frames(self, first: int, last: int) -> VariedCamera:
        """The cameras of frames first .. last - 1, counted from 0."""
        part = slice(first, last)
        return VariedCamera(
            self.multiplied[part],
            self.read_noise_e[part],
            self.spurious_e[part],
            self.e_per_adu[part],
            self.baseline_adu[part],
            self.saturation_adu,
            self.quantum_efficiency,
        )

    def forward(self, photons: Array, rng: Any) -> Array:
        """Expected photons (F, H, W) to whole ADU, float dtype of the input.

        Rounds to the nearest number, so that the mean of dark frames is the baseline.
        """
        xp = array_namespace(photons)
        spurious, read, per_adu, offset = (
            full_like_dtype(fact, photons)
            for fact in (
                self.spurious_e,
                self.read_noise_e,
                self.e_per_adu,
                self.baseline_adu,
            )
        )
        expected = self.quantum_efficiency * photons + spurious
        electrons = draw_poisson(xp, expected, rng)
        multiplied = xp.where(xp.asarray(self.multiplied))[0]
        if multiplied.shape[0]:
            electrons[multiplied] = draw_gamma(xp, electrons[multiplied], 1.0, rng)
        electrons = electrons + read * draw_normal(xp, electrons, rng)
        adu = xp.floor(electrons / per_adu + (offset + 0.5))
        return xp.clip(adu, 0, self.saturation_adu)

    def backward(self, adu: Array) -> Array:
        """ADU (F, H, W) to photons, same shape; may be negative."""
        offset = full_like_dtype(self.baseline_adu, adu)
        electrons = (adu - offset) * full_like_dtype(self.e_per_adu, adu)
        electrons = electrons - full_like_dtype(self.spurious_e, adu)
        return electrons / self.quantum_efficiency
