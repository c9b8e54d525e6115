"""Where emitters sit: 3D coordinates of biological-looking structures.

All in px (x, y) and nm (z), origin at the centre of pixel (0, 0). Nuclear pores: 8-fold
rings of 107 nm diameter, two of them 50 nm apart (Thevathasan et al. 2019,
doi:10.1038/s41592-019-0574-9).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blinkloop.integrations.virtual.settings import VirtualSettings

__all__ = ["random_streams", "sample_positions"]

_Points = npt.NDArray[np.float64]

_FILAMENT_SPACING_UM = 0.8
_FILAMENT_STEP_NM = 20.0
_FILAMENT_RADIUS_NM = 15.0
_PERSISTENCE_NM = 8000.0
_PORES_PER_UM2 = 3.0
_PORE_RADIUS_NM = 53.5
_PORE_RING_DISTANCE_NM = 50.0
_CLUSTERS_PER_UM2 = 0.5
_CLUSTER_SIGMA_NM = 60.0
_LINKER_NM = 5.0


def random_streams(seed: int) -> list[np.random.Generator]:
    """Independent streams: sites, blinks, noise, background, drift, sensor."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]


def sample_positions(settings: VirtualSettings, rng: np.random.Generator) -> _Points:
    """Positions of the whole pool.

    Parameters
    ----------
    settings
        Field, margin, z range, structure and number of emitters.
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        (pool, 3) float64: x_px, y_px, z_nm. All within the field plus margin, and
        within the z range.
    """
    n = settings.pool
    box = _Box.of(settings)
    n_off = int(rng.binomial(n, settings.unspecific_fraction)) if n else 0
    on = _SHAPES[settings.structure](n - n_off, box, rng)
    off = _uniform(n_off, box, rng)
    points = np.concatenate([on, off])
    rng.shuffle(points, axis=0)
    points = box.fold(points)
    points[:, :2] /= settings.pixel_size_nm
    return points


class _Box:
    """The sample's extent in nm; folds what lies outside back in."""

    def __init__(self, low: _Points, high: _Points) -> None:
        self.low = low
        self.high = high

    @classmethod
    def of(cls, settings: VirtualSettings) -> _Box:
        pixel, margin = settings.pixel_size_nm, settings.margin_px
        z_low, z_high = settings.z_range_nm
        low = np.array([(-0.5 - margin) * pixel, (-0.5 - margin) * pixel, z_low])
        high = np.array(
            [
                (settings.width_px - 0.5 + margin) * pixel,
                (settings.height_px - 0.5 + margin) * pixel,
                z_high,
            ]
        )
        return cls(low, high)

    @property
    def size(self) -> _Points:
        return self.high - self.low

    @property
    def area_um2(self) -> float:
        return float(self.size[0] * self.size[1]) / 1e6

    def fold(self, points: _Points) -> _Points:
        """Reflect at the walls, so that no position is piled up at an edge."""
        size = np.where(self.size > 0, self.size, 1.0)
        phase = np.mod(points - self.low, 2 * size)
        return self.low + np.where(
            self.size > 0, np.where(phase > size, 2 * size - phase, phase), 0.0
        )


def _uniform(n: int, box: _Box, rng: np.random.Generator) -> _Points:
    return rng.uniform(box.low, box.high, (n, 3))


def _filaments(n: int, box: _Box, rng: np.random.Generator) -> _Points:
    """Stiff curves across the field (worm-like chains), labelled on their surface."""
    across = max(box.size[0], box.size[1])
    count = max(3, round(math.sqrt(box.area_um2) / _FILAMENT_SPACING_UM * 1.5))
    steps = int(across * 1.5 / _FILAMENT_STEP_NM)
    start = rng.uniform(box.low, box.high, (count, 3))
    turn = math.sqrt(2 * _FILAMENT_STEP_NM / _PERSISTENCE_NM)
    angle = rng.uniform(0, 2 * math.pi, (count, 1)) + np.cumsum(
        rng.normal(0, turn, (count, steps)), axis=1
    )
    # Rises and falls gently, so that one filament spans part of the z range.
    slope = rng.uniform(-0.08, 0.08, (count, 1))
    x = np.cumsum(np.cos(angle), axis=1) * _FILAMENT_STEP_NM
    y = np.cumsum(np.sin(angle), axis=1) * _FILAMENT_STEP_NM
    z = np.arange(steps) * _FILAMENT_STEP_NM * slope
    middle = steps // 2
    curves = np.stack([c - c[:, middle : middle + 1] for c in (x, y, z)], axis=-1)
    curves += start[:, None, :]
    points = curves.reshape(-1, 3)
    inside = np.all(
        (points[:, :2] >= box.low[:2]) & (points[:, :2] <= box.high[:2]), axis=1
    )
    # Emitters per length are even: every point of every curve is equally likely.
    chosen = rng.choice(np.flatnonzero(inside), n)
    around = rng.normal(0, 1, (n, 3))
    around *= _FILAMENT_RADIUS_NM / np.linalg.norm(around, axis=1, keepdims=True)
    along = rng.uniform(-0.5, 0.5, (n, 1)) * _FILAMENT_STEP_NM
    tangent = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    return np.asarray(points[chosen] + around + along * tangent.reshape(-1, 3)[chosen])


def _rings(n: int, box: _Box, rng: np.random.Generator) -> _Points:
    """Nuclear pores on a gently curved envelope."""
    count = max(1, round(box.area_um2 * _PORES_PER_UM2))
    centre = rng.uniform(box.low, box.high, (count, 3))
    middle = (box.low[2] + box.high[2]) / 2
    height = (box.high[2] - box.low[2]) * 0.25
    relative = (centre[:, :2] - box.low[:2]) / box.size[:2]
    centre[:, 2] = middle + height * np.cos(math.pi * relative[:, 0]) * np.cos(
        math.pi * relative[:, 1]
    )
    turn = rng.uniform(0, 2 * math.pi, count)
    pore = rng.integers(count, size=n)
    corner = rng.integers(8, size=n) * (math.pi / 4) + turn[pore]
    side = rng.integers(2, size=n) - 0.5
    points = centre[pore]
    points[:, 0] += _PORE_RADIUS_NM * np.cos(corner)
    points[:, 1] += _PORE_RADIUS_NM * np.sin(corner)
    points[:, 2] += _PORE_RING_DISTANCE_NM * side
    return np.asarray(points + rng.normal(0, _LINKER_NM, (n, 3)))


def _clusters(n: int, box: _Box, rng: np.random.Generator) -> _Points:
    count = max(1, round(box.area_um2 * _CLUSTERS_PER_UM2))
    centre = rng.uniform(box.low, box.high, (count, 3))
    chosen = rng.integers(count, size=n)
    return np.asarray(centre[chosen] + rng.normal(0, _CLUSTER_SIGMA_NM, (n, 3)))


_SHAPES = {
    "filaments": _filaments,
    "rings": _rings,
    "clusters": _clusters,
    "uniform": _uniform,
}
