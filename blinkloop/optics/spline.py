"""Cubic-spline PSF: image, windows and derivatives.

A voxel (i, j, k) of 1 px x 1 px x dz holds the polynomial

    value = sum a[i, j, k, 16 kz + 4 ky + kx] dx^kx dy^ky dz^kz,   0 <= dx, dy, dz < 1

(Li et al. 2018, doi:10.1038/nmeth.4661; REFERENCE section 5). An emitter at (x, y, z)
is seen by pixel (column, row) at the spline coordinates

    u = column - x + ref_x,   v = row - y + ref_y,   w = ref_z - z / dz_nm

with `reference` counted from 0: larger z reads earlier slices, as official DECODE does.
The PSF is 0 outside 0 <= u <= X - 1 and 0 <= v <= Y - 1, which is symmetric about a
central reference; z beyond the calibrated range is drawn as the nearest end of it.

Design notes: knows coefficients in memory, no files, no camera. All pixels of one
emitter share dx, dy, dz, so a window is one product of the coefficients of a z slice
with 64 monomials; emitters of one slice are drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.optics._namespace import (
    Array,
    array_namespace,
    full_like_dtype,
    is_torch,
)

__all__ = ["SplinePsf"]

_CHUNK = 4096
"""Emitters drawn at a time; bounds the memory of the windows."""


@dataclass(frozen=True, slots=True, eq=False)
class SplinePsf:
    """Cubic-spline PSF as an image former.

    Parameters
    ----------
    coefficients
        (X, Y, Z, 64); X along columns. Their dtype is the precision of the result.
    reference
        (ref_x, ref_y, ref_z): spline coordinates of the emitter, from 0.
    dz_nm
        Height of a voxel in nm.

    Raises
    ------
    InputError
        When the coefficients are not (X, Y, Z, 64) or `dz_nm` is not positive.
    """

    coefficients: Array
    reference: tuple[float, float, float]
    dz_nm: float

    def __post_init__(self) -> None:
        shape = tuple(self.coefficients.shape)
        if len(shape) != 4 or shape[3] != 64 or min(shape) < 1:
            raise InputError(
                f"spline PSF: coefficients must have the shape (X, Y, Z, 64), got "
                f"{shape}; bring the 64 polynomial coefficients to the last axis"
            )
        if not (math.isfinite(self.dz_nm) and self.dz_nm > 0):
            raise InputError(
                f"spline PSF: the voxel height must be positive, got {self.dz_nm} nm"
            )

    @property
    def window_shape(self) -> tuple[int, int]:
        """(rows, columns) of a window: all pixels an emitter can reach."""
        return int(self.coefficients.shape[1]), int(self.coefficients.shape[0])

    @property
    def z_range_nm(self) -> tuple[float, float]:
        """Lowest and highest z the coefficients describe, nm."""
        slices = int(self.coefficients.shape[2])
        top = float(self.reference[2]) * self.dz_nm
        return top - slices * self.dz_nm, top

    def roi(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> tuple[Array, Array, Array]:
        """Image of each emitter in a window around it.

        Parameters
        ----------
        x_px, y_px, z_nm, photons
            (E,) floats of one library.

        Returns
        -------
        tuple
            Windows (E, rows, columns) in photons, and column (E,) and row (E,) of each
            window's first pixel, int64.
        """
        images, column, row = self._windows(x_px, y_px, z_nm, derivatives=False)
        return images[:, 0] * photons[:, None, None], column, row

    def derivatives(
        self, x_px: Array, y_px: Array, z_nm: Array, photons: Array
    ) -> Array:
        """Derivatives of photons x PSF + background, in the windows of `roi`.

        Returns
        -------
        array
            (E, 5, rows, columns): by x (per px), y (per px), z (per nm), photons, and
            background (1 everywhere).
        """
        xp = array_namespace(x_px)
        images, _, _ = self._windows(x_px, y_px, z_nm, derivatives=True)
        n = photons[:, None, None]
        # Moving the emitter up moves the spline coordinates down.
        return xp.stack(
            [
                -n * images[:, 1],
                -n * images[:, 2],
                (-1.0 / self.dz_nm) * n * images[:, 3],
                images[:, 0],
                xp.ones_like(images[:, 0]),
            ],
            1,
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
        """Expected photons of emitters in a stack of frames, without background.

        Parameters
        ----------
        x_px, y_px, z_nm, photons
            (E,) floats; x = column, origin at the centre of pixel (0, 0). Emitters
            beyond the frame send light into it.
        frame
            (E,) integers; emitters of other frames than 0 .. n_frames - 1 are ignored.

        Returns
        -------
        array
            (n_frames, height, width) photons, dtype and device of `x_px`.
        """
        xp = array_namespace(x_px)
        kept = xp.where((frame >= 0) & (frame < n_frames))[0]
        stack = _zeros((n_frames * height * width,), x_px)
        for part in _chunks(kept):
            images, column, row = self.roi(
                x_px[part], y_px[part], z_nm[part], photons[part]
            )
            rows = row[:, None] + _counting(images.shape[1], row)
            columns = column[:, None] + _counting(images.shape[2], column)
            inside = ((rows >= 0) & (rows < height))[:, :, None] & (
                (columns >= 0) & (columns < width)
            )[:, None, :]
            place = (
                _integers(frame[part])[:, None, None] * (height * width)
                + rows[:, :, None] * width
                + columns[:, None, :]
            )
            stack = _add(stack, place[inside], images[inside])
        return stack.reshape(n_frames, height, width)

    def _windows(
        self, x_px: Array, y_px: Array, z_nm: Array, *, derivatives: bool
    ) -> tuple[Array, Array, Array]:
        """(E, 1 or 4, rows, columns): PSF[, d/du, d/dv, d/dw], and the origins."""
        xp = array_namespace(x_px)
        a = _like_library(self.coefficients, x_px)
        ref_x, ref_y, ref_z = (float(value) for value in self.reference)
        column, row = xp.ceil(x_px - ref_x), xp.ceil(y_px - ref_y)
        u, v = column - x_px + ref_x, row - y_px + ref_y
        w = xp.clip(ref_z - z_nm / self.dz_nm, 0.0, float(a.shape[2]))
        k = xp.clip(xp.floor(w), 0, a.shape[2] - 1)
        monomials = _cast(_monomials(u, v, w - k, derivatives), a)
        k = _integers(k)
        images = _zeros((x_px.shape[0], monomials.shape[1], *self.window_shape), a)
        for index in xp.unique(k).tolist():
            members = xp.where(k == index)[0]
            slice_ = xp.swapaxes(a[:, :, index], 0, 1).reshape(-1, 64)
            drawn = xp.matmul(monomials[members].reshape(-1, 64), slice_.T)
            images[members] = drawn.reshape(-1, *images.shape[1:])
        # The last pixel of a window is beyond the support unless it hits its edge.
        in_rows = (_counting(images.shape[2], v) + v[:, None]) <= a.shape[1] - 1
        in_columns = (_counting(images.shape[3], u) + u[:, None]) <= a.shape[0] - 1
        inside = in_rows[:, :, None] & in_columns[:, None, :]
        images = _cast(images, x_px) * inside[:, None]
        return images, _integers(column), _integers(row)


def _monomials(u: Array, v: Array, w: Array, derivatives: bool) -> Array:
    """(E, 1 or 4, 64) monomials of u, v, w, and their derivatives by each."""
    xp = array_namespace(u)
    one, zero = xp.ones_like(u), xp.zeros_like(u)

    def powers(t: Array) -> Array:
        return xp.stack([one, t, t * t, t * t * t], 1)

    def slopes(t: Array) -> Array:
        return xp.stack([zero, one, 2.0 * t, 3.0 * t * t], 1)

    def product(in_u: Array, in_v: Array, in_w: Array) -> Array:
        cube = in_w[:, :, None, None] * in_v[:, None, :, None] * in_u[:, None, None, :]
        return cube.reshape(-1, 64)

    pu, pv, pw = powers(u), powers(v), powers(w)
    rows = [product(pu, pv, pw)]
    if derivatives:
        rows.append(product(slopes(u), pv, pw))
        rows.append(product(pu, slopes(v), pw))
        rows.append(product(pu, pv, slopes(w)))
    return xp.stack(rows, 1)


def _like_library(value: Array, like: Array) -> Array:
    """`value` in the library and on the device of `like`, its own dtype kept."""
    if is_torch(like):
        return array_namespace(like).as_tensor(value, device=like.device)
    return np.asarray(value)


def _cast(value: Array, like: Array) -> Array:
    """`value` in the dtype of `like`; both are of one library (keeps gradients)."""
    return value.to(like.dtype) if is_torch(value) else value.astype(like.dtype)


def _zeros(shape: tuple[int, ...], like: Array) -> Array:
    if is_torch(like):
        return like.new_zeros(shape)
    return np.zeros(shape, like.dtype)


def _counting(size: int, like: Array) -> Array:
    """0 .. size - 1 in the dtype and on the device of `like`."""
    return full_like_dtype(array_namespace(like).arange(size), like)


def _integers(value: Array) -> Array:
    return value.long() if is_torch(value) else value.astype(np.int64)


def _add(total: Array, place: Array, value: Array) -> Array:
    """`total` (P,) plus `value` (M,) at `place` (M,); places may repeat."""
    if is_torch(total):
        return total.index_add(0, place, value)
    summed: Any = np.bincount(place, weights=value, minlength=total.shape[0])
    return total + summed.astype(total.dtype)


def _chunks(indices: Array) -> Iterator[Array]:
    for start in range(0, int(indices.shape[0]), _CHUNK):
        yield indices[start : start + _CHUNK]
