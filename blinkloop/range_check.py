"""Whether the data lie within what the model was trained for.

Design notes
------------
Fed with arrays frame by frame, in any portions; keeps histograms and sums only, so a
run of any length takes the same memory. Says in plain words what is outside, why it
matters and what to do. It does not compare shapes: `PsfCheck` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics import GaussianPsf
from blinkloop.precision import precision_px
from blinkloop.schema import CameraSettings, GaussianPsfSettings, ModelCard

__all__ = ["RangeReport", "TrainingRangeCheck"]

_ENOUGH = 100
"""Localizations below which their statistics say nothing."""


@dataclass(frozen=True, slots=True)
class RangeReport:
    """What lies outside, and the numbers behind it.

    Parameters
    ----------
    warnings
        One line each; empty when nothing is outside.
    facts
        `frames, localizations, photons_median, background_median,
        frame_median_photons, density_per_um2, saturated_fraction, prob_median,
        sigma_over_bound_median, z_at_ends_fraction`; None where not known.
    """

    warnings: tuple[str, ...]
    facts: dict[str, float | int | None]


class _Histogram:
    """Quantiles of a stream; logarithmic bins when `log`."""

    def __init__(self, low: float, high: float, *, log: bool, bins: int = 400) -> None:
        self._log = log
        first, last = (np.log(low), np.log(high)) if log else (low, high)
        self._edges = np.linspace(first, last, bins + 1)
        self._counts = np.zeros(bins, np.int64)

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count finite values; those beyond the ends go into the last bins."""
        values = values[np.isfinite(values)].astype(np.float64)
        if self._log:
            values = np.log(np.maximum(values, np.exp(self._edges[0])))
        values = np.clip(values, self._edges[0], self._edges[-1])
        self._counts += np.histogram(values, self._edges)[0]

    def median(self) -> float | None:
        """Interpolated within its bin; None when empty."""
        total = self.count
        if total == 0:
            return None
        cumulative = np.concatenate([[0], np.cumsum(self._counts)])
        value = float(np.interp(total / 2, cumulative, self._edges))
        return float(np.exp(value)) if self._log else value


@dataclass(slots=True)
class _Sums:
    frames: int = 0
    localizations: int = 0
    emitters: float = 0.0
    not_emitters: float = 0.0
    area_um2: float = 0.0
    pixels: int = 0
    saturated: int = 0
    z_known: int = 0
    z_at_ends: int = 0
    frame_medians: list[float] = field(default_factory=list)


