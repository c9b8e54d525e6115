"""From emitters and background to frames, block by block, in NumPy or torch.

Shapes: S movies, T frames each, F = S x T frames, H x W px.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from blinkloop.optics._namespace import Array
from blinkloop.optics.camera import Camera
from blinkloop.optics.gaussian import render_gaussians
from blinkloop.optics.varied import VariedCamera, VariedPsf

__all__ = ["BLOB_DTYPE", "Exposure", "Light", "expose"]

BLOB_DTYPE = np.dtype(
    [
        ("frame", "<i8"),
        ("x_px", "<f4"),
        ("y_px", "<f4"),
        ("sigma_px", "<f4"),
        ("photons", "<f4"),
    ]
)
"""Spots far out of focus: round Gaussians."""

_FRAMES_AT_ONCE = 64
_FRAMES_ON_DEVICE = 4096


class _Former(Protocol):
    """What `optics.scene.Psf` says, which imports this module."""

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
class Light:
    """Light that comes from no emitter of the truth.

    Parameters
    ----------
    background
        (S, H, W) float32 photons per pixel and frame.
    factor
        (S, T) float32: what the background is multiplied by in each frame.
    blobs
        `BLOB_DTYPE` rows sorted by frame; None: no such spots.
    """

    background: npt.NDArray[np.float32]
    factor: npt.NDArray[np.float32]
    blobs: npt.NDArray[np.void] | None = None


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the camera gave, and what it was drawn from; (F, H, W) float32 each.

    Parameters
    ----------
    adu
        Whole ADU; NumPy or torch.
    light
        Photons that come from no emitter of the truth; None: not kept.
    expected
        All expected photons, of the library of `adu`; None: not kept.
    """

    adu: Array
    light: npt.NDArray[np.float32] | None = None
    expected: Array | None = None


def expose(
    rows: npt.NDArray[np.void],
    psf: _Former,
    camera: Camera | VariedCamera,
    light: Light,
    rng: Any,
    *,
    keep_light: bool = False,
    keep_expected: bool = False,
) -> Exposure:
    """Form the images and take them with the camera.

    Parameters
    ----------
    rows
        `EMITTER_DTYPE` sorted by frame, frames 0 .. F - 1.
    psf, camera
        Fixed, or varied with F entries.
    light
        Background of the S movies.
    rng
        `numpy.random.Generator`, or `torch.Generator`: then torch works on its device.
    keep_light, keep_expected
        Whether to return these as well.
    """
    movies, length = light.factor.shape
    height, width = light.background.shape[1:]
    total = movies * length
    on_torch = not isinstance(rng, np.random.Generator)
    # Small blocks stay in the cache of a core; a device wants large ones.
    on_device = on_torch and rng.device.type != "cpu"
    block = _FRAMES_ON_DEVICE if on_device else _FRAMES_AT_ONCE
    device = rng.device if on_torch else None
    kept = np.empty((total, height, width), np.float32) if keep_light else None
    frames, drawn = [], []
    for first in range(0, max(total, 1), block):  # one empty block for no frame
        last = min(first + block, total)
        x, y, z, photons, at = _columns(
            rows, ("x_px", "y_px", "z_nm", "photons"), first, last, device
        )
        which, moment = np.divmod(np.arange(first, last), length)
        lit = light.background[which] * light.factor[which, moment][:, None, None]
        lit = _as(lit, device)
        if light.blobs is not None:
            columns = ("x_px", "y_px", "sigma_px", "photons")
            bx, by, sigma, flux, when = _columns(
                light.blobs, columns, first, last, device
            )
            size = (last - first, height, width)
            lit = lit + render_gaussians(bx, by, sigma, sigma, flux, when, *size)
        if kept is not None:
            kept[first:last] = lit.cpu().numpy() if on_torch else lit
        formed, noisy = psf, camera
        if isinstance(psf, VariedPsf):
            formed = psf.for_frames(first, last)
        if isinstance(camera, VariedCamera):
            noisy = camera.for_frames(first, last)
        expected = formed.render(x, y, z, photons, at, last - first, height, width)
        expected += lit
        # The tails of a PSF may be a rounding error below 0, which no Poisson takes.
        expected = expected.clip(0, None)
        frames.append(noisy.forward(expected, rng))
        if keep_expected:
            drawn.append(expected)
    join: Any = sys.modules["torch"].cat if on_torch else np.concatenate
    return Exposure(join(frames), kept, join(drawn) if keep_expected else None)


def _as(values: npt.NDArray[Any], device: Any) -> Array:
    """NumPy array, or tensor on the device when there is one."""
    if device is None:
        return values
    return sys.modules["torch"].as_tensor(values, device=device)


def _columns(
    table: npt.NDArray[np.void],
    names: tuple[str, ...],
    first: int,
    last: int,
    device: Any,
) -> list[Array]:
    """Columns of the rows of frames first .. last - 1, and their frames from 0."""
    low, high = np.searchsorted(table["frame"], [first, last])
    part = table[low:high]
    columns = [_as(part[name].astype(np.float32), device) for name in names]
    return [*columns, _as(part["frame"] - first, device)]
