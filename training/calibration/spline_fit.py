"""Voxel samples to the per-voxel polynomials of a cubic spline.

The spline is a tensor product of SciPy's interpolating splines (not-a-knot ends), so
it runs through every sample and has two continuous derivatives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blinkloop import extras
from blinkloop.errors import InputError

__all__ = ["spline_coefficients"]


def spline_coefficients(
    samples_XYZ: npt.NDArray[np.floating], *, closed: bool = False
) -> npt.NDArray[np.float64]:
    """Polynomials of the voxels between samples one voxel apart.

    Parameters
    ----------
    samples_XYZ
        (X, Y, Z) finite values at whole voxel coordinates, X along columns. One slice
        (Z = 1) gives one voxel that does not change with z.
    closed
        Append a voxel to x and to y that begins at the last sample (see Notes).

    Returns
    -------
    array
        (X - 1, Y - 1, max(Z - 1, 1), 64), closed (X, Y, max(Z - 1, 1), 64); index
        16 kz + 4 ky + kx. Voxel (i, j, k) begins at sample (i, j, k) and equals it
        there.

    Raises
    ------
    InputError
        When the samples are not such an array.

    Notes
    -----
    `SplinePsf` draws 0 <= u <= voxels - 1 and uses of the last voxel its beginning
    only. So 2 r + 1 samples with the emitter at sample r give a window of +- r px when
    closed, and lose its last column and row when not.
    """
    samples = np.asarray(samples_XYZ, np.float64)
    if samples.ndim != 3 or min(samples.shape[:2]) < 2 or samples.shape[2] < 1:
        raise InputError(
            f"spline: samples must be (X, Y, Z) with at least 2 x 2 x 1 values, got "
            f"the shape {samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise InputError(
            "spline: some samples are not finite numbers; replace or cut them away"
        )
    width, height, depth = samples.shape
    x, y = _to_polynomials(width, closed), _to_polynomials(height, closed)
    z = _to_polynomials(depth, closed=False)
    # One axis at a time: (x, y, z) -> (i, p, y, z) -> ... -> (i, j, k, kz, ky, kx).
    along_x = np.tensordot(x, samples, axes=(2, 0))
    along_y = np.tensordot(y, along_x, axes=(2, 2))
    along_z = np.tensordot(z, along_y, axes=(2, 4))
    k, kz, j, ky, i, kx = range(6)
    ordered = along_z.transpose(i, j, k, kz, ky, kx)
    return np.ascontiguousarray(ordered).reshape(*ordered.shape[:3], 64)


def _to_polynomials(size: int, closed: bool) -> npt.NDArray[np.float64]:
    """(voxels, 4, size): the linear map from samples to polynomial coefficients."""
    if size == 1:
        constant = np.zeros((1, 4, 1))
        constant[0, 0, 0] = 1.0
        return constant
    interpolate = extras.require("scipy.interpolate", "Fitting splines", "train")
    degree = min(3, size - 1)
    places = np.arange(float(size))
    spline = interpolate.make_interp_spline(places, np.eye(size), k=degree)
    starts = places if closed else places[:-1]
    powers = np.zeros((starts.shape[0], 4, size))
    factorial = 1.0
    for power in range(degree + 1):
        factorial *= max(power, 1)
        powers[:, power] = spline(starts, nu=power) / factorial
    return powers
