"""Simulated movies with known truth: blinking emitters, background, camera.

Several short movies (training) or one long one (evaluation) from the same code, so
that a network is judged on the physics it was trained on. Emitters are drawn with
NumPy; the images are formed by NumPy too, or by torch on any device.

Shapes: S movies, T frames each, F = S x T frames, H x W px, E emitter rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blinkloop.optics._namespace import Array
from blinkloop.optics.background import background_maps
from blinkloop.optics.blinking import bin_to_frames, sample_blinks
from blinkloop.optics.camera import Camera
from blinkloop.optics.companions import place_companions
from blinkloop.optics.efficient import Differentiable
from blinkloop.optics.exposure import BLOB_DTYPE, Light, expose
from blinkloop.optics.reach import reach_px
from blinkloop.optics.spacing import apart
from blinkloop.optics.varied import VariedCamera, VariedPsf
from blinkloop.schema import EMITTER_DTYPE

__all__ = ["Psf", "Scene", "SceneSettings", "simulate_scene"]


class Psf(Differentiable, Protocol):
    """An image former; `GaussianPsf` and `SplinePsf` are such."""

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
    ) -> Array: ...


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """What is the same for all movies of a scene.

    Parameters
    ----------
    n_frames, height_px, width_px
        Size of each movie.
    pixel_size_nm
        For the density per um^2.
    z_range_nm
        Emitters are uniform in it.
    margin_px
        Emitters this far outside the field send light into it; None: as far as the PSF
        reaches.
    photons_relative_sd
        SD of the flux between emitters of a movie, relative.
    background_structure
        Largest relative slope of the background across the field.
    background_structure_max
        Largest relative amplitude of smooth structure in the background.
    background_structure_px
        Distances of the nodes of that structure, see `optics.background`.
    background_drift_max
        Largest relative change of the background from the first frame to the last.
    defocused_fraction
        Emitters far out of focus per emitter in focus: wide spots that blink alike.
    defocused_sigma_px
        Their SDs, drawn log-uniformly.
    companion_fraction, companion_distance_px
        Share of the emitters that blink beside another one, and at most how far from
        it, see `optics.companions`.
    spaced_fraction, spaced_distance_px
        Share of the movies in which emitters keep that far apart, see
        `optics.spacing`; they hold fewer than the density asks for.
    """

    n_frames: int
    height_px: int
    width_px: int
    pixel_size_nm: float
    z_range_nm: tuple[float, float]
    margin_px: float | None = 10
    photons_relative_sd: float = 0.2
    background_structure: float = 0.0
    background_structure_max: float = 0.0
    background_structure_px: tuple[float, float] = (8.0, 40.0)
    background_drift_max: float = 0.0
    defocused_fraction: float = 0.0
    defocused_sigma_px: tuple[float, float] = (4.0, 12.0)
    companion_fraction: float = 0.0
    companion_distance_px: float = 4.0
    spaced_fraction: float = 0.0
    spaced_distance_px: float = 8.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Simulated frames and their truth.

    Parameters
    ----------
    frames_adu
        (S, T, H, W) float32, whole ADU as the camera gives them; a tensor when torch
        formed them.
    background
        (S, H, W) float32 expected background photons, mean over the frames, without
        defocused emitters.
    emitters
        `EMITTER_DTYPE` rows, `frame` = movie * T + frame; all whose light is in the
        frames, also those outside the field and dim ones. Defocused ones are not in it.
    spaced
        (S,) movies whose emitters keep apart.
    frame_background
        (S, T, H, W) float32 all light that comes from no row of `emitters`, when it
        changes from frame to frame (drift, defocused emitters); else None.
    expected
        (S, T, H, W) float32 expected photons, emitters included; None: not kept.
    """

    frames_adu: Array
    background: npt.NDArray[np.float32]
    emitters: npt.NDArray[np.void]
    spaced: npt.NDArray[np.bool_]
    frame_background: npt.NDArray[np.float32] | None = None
    expected: Array | None = None


def simulate_scene(
    rng: np.random.Generator,
    psf: Psf | VariedPsf,
    camera: Camera | VariedCamera,
    settings: SceneSettings,
    *,
    density_per_um2: npt.NDArray[np.float64],
    photons: npt.NDArray[np.float64],
    background_photons: npt.NDArray[np.float64],
    on_time_frames: npt.NDArray[np.float64],
    images: Any = None,
    keep_expected: bool = False,
) -> Scene:
    """Draw S movies; the four (S,) arrays hold the mean values of each.

    A PSF or camera that varies has S x T entries, movie by movie. `density_per_um2`
    counts emitters that touch a frame; `photons` is the mean flux per frame while on;
    `background_photons` per pixel and frame. `images` is a `torch.Generator`: frames
    and noise are then made by torch on its device. `keep_expected`: return the means
    of the frames as well.
    """
    s = settings
    movies = density_per_um2.shape[0]
    if s.margin_px is None:
        margin = reach_px(psf, s.z_range_nm, movies)
    else:
        margin = np.full(movies, float(s.margin_px))
    means = (photons, on_time_frames)
    spaced: npt.NDArray[np.bool_] = np.zeros(movies, bool)
    if s.spaced_fraction > 0:
        spaced = np.less(rng.random(movies), s.spaced_fraction)
    drawn = _blinking(rng, s, margin, density_per_um2, *means, spaced=spaced)
    z = rng.uniform(s.z_range_nm[0], s.z_range_nm[1], drawn.x_px.shape)
    background = background_maps(
        rng,
        background_photons,
        s.height_px,
        s.width_px,
        slope_max=s.background_structure,
        structure_max=s.background_structure_max,
        structure_px=s.background_structure_px,
    )
    rows = _rows(drawn, z, background, s)
    varying = s.background_drift_max > 0 or s.defocused_fraction > 0
    factor = np.ones((movies, s.n_frames), np.float32)
    if s.background_drift_max > 0 and s.n_frames > 1:
        change = rng.uniform(-s.background_drift_max, s.background_drift_max, movies)
        factor += np.outer(change, np.linspace(-0.5, 0.5, s.n_frames))
    blobs = None
    if s.defocused_fraction > 0:
        blobs = _defocused(rng, s, density_per_um2 * s.defocused_fraction, *means)
    exposure = expose(
        rows,
        psf,
        camera,
        Light(background, factor, blobs),
        rng if images is None else images,
        keep_light=varying,
        keep_expected=keep_expected,
    )
    shape = (movies, s.n_frames, s.height_px, s.width_px)

    def shaped(stack: Array | None) -> Array | None:
        return None if stack is None else stack.reshape(shape)

    return Scene(
        shaped(exposure.adu),
        background,
        rows,
        spaced,
        shaped(exposure.light),
        shaped(exposure.expected),
    )


