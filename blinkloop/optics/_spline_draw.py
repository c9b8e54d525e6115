"""Products of monomials with the coefficients of spline slices.

Design notes: knows neither files nor frames; `blinkloop.optics.spline` places what is
drawn here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from blinkloop.optics._namespace import Array, array_namespace, is_torch

__all__ = ["Place", "cast", "draw", "groups", "lay_out", "monomials", "whole"]

_FEW = 8
"""Most times that padding to equal slices may enlarge the work of a batched product."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where emitters are in the spline; all (E,).

    `inside`: place in the voxel along x, y, z, 0 to 1; `slice_`: which z slice;
    `column`, `row`: first pixel of the window.
    """

    inside: tuple[Array, Array, Array]
    slice_: Array
    column: Array
    row: Array

    def edges(self, rows: int, columns: int) -> tuple[Array, Array]:
        """1 where the last row, the last column of the window is in the support."""
        u, v, _ = self.inside
        return cast(v + (rows - 1) <= rows - 1, v), cast(
            u + (columns - 1) <= columns - 1, u
        )


def lay_out(coefficients: Array, like: Array) -> Array:
    """(X, Y, Z, 64) as (Z, 64, Y * X), in the library and on the device of `like`."""
    a = coefficients
    a = a.detach().cpu().numpy() if is_torch(a) else np.asarray(a)
    flat: Any = a.transpose(2, 3, 1, 0).reshape(a.shape[2], 64, -1)
    # Numbers that vanish beside the largest are denormal, or soon multiplied to such,
    # and would slow the product down tenfold.
    least = np.abs(flat).max(initial=0.0) * np.finfo(flat.dtype).eps ** 2
    flat = np.where(np.abs(flat) < least, np.zeros_like(flat), flat)
    if is_torch(like):
        return array_namespace(like).from_numpy(flat).to(like.device)
    return flat


def draw(monomials: Array, slice_: Array, slices: Array) -> Array:
    """(E, M, P): products of monomials (E, M, 64) with the slices of the emitters.

    Parameters
    ----------
    monomials, slice_
        Sorted by `slice_` (E,).
    slices
        (Z, 64, P) as of `lay_out`.
    """
    if is_torch(monomials):
        return _draw_tensor(monomials, slice_, slices)
    return _draw_array(monomials, slice_, slices)


def _draw_array(monomials: Array, slice_: Array, slices: Array) -> Array:
    out = np.empty((*monomials.shape[:2], slices.shape[2]), slices.dtype)
    for index, (start, stop) in groups(slice_):
        np.matmul(monomials[start:stop], slices[index], out=out[start:stop])
    return out


def _draw_tensor(monomials: Array, slice_: Array, slices: Array) -> Array:
    """`_draw_array` on torch, differentiable."""
    xp = array_namespace(monomials)
    depth = slices.shape[0]
    counts = xp.bincount(slice_, minlength=depth)
    largest = int(counts.max())
    if depth * largest > _FEW * monomials.shape[0] + depth:
        # Crowded in few slices: one product each.
        parts = xp.split(monomials, counts.tolist())
        return xp.cat([part @ slices[k] for k, part in enumerate(parts)])
    # All slices at once, each filled up to the fullest.
    rank = xp.arange(slice_.shape[0], device=slice_.device)
    rank = rank - (xp.cumsum(counts, 0) - counts)[slice_]
    padded = monomials.new_zeros(depth, largest, *monomials.shape[1:])
    padded = padded.index_put((slice_, rank), monomials)
    per_emitter = int(monomials.shape[1])
    drawn = xp.bmm(padded.reshape(depth, largest * per_emitter, 64), slices)
    return drawn.reshape(depth, largest, per_emitter, slices.shape[2])[slice_, rank]


def groups(slice_: Array) -> Iterator[tuple[int, tuple[int, int]]]:
    """(slice, (start, stop)) of each run of equal values in a sorted array."""
    starts = np.flatnonzero(np.diff(slice_, prepend=-1))
    stops = [*starts[1:].tolist(), int(slice_.shape[0])]
    for start, stop in zip(starts.tolist(), stops, strict=False):
        yield int(slice_[start]), (start, stop)


def monomials(u: Array, v: Array, w: Array, *, derivatives: bool) -> Array:
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


def cast(value: Array, like: Array) -> Array:
    """`value` in the dtype of `like`; both are of one library (keeps gradients)."""
    return value.to(like.dtype) if is_torch(value) else value.astype(like.dtype)


def whole(value: Array) -> Array:
    return value.long() if is_torch(value) else value.astype(np.int64)
