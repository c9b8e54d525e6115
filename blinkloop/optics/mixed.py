"""PSFs of different kinds in one stack: some frames' are Gaussians, others' splines.

Shapes: F frames, H x W px, E emitters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics._namespace import Array, array_namespace
from blinkloop.optics.spline import SplinePsf
from blinkloop.optics.varied import VariedGaussianPsf

__all__ = ["MixedEmitters", "MixedPsf"]

_Window = tuple[Array, Array, Array]


@dataclass(frozen=True, slots=True, eq=False)
class MixedPsf:
    """A PSF of its own for every frame, Gaussian or one of some splines.

    Parameters
    ----------
    gaussians
        F entries; used where `which` is negative.
    splines
        Those to choose from.
    which
        (F,) place in `splines`; negative: a Gaussian.
    """

    gaussians: VariedGaussianPsf
    splines: tuple[SplinePsf, ...]
    which: npt.NDArray[np.int64]

    def for_frames(self, first: int, last: int) -> MixedPsf:
        """The PSFs of frames first .. last - 1, counted from 0."""
        return MixedPsf(
            self.gaussians.for_frames(first, last),
            self.splines,
            self.which[first:last],
        )

    def for_emitters(self, frame: npt.NDArray[Any]) -> MixedEmitters:
        """The PSF that each emitter (E,) has in its frame."""
        return MixedEmitters(self, np.asarray(frame, np.int64))

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
        known = (frame >= 0) & (frame < len(self.which))
        spline = np.zeros(len(self.which) + 1, bool)
        spline[:-1] = self.which >= 0
        place = xp.clip(frame, 0, len(self.which))
        drawn_by = spline if xp is np else xp.as_tensor(spline, device=frame.device)
        round_ = xp.where(~drawn_by[place])[0]
        stack = self.gaussians.render(
            x_px[round_],
            y_px[round_],
            z_nm[round_],
            photons[round_],
            frame[round_],
            n_frames,
            height,
            width,
        )
        for first, last, number in _runs(self.which[:n_frames]):
            if number < 0:
                continue
            here = xp.where(known & (frame >= first) & (frame < last))[0]
            stack[first:last] += self.splines[number].render(
                x_px[here],
                y_px[here],
                z_nm[here],
                photons[here],
                frame[here] - first,
                last - first,
                height,
                width,
            )
        return stack


@dataclass(frozen=True, slots=True, eq=False)
class MixedEmitters:
    """The PSF of each emitter, with windows and derivatives as `SplinePsf`.

    Windows are as large as the largest; what a smaller one does not reach is 0.

    Parameters
    ----------
    psf
        Of the frames.
    frame
        (E,) frame of each emitter.
    """

    psf: MixedPsf
    frame: npt.NDArray[np.int64]

    def roi(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> tuple[Array, Array, Array]:
        """Windows (E, rows, columns), first columns and rows (E,); E at least 1."""
        places, parts = [], []
        for at, former in self._formers():
            parts.append(former.roi(x_px[at], y_px[at], z_nm[at], photons[at]))
            places.append(at)
        xp = array_namespace(x_px)
        return (
            _in_order(xp, places, [part[0] for part in parts]),
            _in_order(xp, places, [part[1] for part in parts]),
            _in_order(xp, places, [part[2] for part in parts]),
        )

    def derivatives(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> Array:
        """(E, 5, rows, columns) in the windows of `roi`; E at least 1."""
        places, parts = [], []
        for at, former in self._formers():
            parts.append(former.derivatives(x_px[at], y_px[at], z_nm[at], photons[at]))
            places.append(at)
        return _in_order(array_namespace(x_px), places, parts)

    def _formers(self) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
        """Which emitters, and what forms their images; every emitter once."""
        which = self.psf.which[self.frame]
        for number in np.unique(which).tolist():
            at = np.flatnonzero(which == number)
            if number >= 0:
                yield at, self.psf.splines[number]
        at = np.flatnonzero(which < 0)
        if at.size:
            yield at, self.psf.gaussians.for_emitters(self.frame[at])


def _runs(which: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """(first, end, value) of each run of equal values."""
    starts = np.flatnonzero(np.diff(which, prepend=-2))
    for first, last in zip(starts, [*starts[1:], len(which)], strict=True):
        yield int(first), int(last), int(which[first])


def _in_order(
    xp: Any, places: list[npt.NDArray[np.int64]], parts: list[Array]
) -> Array:
    """Rows back at their places; windows are filled up at their ends."""
    count = sum(len(at) for at in places)
    shape = np.max([part.shape[1:] for part in parts], axis=0).tolist()
    like = parts[0]
    made = {} if xp is np else {"device": like.device}
    out = xp.zeros((count, *shape), dtype=like.dtype, **made)
    for at, part in zip(places, parts, strict=True):
        window = tuple(slice(0, size) for size in part.shape[1:])
        out[(at, *window)] = part
    return out
