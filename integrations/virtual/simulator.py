"""One frame of the virtual microscope after the other: photons, ADU, truth.

Design notes
------------
Knows no Micro-Manager: power in, frame out. Time is simulated time, the sum of the
exposures, whatever the clock says; so the same seed, powers, exposures and regions give
the same frames. There is no look-ahead: a frame is simulated when it is asked for, with
the power then in force, and the laser acts within one frame. Structure, blinking,
camera noise, drift and sensor have their own random streams, so that changing one
leaves the others.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.virtual.background import Background, out_of_focus_pattern
from blinkloop.integrations.virtual.drift import Drift
from blinkloop.integrations.virtual.kinetics import BlinkingPool
from blinkloop.integrations.virtual.sensor import draw_sensor, make_camera
from blinkloop.integrations.virtual.settings import VirtualSettings
from blinkloop.integrations.virtual.structures import random_streams, sample_positions
from blinkloop.integrations.virtual.truth import TRUTH_FRAME_DTYPE
from blinkloop.optics.emitter_image import emitter_image
from blinkloop.optics.sensor import SensorMaps
from blinkloop.optics.shot_noise import draw_counts
from blinkloop.psf_file import load_psf
from blinkloop.runtime.records import Roi
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
        sites, blinks, noise, field, moves, pixels = random_streams(settings.seed)
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
        size = (s.height_px, s.width_px)
        self._background = Background(s.background, *size, field)
        self._haze: npt.NDArray[np.float32] | None = None
        if s.background.out_of_focus > 0:
            sigma_px = s.background.out_of_focus_sigma_px
            pattern = out_of_focus_pattern(self._positions, sigma_px, *size)
            self._haze = np.float32(s.background.out_of_focus) * pattern
        self._drift = Drift(s.drift, s.pixel_size_nm, moves)
        self._maps: SensorMaps | None = None
        if s.sensor.uneven:
            self._maps = draw_sensor(s.sensor, s.camera_facts, *size, pixels)
        self._psf = load_psf(s.psf)
        self._noise = noise
        self._frames = 0
        self._time_s = 0.0

    @property
    def positions(self) -> npt.NDArray[np.float64]:
        """(pool, 3) x_px, y_px, z_nm of every emitter before drift; id = row."""
        return self._positions

    @property
    def sensor_maps(self) -> SensorMaps | None:
        """Offset, gain and noise of each pixel; None when all are alike."""
        return self._maps

    @property
    def frames(self) -> int:
        """Frames simulated so far, all acquisitions together."""
        return self._frames

    def frame(
        self,
        out: npt.NDArray[np.uint16],
        power_mw: float,
        number: int,
        *,
        roi: Roi | None = None,
        exposure_ms: float | None = None,
        shutter: bool = True,
    ) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Simulate the next frame.

        Parameters
        ----------
        out
            (H, W) filled in place with ADU; of the ROI.
        power_mw
            Activation laser power during the frame.
        number
            Frame number to write into the truth.
        roi
            Part of the chip that is read out; None = all of it.
        exposure_ms
            None = that of the settings. Light grows with it.
        shutter
            False: no light reaches the camera, though the sample goes on.

        Returns
        -------
        tuple
            Emitters of the frame (n,) `EMITTER_DTYPE`, in coordinates of the chip,
            those beside the ROI included; the frame's row (1,) `TRUTH_FRAME_DTYPE`.
        """
        s = self._settings
        roi = roi or Roi(0, 0, s.width_px, s.height_px)
        part = (
            slice(roi.y, roi.y + roi.height),
            slice(roi.x, roi.x + roi.width),
        )
        exposure_ms = exposure_ms or s.exposure_ms
        longer = exposure_ms / s.exposure_ms
        rate_per_s = (
            s.kinetics.spontaneous_per_s + s.kinetics.activation_per_mw_s * power_mw
        )
        time_s = self._time_s
        self._time_s += exposure_ms / 1000
        self._frames += 1
        blinks = self._pool.step(rate_per_s / 1000, exposure_ms)
        photons = blinks.photons * longer
        positions = self._positions[blinks.id] + self._drift.advance(exposure_ms / 1000)
        background = self._background.at(time_s)[part] * np.float32(longer)
        if self._haze is not None:
            background = background + self._haze[part] * np.float32(photons.sum())
        seen = positions - [roi.x, roi.y, 0.0]
        if shutter:
            image = emitter_image(self._psf, seen, photons, roi.height, roi.width)
            image += background
        else:
            image = np.zeros((roi.height, roi.width), np.float32)
        self._expose(image, part, out)

        x_px, y_px, z_nm = positions.T
        emitters = np.zeros(blinks.id.size, EMITTER_DTYPE)
        emitters["frame"] = number
        emitters["id"] = blinks.id
        emitters["x_px"], emitters["y_px"], emitters["z_nm"] = x_px, y_px, z_nm
        emitters["photons"] = photons
        row = np.clip(np.rint(seen[:, 1]).astype(int), 0, roi.height - 1)
        column = np.clip(np.rint(seen[:, 0]).astype(int), 0, roi.width - 1)
        emitters["background_photons"] = background[row, column]
        middle = [(roi.width - 1) / 2, (roi.height - 1) / 2]
        half = [roi.width / 2, roi.height / 2]
        inside = np.all(np.abs(seen[:, :2] - middle) <= half, axis=1)
        facts = np.zeros(1, TRUTH_FRAME_DTYPE)
        facts[0] = (
            number,
            time_s,
            power_mw,
            int(inside.sum()),
            int((inside & (photons >= DETECTABLE_PHOTONS)).sum()),
            blinks.on_mean,
            self._pool.n_dark,
            self._pool.n_bleached,
            float(background.mean()),
            exposure_ms,
            *self._drift.nm,
        )
        return emitters, facts

    def _expose(
        self,
        image: npt.NDArray[np.float32],
        part: tuple[slice, slice],
        out: npt.NDArray[np.uint16],
    ) -> None:
        """Expected photons to ADU."""
        # Float rounding in a PSF's tails may give -1e-9.
        np.maximum(image, 0, out=image)
        facts = self._settings.camera_facts
        camera = make_camera(facts, self._maps, part)
        image *= np.float32(facts.quantum_efficiency)
        image += np.float32(facts.spurious_e)
        out[:] = camera.read_out(draw_counts(image, self._noise), self._noise)
