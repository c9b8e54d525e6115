"""The best estimate that noisy frames allow, from the truth and the noise.

One step of Fisher scoring that begins at the truth,

    t = truth + F^-1 score,

where F is the Fisher information of all frames in which the emitter is seen and the
score that of their noise, has the mean `truth` and the covariance F^-1: to first order
it is the maximum-likelihood estimate, and the truth given the frames is spread about t
with F^-1 (van der Vaart, Asymptotic Statistics, 1998, doi:10.1017/CBO9780511802256,
sections 5.7 and 10.2). A simulation knows all that is needed: the other emitters and
the background are taken as known.

Shapes: F frames, H x W px, E rows, P parameters: x, y, z, photons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blinkloop.optics._namespace import Array, array_namespace, full_like_dtype

__all__ = [
    "Differentiable",
    "Estimates",
    "Exposed",
    "efficient_estimates",
    "parameters_of",
]

_NAMES = ("x_px", "y_px", "z_nm", "photons")
_MOST_SD = (0.3, 0.3, 120.0, 0.25)
"""x and y in px, z in nm, photons relative: less certain estimates are left out.

One step is the estimate only where the image changes linearly over the uncertainty.
"""


class Differentiable(Protocol):
    """A PSF with derivatives in windows; `GaussianPsf` and `SplinePsf` are such."""

    def derivatives(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> Array: ...

    def roi(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True, slots=True)
class Exposed:
    """Frames and what they were drawn from; (F, H, W) photons each, of one library.

    `variance` is that of the noise; infinite where a pixel says nothing.
    """

    frames: Array
    expected: Array
    variance: Array


@dataclass(frozen=True, slots=True)
class Estimates:
    """x px, y px, z nm, photons of each row.

    Parameters
    ----------
    value
        (E, 4); the truth where there is no estimate.
    variance
        (E, 4) in the squared units; 0 where there is no estimate.
    known
        (E,) whether there is one.
    """

    value: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]
    known: npt.NDArray[np.bool_]


def efficient_estimates(
    rows: npt.NDArray[np.void],
    psf: Differentiable,
    exposed: Exposed,
    *,
    three_dimensional: bool = True,
) -> Estimates:
    """Estimates of each row from its own frame and the ones before and after.

    Parameters
    ----------
    rows
        `EMITTER_DTYPE`; rows of one `id` in frames t - 1, t, t + 1 are one emitter at
        one place with photons of their own. Frames of different movies must not
        share an `id`.
    psf
        Forms the images.
    exposed
        The frames 0 .. F - 1.
    three_dimensional
        False: z is taken as known.
    """
    count = len(rows)
    truth = parameters_of(rows)
    information, score = _information(rows, psf, exposed)
    used = np.array([0, 1, 2, 3] if three_dimensional else [0, 1, 3])
    information = information[:, used[:, None], used]
    score = score[:, used]
    # Frames before and after know the place, with photons of their own.
    flux = information[:, -1, -1]
    seen = flux > 0
    share = information[:, :-1, -1] / np.where(seen, flux, 1.0)[:, None]
    place = information[:, :-1, :-1] - share[:, :, None] * information[:, None, -1, :-1]
    pull = score[:, :-1] - share * score[:, -1:]
    total, push = information.copy(), score.copy()
    for one, other in _pairs(rows):
        total[one, :-1, :-1] += place[other]
        push[one, :-1] += pull[other]
    diagonal = np.diagonal(total, axis1=1, axis2=2)
    good = (diagonal > 0).all(1)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    unit = total / (scale[:, :, None] * scale[:, None, :])
    unit[~good] = np.eye(len(used))
    # Blind directions get a huge, finite variance and are left out below.
    unit += 1e-9 * np.eye(len(used))
    inverse = np.linalg.inv(unit)
    step = np.einsum("eab,eb->ea", inverse, push / scale) / scale
    variance = np.diagonal(inverse, axis1=1, axis2=2) / scale**2
    limit = np.tile(_MOST_SD, (count, 1))[:, used]
    limit[:, -1] *= truth[:, 3]
    good &= (variance < limit**2).all(1)
    value, spread = truth.copy(), np.zeros_like(truth)
    value[np.ix_(good, used)] += step[good]
    spread[np.ix_(good, used)] = variance[good]
    return Estimates(value, spread, good)


def parameters_of(rows: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """(E, 4) x px, y px, z nm, photons of `EMITTER_DTYPE` rows."""
    return np.stack([rows[name] for name in _NAMES], 1).astype(np.float64)


def _pairs(
    rows: npt.NDArray[np.void],
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Indices of rows and of the same emitters' rows one frame before, and after."""
    order = np.lexsort((rows["frame"], rows["id"]))
    first, second = order[:-1], order[1:]
    same = rows["id"][first] == rows["id"][second]
    same &= rows["frame"][first] + 1 == rows["frame"][second]
    first, second = first[same], second[same]
    return [(second, first), (first, second)]


def _information(
    rows: npt.NDArray[np.void], psf: Differentiable, exposed: Exposed
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fisher information (E, 4, 4) and score (E, 4) of each row's own frame."""
    if not len(rows):
        return np.zeros((0, 4, 4)), np.zeros((0, 4))
    like = exposed.expected
    xp = array_namespace(like)
    place = [full_like_dtype(rows[name].astype(np.float32), like) for name in _NAMES]
    slopes = psf.derivatives(*place)[:, :4]
    _, column, row = psf.roi(*place)
    tall, wide = int(slopes.shape[2]), int(slopes.shape[3])
    height, width = like.shape[1:]
    weight = 1.0 / exposed.variance
    pull = (exposed.frames - exposed.expected) * weight
    at = _whole(xp, rows["frame"], like)
    down = row[:, None] + _range(xp, tall, like)
    across = column[:, None] + _range(xp, wide, like)
    inside = ((down >= 0) & (down < height))[:, :, None]
    inside = inside & ((across >= 0) & (across < width))[:, None, :]
    flat = down.clip(0, height - 1)[:, :, None] * width
    flat = flat + across.clip(0, width - 1)[:, None, :]
    flat = flat + at[:, None, None] * (height * width)
    seen = weight.reshape(-1)[flat] * inside
    noise = pull.reshape(-1)[flat] * inside
    slopes = slopes.reshape(len(rows), 4, -1)
    seen, noise = seen.reshape(len(rows), -1), noise.reshape(len(rows), -1)
    weighted = xp.swapaxes(slopes * seen[:, None], 1, 2)
    return (
        _numbers(xp.matmul(slopes, weighted)),
        _numbers(xp.matmul(slopes, noise[:, :, None])[:, :, 0]),
    )


def _whole(xp: Any, values: npt.NDArray[Any], like: Array) -> Array:
    """int64 on the device of `like`."""
    whole = values.astype(np.int64)
    return whole if xp is np else xp.as_tensor(whole, device=like.device)


def _range(xp: Any, count: int, like: Array) -> Array:
    return np.arange(count) if xp is np else xp.arange(count, device=like.device)


def _numbers(values: Array) -> npt.NDArray[np.float64]:
    host = values if isinstance(values, np.ndarray) else values.cpu().numpy()
    return host.astype(np.float64)