class TrainingRangeCheck:
    """Collects statistics of a run and compares them with the model card.

    Parameters
    ----------
    card
        Of the model.
    camera
        Facts in use; those of the card by default.
    """

    def __init__(self, card: ModelCard, camera: CameraSettings | None = None) -> None:
        self._card = card
        self._camera = camera or card.camera
        self._sums = _Sums()
        self._photons = _Histogram(1, 1e7, log=True)
        self._background = _Histogram(1e-2, 1e6, log=True)
        self._prob = _Histogram(0, 1, log=False)
        self._ratio = _Histogram(1e-2, 1e3, log=True)
        psf = card.psf
        self._psf = GaussianPsf(psf) if isinstance(psf, GaussianPsfSettings) else None

    def add(
        self,
        localizations: npt.NDArray[np.void],
        *,
        frames: int,
        height: int,
        width: int,
        emitters: float | None = None,
        not_emitters: float = 0.0,
    ) -> None:
        """Count the localizations of some frames.

        Parameters
        ----------
        localizations
            (n,) of `LOCALIZATION_DTYPE`.
        frames
            Number of frames they come from, those without any included.
        height, width
            Of the frames, px.
        emitters
            Sum of p over these frames; the number of localizations by default.
        not_emitters
            How much of that comes from hot pixels: it stays in the density that is
            reported, but calls for no less activation.
        """
        sums = self._sums
        sums.frames += frames
        sums.localizations += len(localizations)
        sums.emitters += len(localizations) if emitters is None else emitters
        sums.not_emitters += not_emitters
        pixel_um = self._camera.pixel_size_nm / 1e3
        sums.area_um2 += frames * height * width * pixel_um**2
        self._photons.add(localizations["photons"])
        self._background.add(localizations["background_photons"])
        self._prob.add(localizations["prob"])
        z = localizations["z_nm"]
        low, high = self._card.z_range_nm
        if high > low:
            known = z[np.isfinite(z)]
            edge = 0.05 * (high - low)
            sums.z_known += len(known)
            sums.z_at_ends += int(np.sum((known < low + edge) | (known > high - edge)))
        if self._psf is not None:
            self._ratio.add(self._sigma_ratio(localizations))

    def add_pixels(self, adu: npt.NDArray[Any], photons: npt.NDArray[Any]) -> None:
        """Look at the pixels of a frame; a few frames of a run are enough.

        Parameters
        ----------
        adu
            (H, W) as the camera gave it.
        photons
            (H, W) the same in photons, not clipped.
        """
        limit = 2**self._camera.bit_depth - 1
        if np.issubdtype(adu.dtype, np.integer):
            limit = min(limit, int(np.iinfo(adu.dtype).max))
        self._sums.pixels += adu.size
        self._sums.saturated += int(np.count_nonzero(adu >= limit))
        if len(self._sums.frame_medians) < 1000:
            self._sums.frame_medians.append(float(np.median(photons)))

    def report(self) -> RangeReport:
        """What is outside so far."""
        sums = self._sums
        medians = sums.frame_medians
        facts: dict[str, float | int | None] = {
            "frames": sums.frames,
            "localizations": sums.localizations,
            "photons_median": self._photons.median(),
            "background_median": self._background.median(),
            "frame_median_photons": float(np.median(medians)) if medians else None,
            "density_per_um2": _ratio(sums.emitters, sums.area_um2),
            "saturated_fraction": _ratio(sums.saturated, sums.pixels),
            "prob_median": self._prob.median(),
            "sigma_over_bound_median": self._ratio.median(),
            "z_at_ends_fraction": _ratio(sums.z_at_ends, sums.z_known),
        }
        found = [*self._of_pixels(facts), *self._of_localizations(facts)]
        return RangeReport(tuple(found), facts)

    def _of_pixels(self, facts: dict[str, float | int | None]) -> list[str]:
        ranges, sums = self._card.training_ranges, self._sums
        found = []
        low, high = ranges.background_photons
        level = facts["frame_median_photons"]
        if level is not None and level < min(0.0, low) - 0.05 * (high - low):
            found.append(
                f"half of the pixels lie below the camera's baseline "
                f"({self._camera.baseline_adu:g} ADU; median {level:.4g} photons): "
                f"background and photons are wrong; say the true one with --baseline"
            )
        elif level is not None and not low / 2 <= level <= high * 2:
            found.append(
                f"the frames have {level:.4g} photons per pixel (median), the model "
                f"was trained with a background of {low:g} to {high:g}; check "
                f"--baseline and --e-per-adu, or train for this background"
            )
        saturated = facts["saturated_fraction"]
        if saturated is not None and saturated > 1e-4:
            found.append(
                f"{saturated:.2%} of the pixels are saturated: their emitters have "
                f"wrong photons and positions; lower the exposure or the gain"
            )
        density = _ratio(sums.emitters - sums.not_emitters, sums.area_um2)
        most = self._card.density_per_um2_at(self._camera.pixel_size_nm)[1]
        if density is not None and density > 1.2 * most:
            found.append(
                f"{density:.2g} emitters per um^2 and frame are more than the model "
                f"was trained for ({most:g}): expect missed and merged ones; lower the "
                f"activation"
            )
        return found

    def _of_localizations(self, facts: dict[str, float | int | None]) -> list[str]:
        if self._sums.localizations < _ENOUGH:
            return []
        ranges = self._card.training_ranges
        found = []
        low, high = ranges.background_photons
        background = facts["background_median"]
        if background is not None and not 0.8 * low <= background <= 1.1 * high:
            found.append(
                f"the localizations have a background of {background:.4g} photons per "
                f"pixel (median), the model was trained for {low:g} to {high:g}: check "
                f"--baseline and --e-per-adu, or train for this background"
            )
        low, high = ranges.photons
        photons = facts["photons_median"]
        # Emitters are on for a part of a frame, so fewer photons than the lowest mean
        # are usual; many more are not.
        if photons is not None and not 0.3 * low <= photons <= 1.5 * high:
            found.append(
                f"the localizations have {photons:.4g} photons (median), the model was "
                f"trained for {low:g} to {high:g} per frame: check --e-per-adu and "
                f"--em-gain, or train for this brightness"
            )
        prob = facts["prob_median"]
        if prob is not None and prob < 0.5:
            found.append(
                f"the network is unsure: the median probability is {prob:.2f}; the "
                f"data may not look like what it was trained for"
            )
        ratio = facts["sigma_over_bound_median"]
        if ratio is not None and ratio > 4:
            found.append(
                f"the network states a lateral precision {ratio:.1f} times worse than "
                f"light alone would allow (median): the PSF, the noise or the crowding "
                f"is not what it was trained for"
            )
        ends = facts["z_at_ends_fraction"]
        if ends is not None and ends > 0.35:
            a, b = self._card.z_range_nm
            found.append(
                f"{ends:.0%} of the localizations lie at the ends of the model's z "
                f"range ({a:g} to {b:g} nm): the sample is deeper, out of focus, "
                f"or the PSF is another one"
            )
        return found

    def _sigma_ratio(
        self, localizations: npt.NDArray[np.void]
    ) -> npt.NDArray[np.float64]:
        """Stated lateral precision over the theoretical bound of a lone emitter."""
        if self._psf is None or len(localizations) == 0:
            return np.empty(0)
        z = np.nan_to_num(localizations["z_nm"].astype(np.float64))
        sigma_x, sigma_y = (np.asarray(s) for s in self._psf.sigmas_px(z))
        photons = localizations["photons"].astype(np.float64)
        background = localizations["background_photons"].astype(np.float64)
        excess = 2.0 if self._camera.kind == "emccd" else 1.0
        photons = photons * self._camera.quantum_efficiency / excess
        background = background * self._camera.quantum_efficiency / excess
        bound = np.hypot(
            precision_px(sigma_x, photons, background),
            precision_px(sigma_y, photons, background),
        )
        stated = np.hypot(localizations["x_sigma_px"], localizations["y_sigma_px"])
        return np.asarray(stated / bound, np.float64)


def _ratio(above: float, below: float) -> float | None:
    return above / below if below > 0 else None
