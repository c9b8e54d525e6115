"""Which emitters of a simulated batch are targets, and the best estimates of them.

Design notes: knows the simulation, not the network. Estimates take the targets' noise
out of the loss (`LossSettings.rao_blackwell`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.optics import Camera
from blinkloop.optics.crlb import pixel_variance
from blinkloop.optics.efficient import (
    Differentiable,
    Estimates,
    Exposed,
    efficient_estimates,
    parameters_of,
)
from blinkloop.optics.scene import Psf, Scene
from blinkloop.optics.varied import VariedCamera, VariedPsf
from blinkloop.training.recipe import Recipe

__all__ = ["estimates_of", "in_field"]


def in_field(
    emitters: npt.NDArray[np.void], height: int, width: int, photons_floor: float
) -> npt.NDArray[np.bool_]:
    """Which emitters are bright enough and have their centre within the frame."""
    x, y = emitters["x_px"], emitters["y_px"]
    inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
    result: npt.NDArray[np.bool_] = inside & (emitters["photons"] >= photons_floor)
    return result


def estimates_of(
    recipe: Recipe,
    psf: Psf | VariedPsf,
    camera: Camera | VariedCamera,
    scene: Scene,
    frames: Any,
) -> Estimates:
    """Of emitters that may be targets; the truth for all others.

    Parameters
    ----------
    recipe, psf, camera
        What the scene was drawn with.
    scene
        With `expected`.
    frames
        (S, T, H, W) photons as the camera gives them back.
    """
    rows, size = scene.emitters, recipe.schedule.patch_px
    targets = in_field(rows, size, size, recipe.sample.photons_floor)
    chosen = np.flatnonzero(np.isin(rows["id"], rows["id"][targets]))
    if scene.expected is None:
        raise ValueError("the scene does not hold its expected photons")
    expected = scene.expected.reshape(-1, size, size)
    variance = pixel_variance(expected, camera)
    saturated = scene.frames_adu.reshape(expected.shape) >= camera.saturation_adu
    # A saturated pixel says nothing.
    variance[saturated] = float("inf")
    former: Differentiable
    if isinstance(psf, VariedPsf):
        former = psf.for_emitters(rows["frame"][chosen])
    else:
        former = psf
    exposed = Exposed(frames.reshape(expected.shape), expected, variance)
    found = efficient_estimates(
        rows[chosen], former, exposed, three_dimensional=recipe.three_dimensional
    )
    value = parameters_of(rows)
    spread, known = np.zeros_like(value), np.zeros(len(rows), bool)
    value[chosen], spread[chosen] = found.value, found.variance
    known[chosen] = found.known
    if not recipe.three_dimensional:
        value[:, 2] = 0.0
    return Estimates(value, spread, known)
