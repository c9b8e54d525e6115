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
emitter share dx, dy, dz, so a window is one product of 64 monomials with the
coefficients of a z slice, and the emitters of one slice are drawn by one matrix
product. The coefficients are laid out for that once per library, device and type.
NumPy arrays and torch tensors on the CPU that need no gradient take the same way (the
tensors as the arrays they are): windows are added to the frames slice by slice, while
they are in the cache. Other tensors are drawn all at once, differentiably.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.optics._namespace import Array, array_namespace, is_torch
from blinkloop.optics._spline_draw import Place, cast, draw, groups, lay_out, whole
from blinkloop.optics._spline_draw import monomials as make_monomials

__all__ = ["SplinePsf"]

_CHUNK = 1 << 14
"""Emitters drawn at a time on torch; bounds the memory of the windows."""


@dataclass(frozen=True, slots=True, eq=False)
class SplinePsf:
    """Cubic-spline PSF as an image former.

    Parameters
    ----------
    coefficients
        (X, Y, Z, 64); X along columns. Their dtype is the precision of the result;
        they are constants: changes after the first drawing are not seen.
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
    _laid_out: dict[Any, Array] = field(default_factory=dict, init=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return SplinePsf, (self.coefficients, self.reference, self.dz_nm)

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
        place = self._place(x_px, y_px, z_nm)
        monomials = (
            make_monomials(*place.inside, derivatives=False) * photons[:, None, None]
        )
        images = self._windows(place, monomials)
        return images[:, 0], place.column, place.row

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
        place = self._place(x_px, y_px, z_nm)
        images = self._windows(place, make_monomials(*place.inside, derivatives=True))
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
        values = (x_px, y_px, z_nm, photons)
        if not is_torch(x_px):
            return self._render_array(values, frame, n_frames, height, width)
        if _plain(values, array_namespace(x_px)):
            arrays = tuple(value.detach().numpy() for value in values)
            picture = self._render_array(arrays, frame.numpy(), n_frames, height, width)
            return array_namespace(x_px).from_numpy(picture)
        return self._render_tensor(values, frame, n_frames, height, width)

    def _render_array(
        self,
        values: tuple[Array, ...],
        frame: Array,
        n_frames: int,
        height: int,
        width: int,
    ) -> Array:
        """`render` on NumPy, slice by slice."""
        rows, columns = self.window_shape
        kept = _reaching(self, values, frame, n_frames, height, width)
        x, y, z, photons = (np.asarray(value)[kept] for value in values)
        place = self._place(x, y, z)
        order = np.argsort(place.slice_, kind="stable")
        monomials = (
            make_monomials(*place.inside, derivatives=False) * photons[:, None, None]
        )
        # A margin all round, so that no window has to be cut.
        tall, wide = height + 2 * rows, width + 2 * columns
        canvas = np.zeros((n_frames, tall, wide), x.dtype)
        first = (frame[kept] * tall + place.row + rows) * wide + place.column + columns
        where = first[order].tolist()
        on_edge = np.stack(place.edges(rows, columns), 1)[order]
        inner = min(rows, columns) > 1 and not on_edge.any()
        if inner:  # as nearly always: nobody's last row or column has light
            rows, columns = rows - 1, columns - 1
        slices = self._slices(monomials, inner=inner)
        monomials = monomials[order, 0].astype(slices.dtype, copy=False)
        spots = _spots(canvas, rows, columns)
        for index, (start, stop) in groups(place.slice_[order]):
            drawn = (monomials[start:stop] @ slices[index]).reshape(-1, rows, columns)
            if not inner:
                drawn[:, -1] *= on_edge[start:stop, :1]
                drawn[:, :, -1] *= on_edge[start:stop, 1:]
            for window, at in zip(drawn, where[start:stop], strict=True):
                spot = spots[at]
                np.add(spot, window, spot)
        rows, columns = self.window_shape
        return np.ascontiguousarray(canvas[:, rows:-rows, columns:-columns])

    def _render_tensor(
        self,
        values: tuple[Array, ...],
        frame: Array,
        n_frames: int,
        height: int,
        width: int,
    ) -> Array:
        """`render` on torch, any device, differentiable."""
        xp = array_namespace(frame)
        rows, columns = self.window_shape
        kept = _reaching(self, values, frame, n_frames, height, width)
        tall, wide = height + 2 * rows, width + 2 * columns
        canvas = values[0].new_zeros(n_frames * tall * wide)
        inner = whole(xp.arange(rows, device=frame.device)[:, None] * wide) + xp.arange(
            columns, device=frame.device
        )
        # At least once, so that the result of no emitter has a gradient too.
        for start in range(0, max(int(kept.shape[0]), 1), _CHUNK):
            part = kept[start : start + _CHUNK]
            images, column, row = self.roi(*(value[part] for value in values))
            first = (whole(frame[part]) * tall + row + rows) * wide + column + columns
            place = first[:, None, None] + inner
            canvas = canvas.index_add(0, place.reshape(-1), images.reshape(-1))
        stack = canvas.reshape(n_frames, tall, wide)
        return stack[:, rows:-rows, columns:-columns].contiguous()

    def _place(self, x_px: Array, y_px: Array, z_nm: Array) -> Place:
        xp = array_namespace(x_px)
        depth = int(self.coefficients.shape[2])
        ref_x, ref_y, ref_z = (float(value) for value in self.reference)
        column, row = xp.ceil(x_px - ref_x), xp.ceil(y_px - ref_y)
        u, v = column - x_px + ref_x, row - y_px + ref_y
        w = xp.clip(ref_z - z_nm / self.dz_nm, 0.0, float(depth))
        k = xp.clip(xp.floor(w), 0, depth - 1)
        return Place((u, v, w - k), whole(k), whole(column), whole(row))

    def _slices(self, like: Array, *, inner: bool = False) -> Array:
        """(Z, 64, rows * columns) in the library and on the device of `like`.

        `inner`: without the last row and column.
        """
        key = (str(like.device) if is_torch(like) else "numpy", inner)
        if key not in self._laid_out:
            a = self.coefficients[:-1, :-1] if inner else self.coefficients
            self._laid_out[key] = lay_out(a, like)
        return self._laid_out[key]

    def _windows(self, place: Place, monomials: Array) -> Array:
        """(E, M, rows, columns) for monomials (E, M, 64), in their dtype."""
        xp = array_namespace(monomials)
        rows, columns = self.window_shape
        slices = self._slices(monomials)
        order = xp.argsort(place.slice_, stable=True)
        ready = cast(monomials, slices)[order]
        drawn = draw(ready, place.slice_[order], slices)
        back = xp.argsort(order, stable=True)
        images = cast(drawn, monomials)[back].reshape(*ready.shape[:2], rows, columns)
        # The last row and column are beyond the support unless they hit its edge.
        last_row, last_column = place.edges(rows, columns)
        images[:, :, -1] *= last_row[:, None, None]
        images[:, :, :, -1] *= last_column[:, None, None]
        return images


def _reaching(
    psf: SplinePsf,
    values: tuple[Array, ...],
    frame: Array,
    n_frames: int,
    height: int,
    width: int,
) -> Array:
    """Indices of emitters whose window touches one of the frames."""
    xp = array_namespace(frame)
    x, y = values[:2]
    rows, columns = psf.window_shape
    column = xp.ceil(x - float(psf.reference[0]))
    row = xp.ceil(y - float(psf.reference[1]))
    touches = (frame >= 0) & (frame < n_frames)
    touches = touches & (column > -columns) & (column < width)
    return xp.where(touches & (row > -rows) & (row < height))[0]


def _spots(canvas: Array, rows: int, columns: int) -> Array:
    """A view of (rows, columns) that begins at each pixel of a contiguous canvas."""
    down, right = canvas.strides[1:]
    wide = canvas.shape[2]
    count = max(canvas.size - (rows - 1) * wide - columns + 1, 0)
    return np.lib.stride_tricks.as_strided(
        canvas, (count, rows, columns), (right, down, right)
    )


def _plain(values: tuple[Array, ...], torch: Any) -> bool:
    """Whether tensors can be handed to NumPy as they are."""
    return not any(
        value.requires_grad and torch.is_grad_enabled() for value in values
    ) and all(
        value.device.type == "cpu" and value.dtype in (torch.float32, torch.float64)
        for value in values
    )
