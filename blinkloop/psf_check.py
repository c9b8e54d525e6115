"""Whether the PSF in the data looks like the model's PSF.

A network finds something in any data. This check renders what it found with the PSF it
was made for, cuts the frame (d) and the rendering (m) into patches around detections,
each without its mean, and compares the mean patches. Sums over pairs of *different*
patches i != j, within bins of z, leave out what differs from patch to patch: noise, and
neighbours, found or missed, which lie anywhere.

    correlation = sum d_i m_j / sqrt(sum d_i d_j  sum m_i m_j)

So it is 1 when the mean spot has the shape of the model, however dim or crowded the
data are, and falls with light where the model has none. It cannot see what leaves the
shape as it is: an exchange of the axes of an astigmatic PSF is a change of sign of z.

Design notes
------------
Knows frames in photons and tables, no model file and no movie. A few frames suffice;
cost is one rendering per frame. The interval is a jackknife over groups of patches, so
that few or dim detections lead to silence rather than to a false alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blinkloop.errors import BlinkloopError
from blinkloop.schema import (
    CameraSettings,
    GaussianPsfSettings,
    ModelCard,
    SplinePsfSettings,
)

__all__ = ["PsfAgreement", "PsfCheck", "jackknife"]

_RADIUS_PX, _SMALL_RADIUS_PX, _SMALL_FRAME_PX = 7, 5, 48
"""Half width of a patch; in small frames a wide one would leave few positions."""
_MIN_PATCHES = 30
# A network in training, on movies of its own PSF: 0.998 to 1.000 at 0.2 to 1.5 emitters
# per um^2. Its PSF 27 % too wide: 0.983; a 2D movie: 0.96; real Tetrapod frames: 0.97.
_WARN_BELOW = 0.985
_GROUPS = 10
_Z_BINS = 5
_AT_ONCE = 100
"""Emitters rendered at once: a live run has other things to keep in memory."""

_Floats = npt.NDArray[np.float64]


class _Psf(Protocol):
    def render(
        self,
        x_px: Any,
        y_px: Any,
        z_nm: Any,
        photons: Any,
        frame: Any,
        n_frames: int,
        height: int,
        width: int,
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class PsfAgreement:
    """How well data and model agree.

    Parameters
    ----------
    patches
        Patches compared.
    correlation
        1 = same shape; NaN when there was too little to compare.
    interval
        Its central 95 %; NaN likewise.
    chi2
        Mean squared residual over the expected noise, 1 = nothing left but noise;
        missed neighbours raise it, too.
    better_scale
        The model's PSF times this in width looks more like the data; 1 = it does not,
        or was not tried.
    """

    patches: int
    correlation: float
    interval: tuple[float, float]
    chi2: float
    better_scale: float = 1.0

    @property
    def warning(self) -> str | None:
        """One line when the PSF does not look like the model's, else None."""
        # A comparison with NaN is False: too little to compare gives no warning.
        if not self.interval[1] < _WARN_BELOW:
            return self._scale_warning
        return (
            f"the PSF in the data does not look like the model's PSF (correlation "
            f"{self.correlation:.2f}; the mean spot of {self.patches} detections "
            f"differs by {self.difference:.0%}): positions, z and photons cannot be "
            f"trusted; use a model trained for the PSF of this microscope"
        )

    @property
    def _scale_warning(self) -> str | None:
        if self.better_scale == 1.0:
            return None
        word = "wider" if self.better_scale > 1 else "narrower"
        return (
            f"the spots in the data are about 10 % {word} than the model's PSF, or "
            f"more ({self.patches} detections compared): density and z are biased; "
            f"check --pixel-size-nm and the focus, or train for the PSF of this "
            f"microscope"
        )

    @property
    def difference(self) -> float:
        """RMS difference of the mean spots after scaling, relative to the data's."""
        return float(np.sqrt(max(0.0, 1 - min(1.0, self.correlation) ** 2)))


