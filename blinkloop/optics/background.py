"""Expected background of simulated movies: a level, a slope and smooth structure.

Out-of-focus cells make a background that is neither flat nor a plane. The structure is
a random field on a coarse grid, interpolated with cubic B-splines: smooth, of a chosen
length, and cheap (two small matrix products per movie).

Shapes: S movies, H x W px.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["background_maps", "smooth_fields"]


def background_maps(
    rng: np.random.Generator,
    level: npt.NDArray[np.float64],
    height_px: int,
    width_px: int,
    *,
    slope_max: float,
    structure_max: float = 0.0,
    structure_px: tuple[float, float] = (8.0, 40.0),
) -> npt.NDArray[np.float32]:
    """Draw one map of expected background photons per movie.

    Parameters
    ----------
    rng
        Source of randomness.
    level
        (S,) mean photons per pixel and frame.
    height_px, width_px
        Size of the maps.
    slope_max
        Largest relative slope from the centre to a corner; each movie draws its own up
        to it, and a direction.
    structure_max
        Largest relative amplitude of the smooth structure; each movie draws its own.
        `slope_max + structure_max` must be below 1, so that no background is negative.
    structure_px
        Distance of the structure's nodes, drawn log-uniformly per movie.

    Returns
    -------
    array
        (S, H, W) float32 photons.
    """
    shape = (level.shape[0], 1, 1)
    direction = rng.uniform(0, 2 * np.pi, shape)
    strength = rng.uniform(0, slope_max, shape)
    v = np.linspace(-1, 1, height_px)[None, :, None]
    u = np.linspace(-1, 1, width_px)[None, None, :]
    tilt = (np.cos(direction) * u + np.sin(direction) * v) / np.sqrt(2)
    relative = 1 + strength * tilt
    if structure_max > 0:
        amplitude = rng.uniform(0, structure_max, shape)
        low, high = np.log(structure_px)
        length = np.exp(rng.uniform(low, high, level.shape))
        relative += amplitude * smooth_fields(rng, length, height_px, width_px)
    maps: npt.NDArray[np.float32] = (level[:, None, None] * relative).astype(np.float32)
    return maps


def smooth_fields(
    rng: np.random.Generator,
    length_px: npt.NDArray[np.float64],
    height_px: int,
    width_px: int,
) -> npt.NDArray[np.float64]:
    """Random smooth fields (S, H, W) within [-1, 1]; the extreme of each is +1 or -1.

    Parameters
    ----------
    rng
        Source of randomness.
    length_px
        (S,) distance of the nodes of each field.
    height_px, width_px
        Size of the fields.
    """
    rows = _spline_weights(rng, length_px, height_px)
    columns = _spline_weights(rng, length_px, width_px)
    shape = (length_px.shape[0], rows.shape[2], columns.shape[2])
    nodes = rng.standard_normal(shape)
    fields: npt.NDArray[np.float64] = rows @ nodes @ np.swapaxes(columns, 1, 2)
    # Nodes are normal numbers: an extreme of exactly 0 has probability 0.
    fields /= np.abs(fields).max(axis=(1, 2), keepdims=True)
    return fields


def _spline_weights(
    rng: np.random.Generator, length_px: npt.NDArray[np.float64], size: int
) -> npt.NDArray[np.float64]:
    """(S, size, nodes): cubic B-spline weight of each node in each pixel.

    The grid of each movie starts at a random place.
    """
    nodes = int(np.ceil((size - 1) / length_px.min())) + 4 if length_px.size else 4
    shift = rng.random(length_px.shape)
    place = np.arange(size) / length_px[:, None] + 1.0 + shift[:, None]
    t = np.abs(place[:, :, None] - np.arange(nodes))
    near = 2.0 / 3.0 - t * t * (1.0 - 0.5 * t)
    far = np.clip(2.0 - t, 0.0, None) ** 3 / 6.0
    weights: npt.NDArray[np.float64] = np.where(t < 1.0, near, far)
    return weights
