"""Cramer-Rao lower bound: the smallest variance an unbiased estimate can have.

Fisher information F_ab = sum over pixels of (d_a m)(d_b m) / variance(m); the bound is
the diagonal of its inverse (REFERENCE section 8). Shot noise alone has the variance m.
EM gain doubles it (excess noise, Mortensen et al. 2010, doi:10.1038/nmeth.1447); read
noise adds its variance (sCMOS, Huang et al. 2013, doi:10.1038/nmeth.2488). Official
DECODE takes the variance to be m for every camera.
"""

from __future__ import annotations

from blinkloop.optics._namespace import Array, array_namespace, full_like_dtype
from blinkloop.optics.camera import Camera
from blinkloop.optics.varied import VariedCamera

__all__ = ["crlb", "pixel_variance"]

_BLIND = 1e-6
"""A parameter is unknown when more than this share of it lies in blind directions."""


def pixel_variance(model: Array, camera: Camera | VariedCamera | None = None) -> Array:
    """Variance of a pixel that is expected to hold `model` photons, in photons^2.

    (excess (qe m + spurious) + (read noise / gain)^2) / qe^2, with the excess 2 for
    `emccd` (limit of high gain) and 1 otherwise. The rounding to whole ADU is ignored.

    Parameters
    ----------
    model
        (..., H, W) expected photons, background included.
    camera
        Its read-noise map, if any, must broadcast to (H, W). None: shot noise alone.
        A varied one has as many entries as `model` (F, H, W) has frames.
    """
    if camera is None:
        return model
    if isinstance(camera, VariedCamera):
        return _varied_variance(model, camera)
    s = camera.settings
    multiplying = s.kind == "emccd" and s.em_gain > 1
    excess = 2.0 if multiplying else 1.0
    variance = excess * (s.quantum_efficiency * model + s.spurious_e)
    if s.kind != "ideal":
        read = camera.read_noise_map_e
        noise = full_like_dtype(s.read_noise_e if read is None else read, model)
        variance = variance + (noise / (s.em_gain if multiplying else 1.0)) ** 2
    return variance / s.quantum_efficiency**2


def _varied_variance(model: Array, camera: VariedCamera) -> Array:
    """Of cameras that belong to the frame; electrons are counted before any gain."""
    excess = 1.0 + full_like_dtype(camera.multiplied, model)[:, None, None]
    spurious = full_like_dtype(camera.spurious_e, model)
    read = full_like_dtype(camera.read_noise_e, model)
    shot = excess * (camera.quantum_efficiency * model + spurious)
    return (shot + read**2) / camera.quantum_efficiency**2


def crlb(derivatives: Array, model: Array, *, camera: Camera | None = None) -> Array:
    """Lower bounds of the variances of P parameters.

    Parameters
    ----------
    derivatives
        (..., P, H, W) derivatives of the model image by each parameter.
    model
        (..., H, W) expected photons, background included; positive.
    camera
        Noise model; None: shot noise alone.

    Returns
    -------
    array
        (..., P) variances in the squared units of the parameters; infinite for a
        parameter that the image does not depend on, and for parameters that only act
        together.
    """
    xp = array_namespace(derivatives)
    # Derivatives by photons and by z differ by orders of magnitude: each row is scaled
    # to unit information before the inversion, which float32 would not survive else.
    weighted = derivatives / pixel_variance(model, camera)[..., None, :, :] ** 0.5
    weighted = weighted.reshape(
        *weighted.shape[:-2], weighted.shape[-2] * weighted.shape[-1]
    )
    diagonal = xp.sum(weighted * weighted, -1)
    known = diagonal > 0
    scale = xp.where(known, diagonal, xp.ones_like(diagonal)) ** 0.5
    rows = weighted / scale[..., None]
    fisher = xp.matmul(rows, xp.swapaxes(rows, -1, -2))
    information, axes = xp.linalg.eigh(fisher)
    # Directions without information beyond rounding make their parameters unknown;
    # an inverse would give them a large number of random sign.
    parameters = fisher.shape[-1]
    seen = information > 4 * parameters * xp.finfo(fisher.dtype).eps
    weight = axes * axes
    blind = xp.sum(weight * ~seen[..., None, :], -1) > _BLIND
    divisor = xp.where(seen, information, xp.full_like(information, float("inf")))
    bound = xp.sum(weight / divisor[..., None, :], -1) / (scale * scale)
    return xp.where(known & ~blind, bound, xp.full_like(bound, float("inf")))