class PsfCheck:
    """Compares frames with what the localizations in them would look like.

    Parameters
    ----------
    psf
        PSF of the model; anything with `render` of `blinkloop.optics`.
    camera
        For the noise.
    max_patches
        Patches after which frames are ignored; `enough` is then True.

    See Also
    --------
    PsfCheck.for_card : Of a model; None where its PSF is not known.
    """

    def __init__(
        self, psf: _Psf, camera: CameraSettings, *, max_patches: int = 400
    ) -> None:
        self._psf = psf
        self._max = max_patches
        excess = 2.0 if camera.kind == "emccd" else 1.0
        qe = camera.quantum_efficiency
        # Photons are electrons / qe; a variance scales with the square.
        self._shot = excess / qe
        gain = camera.em_gain if camera.kind == "emccd" else 1.0
        read = 0.0 if camera.kind == "ideal" else camera.read_noise_e / gain
        self._read = (read**2 + camera.spurious_e) / qe**2
        self._radius: int | None = None
        self._data: list[npt.NDArray[np.float64]] = []
        self._model: list[npt.NDArray[np.float64]] = []
        self._z: list[float] = []
        self._chi2: list[float] = []

    @classmethod
    def for_card(
        cls,
        card: ModelCard,
        camera: CameraSettings | None = None,
        *,
        model: Path | None = None,
    ) -> PsfCheck | None:
        """A check for a model; None when its PSF is not known.

        The coefficients of a measured PSF are in their own file, not in the card: it
        is looked for beside the model file.

        Parameters
        ----------
        card
            Of the model.
        camera
            Facts in use; those of the card by default.
        model
            The model file.
        """
        camera = camera or card.camera
        if isinstance(card.psf, SplinePsfSettings):
            spline = None if model is None else _measured(card.psf, model)
            return None if spline is None else cls(spline, camera)
        if not isinstance(card.psf, GaussianPsfSettings):
            return None
        from blinkloop.psf_scale_check import PsfScaleCheck  # it is one of these

        return PsfScaleCheck(card.psf, camera)

    @property
    def enough(self) -> bool:
        """True when further frames would be ignored."""
        return len(self._z) >= self._max

    def add(
        self,
        photons: npt.NDArray[Any],
        localizations: npt.NDArray[np.void],
        *,
        origin: tuple[int, int] = (0, 0),
    ) -> None:
        """Compare one frame.

        Parameters
        ----------
        photons
            (H, W) the frame in photons.
        localizations
            (n,) of `LOCALIZATION_DTYPE`, of that frame.
        origin
            Chip column and row of its first pixel.
        """
        if self.enough or len(localizations) == 0:
            return
        height, width = photons.shape
        x = localizations["x_px"] - origin[0]
        y = localizations["y_px"] - origin[1]
        n = localizations["photons"].astype(np.float64)
        z = np.nan_to_num(localizations["z_nm"].astype(np.float64))
        usable = np.isfinite(x) & np.isfinite(y) & (n > 0)
        if not usable.any():
            return
        x, y, n, z = x[usable], y[usable], n[usable], z[usable]
        model = self._rendered(x, y, z, n, height, width)
        data = photons.astype(np.float64)
        if self._radius is None:
            small = min(height, width) < _SMALL_FRAME_PX
            self._radius = _SMALL_RADIUS_PX if small else _RADIUS_PX
        r = self._radius
        column, row = np.rint(x).astype(int), np.rint(y).astype(int)
        inside = (column >= r) & (column < width - r) & (row >= r) & (row < height - r)
        prob = localizations["prob"][usable]
        sure = inside & ~(prob < 0.5)  # a table without probabilities is used whole
        taken = np.zeros((height, width), bool)
        for i in np.argsort(-n, kind="stable"):
            at = (row[i], column[i])
            # One patch per spot: overlapping ones would count the same pixels twice.
            if not sure[i] or taken[at] or self.enough:
                continue
            window = (slice(at[0] - r, at[0] + r + 1), slice(at[1] - r, at[1] + r + 1))
            taken[window] = True
            self._keep(data[window], model[window], float(z[i]), float(n[i]))

    def _rendered(
        self, x: _Floats, y: _Floats, z: _Floats, n: _Floats, height: int, width: int
    ) -> _Floats:
        """Expected photons (H, W); memory does not grow with the emitters."""
        model = np.zeros((height, width))
        for first in range(0, x.size, _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            zero = np.zeros(x[some].size, np.int64)
            one = (x[some], y[some], z[some], n[some])
            model += np.asarray(self._psf.render(*one, zero, 1, height, width))[0]
        return model

    def result(self) -> PsfAgreement:
        """What was found so far."""
        count = len(self._z)
        if count < _MIN_PATCHES:
            return PsfAgreement(count, np.nan, (np.nan, np.nan), np.nan)
        whole, left = self.correlations()
        spread = jackknife(left)
        return PsfAgreement(
            patches=count,
            correlation=whole,
            interval=(whole - 1.96 * spread, whole + 1.96 * spread),
            chi2=float(np.mean(self._chi2)),
        )

    def correlations(self) -> tuple[float, npt.NDArray[np.float64]]:
        """Correlation of all patches, and of those without one group after another."""
        d, m = np.array(self._data), np.array(self._model)
        z = np.array(self._z)
        # Equally filled bins: the spot changes with z, its mean must not mix that.
        edges = np.quantile(z, np.linspace(0, 1, _Z_BINS + 1)[1:-1])
        bins = np.searchsorted(edges, z)
        group = np.arange(len(z)) % _GROUPS
        left = [
            _correlation(d[keep], m[keep], bins[keep])
            for keep in (group != g for g in range(_GROUPS))
        ]
        return _correlation(d, m, bins), np.array(left)

    def _keep(
        self,
        data: npt.NDArray[np.float64],
        model: npt.NDArray[np.float64],
        z_nm: float,
        photons: float,
    ) -> None:
        # Between equal patches (dim ones are noise) and equal photons (a few bright
        # ones would rule alone).
        weight = photons**-0.5
        d, m = data - data.mean(), model - model.mean()
        self._data.append(d.ravel() * weight)
        self._model.append(m.ravel() * weight)
        self._z.append(z_nm)
        # The frame itself estimates its shot noise without knowing the true image.
        noise = max(0.0, float(data.sum())) * self._shot + data.size * self._read
        self._chi2.append(float(((d - m) ** 2).sum()) / max(noise, 1e-12))


def _measured(psf: SplinePsfSettings, model: Path) -> _Psf | None:
    """The measured PSF beside a model file; None where it is not there, or another."""
    from blinkloop.psf_file import file_sha256, read_psf

    for place in (model.parent / psf.file, model.parent / Path(psf.file).name):
        try:
            if not psf.sha256 or file_sha256(place) == psf.sha256:
                return read_psf(place).psf()
        except (OSError, BlinkloopError):
            continue  # a check is no reason to end a fit
    return None


def jackknife(left: npt.NDArray[np.float64]) -> float:
    """SD of an estimate from its values without one group after another."""
    # Variance = (G - 1) / G times the sum of squared deviations.
    return float(np.sqrt((len(left) - 1) * np.mean((left - left.mean()) ** 2)))


def _correlation(
    d: npt.NDArray[np.float64], m: npt.NDArray[np.float64], bins: npt.NDArray[np.int64]
) -> float:
    """Correlation of the mean patches; NaN when the data hold no common signal."""
    dm = dd = mm = 0.0
    for number in np.unique(bins):
        di, mi = d[bins == number], m[bins == number]
        pairs = len(di) * (len(di) - 1)
        if pairs == 0:
            continue
        sum_d, sum_m = di.sum(axis=0), mi.sum(axis=0)
        dm += float(sum_d @ sum_m - (di * mi).sum()) / pairs
        dd += float(sum_d @ sum_d - (di * di).sum()) / pairs
        mm += float(sum_m @ sum_m - (mi * mi).sum()) / pairs
    if dd <= 0 or mm <= 0:
        return float("nan")
    return dm / float(np.sqrt(dd * mm))