@dataclass(frozen=True, slots=True)
class _Blinking:
    """`x_px`, `y_px` (B,) per blink; the others (E,) per blink and frame it touches."""

    x_px: npt.NDArray[np.float64]
    y_px: npt.NDArray[np.float64]
    blink: npt.NDArray[np.int64]
    movie: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    photons: npt.NDArray[np.float64]


def _blinking(
    rng: np.random.Generator,
    s: SceneSettings,
    margin_px: npt.NDArray[np.float64],
    density_per_um2: npt.NDArray[np.float64],
    photons: npt.NDArray[np.float64],
    on_time_frames: npt.NDArray[np.float64],
    *,
    spaced: npt.NDArray[np.bool_] | None = None,
) -> _Blinking:
    """Blinks in the field and its margin, which is (S,) px."""
    area_px = (s.height_px + 2 * margin_px) * (s.width_px + 2 * margin_px)
    blinks = sample_blinks(
        rng,
        emitters_per_frame=density_per_um2 * area_px * (s.pixel_size_nm / 1000.0) ** 2,
        on_time_frames=on_time_frames,
        flux_photons=photons,
        flux_relative_sd=s.photons_relative_sd,
        n_frames=s.n_frames,
    )
    around = margin_px[blinks.sample]
    x = rng.uniform(-0.5 - around, s.width_px - 0.5 + around)
    y = rng.uniform(-0.5 - around, s.height_px - 0.5 + around)
    if s.companion_fraction > 0:
        blinks, x, y = place_companions(
            rng,
            blinks,
            x,
            y,
            fraction=s.companion_fraction,
            distance_px=s.companion_distance_px,
            on_time_frames=on_time_frames,
            n_frames=s.n_frames,
        )
    blink, frame, light = bin_to_frames(blinks.start, blinks.on_time, blinks.flux)
    inside = (frame >= 0) & (frame < s.n_frames)
    if spaced is not None and spaced.any():
        distance = s.spaced_distance_px
        frames = s.n_frames
        inside &= apart(blinks, x, y, spaced, distance_px=distance, n_frames=frames)[
            blink
        ]
    blink, frame, light = blink[inside], frame[inside], light[inside]
    return _Blinking(x, y, blink, blinks.sample[blink], frame, light)


def _rows(
    drawn: _Blinking,
    z_nm: npt.NDArray[np.float64],
    background: npt.NDArray[np.float32],
    s: SceneSettings,
) -> npt.NDArray[np.void]:
    """Truth, sorted by frame."""
    flat = drawn.movie * s.n_frames + drawn.frame
    order = np.argsort(flat, kind="stable")
    blink, movie = drawn.blink[order], drawn.movie[order]
    rows = np.zeros(order.shape[0], EMITTER_DTYPE)
    rows["id"], rows["frame"] = blink, flat[order]
    x, y = drawn.x_px[blink], drawn.y_px[blink]
    rows["x_px"], rows["y_px"] = x, y
    rows["z_nm"], rows["photons"] = z_nm[blink], drawn.photons[order]
    rows["background_photons"] = background[
        movie, _pixel(y, s.height_px), _pixel(x, s.width_px)
    ]
    return rows


def _defocused(
    rng: np.random.Generator,
    s: SceneSettings,
    density_per_um2: npt.NDArray[np.float64],
    photons: npt.NDArray[np.float64],
    on_time_frames: npt.NDArray[np.float64],
) -> npt.NDArray[np.void]:
    """Wide spots, sorted by frame; see `optics.exposure.BLOB_DTYPE`."""
    low, high = s.defocused_sigma_px
    margin = np.full(density_per_um2.shape, 2.0 * high)
    drawn = _blinking(rng, s, margin, density_per_um2, photons, on_time_frames)
    sigma = low * (high / low) ** rng.random(drawn.x_px.shape)
    flat = drawn.movie * s.n_frames + drawn.frame
    order = np.argsort(flat, kind="stable")
    blobs = np.zeros(order.shape[0], BLOB_DTYPE)
    blink = drawn.blink[order]
    blobs["frame"], blobs["photons"] = flat[order], drawn.photons[order]
    blobs["x_px"], blobs["y_px"] = drawn.x_px[blink], drawn.y_px[blink]
    blobs["sigma_px"] = sigma[blink]
    return blobs


def _pixel(position_px: npt.NDArray[Any], size: int) -> npt.NDArray[np.int64]:
    """Index of the nearest pixel of the frame along one axis."""
    nearest = np.floor(position_px + 0.5).astype(np.int64)
    return np.clip(nearest, 0, size - 1)
