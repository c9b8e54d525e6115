"""One frame of the virtual microscope after the other: photons, ADU, truth.

Design notes
------------
Knows no Micro-Manager: power in, frame out. Time is simulated time, frame k lasts from
k to k + 1 exposures, whatever the clock says; so the same seed and the same powers give
the same frames. There is no look-ahead: a frame is simulated when it is asked for, with
the power then in force, and the laser acts within one frame. Structure, blinking, and
camera noise have their own random streams, so that changing one leaves the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.virtual.background import Background
from blinkloop.integrations.virtual.kinetics import BlinkingPool
from blinkloop.integrations.virtual.settings import VirtualSettings
from blinkloop.integrations.virtual.structures import random_streams, sample_positions
from blinkloop.integrations.virtual.truth import TRUTH_FRAME_DTYPE
from blinkloop.optics import Camera
from blinkloop.psf_file import load_psf
from blinkloop.schema import EMITTER_DTYPE

__all__ = ["DETECTABLE_PHOTONS", "Simulator"]

DETECTABLE_PHOTONS = 50.0
"""Emitters with fewer photons in a frame do not count as detectable."""


class Simulator:
    """The sample and the optics.

    Parameters
    ----------
    settings
        What to simulate.
    """

    def __init__(self, settings: VirtualSettings) -> None:
        sites, blinks, noise, field = random_streams(settings.seed)
        s = self._settings = settings
        self._positions = sample_positions(s, sites)
        kinetics = s.kinetics
        self._pool = BlinkingPool(
            s.pool,
            on_time_ms=kinetics.on_time_ms,
            bleach_fraction=kinetics.bleach_fraction,
            photons=s.photons,
            photons_spread=s.photons_spread,
            rng=blinks,
        )
        self._background = Background(s.background, s.height_px, s.width_px, field)
        self._psf = load_psf(s.psf)
        self._camera = Camera(s.camera_facts)
        self._noise = noise
        self._frames = 0

    @property
    def positions(self) -> npt.NDArray[np.float64]:
        """(pool, 3) x_px, y_px, z_nm of every emitter of the sample; id = row."""
        return self._positions

    @property
    def frames(self) -> int:
        """Frames simulated so far, all acquisitions together."""
        return self._frames

    def frame(
        self, out: npt.NDArray[np.uint16], power_mw: float, number: int
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Simulate the next frame.

        Parameters
        ----------
        out
            (H, W) filled in place with ADU.
        power_mw
            Activation laser power during the frame.
        number
            Frame number to write into the truth.

        Returns
        -------
        tuple
            Emitters of the frame (n,) `EMITTER_DTYPE`, those in the margin included;
            the frame's row (1,) `TRUTH_FRAME_DTYPE`.
        """
        s = self._settings
        rate_per_s = (
            s.kinetics.spontaneous_per_s + s.kinetics.activation_per_mw_s * power_mw
        )
        time_s = self._frames * s.exposure_ms / 1000
        self._frames += 1
        blinks = self._pool.step(rate_per_s / 1000, s.exposure_ms)
        x_px, y_px, z_nm = self._positions[blinks.id].T
        background = self._background.at(time_s)
        expected = (
            background
            + self._psf.render(
                x_px.astype(np.float32),
                y_px.astype(np.float32),
                z_nm.astype(np.float32),
                blinks.photons.astype(np.float32),
                np.zeros(blinks.id.size, np.int64),
                1,
                s.height_px,
                s.width_px,
            )[0]
        )
        # Float rounding in the PSF's tails may give -1e-9, which Poisson refuses.
        np.maximum(expected, 0, out=expected)
        out[:] = self._camera.forward(expected, self._noise)

        emitters = np.zeros(blinks.id.size, EMITTER_DTYPE)
        emitters["frame"] = number
        emitters["id"] = blinks.id
        emitters["x_px"], emitters["y_px"], emitters["z_nm"] = x_px, y_px, z_nm
        emitters["photons"] = blinks.photons
        row = np.clip(np.rint(y_px).astype(int), 0, s.height_px - 1)
        column = np.clip(np.rint(x_px).astype(int), 0, s.width_px - 1)
        emitters["background_photons"] = background[row, column]
        inside = s.in_field(x_px, y_px)
        facts = np.zeros(1, TRUTH_FRAME_DTYPE)
        facts[0] = (
            number,
            time_s,
            power_mw,
            int(inside.sum()),
            int((inside & (blinks.photons >= DETECTABLE_PHOTONS)).sum()),
            blinks.on_mean,
            self._pool.n_dark,
            self._pool.n_bleached,
            float(background.mean()),
        )
        return emitters, facts
