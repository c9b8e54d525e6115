"""A chip whose pixels differ, drawn from a seed."""

from __future__ import annotations

import numpy as np

from blinkloop.integrations.virtual.settings import SensorSettings
from blinkloop.optics import Camera
from blinkloop.optics.sensor import SensorMaps
from blinkloop.schema import CameraSettings

__all__ = ["draw_sensor", "make_camera"]


def draw_sensor(
    settings: SensorSettings,
    camera: CameraSettings,
    height: int,
    width: int,
    rng: np.random.Generator,
) -> SensorMaps:
    """Maps (height, width) around the camera's numbers.

    Offsets are normal, gains normal (at least a tenth of their mean), read noise
    log-normal with the camera's as its median.
    """
    shape = (height, width)
    offset = camera.baseline_adu + settings.offset_sd_adu * rng.standard_normal(shape)
    gain = np.maximum(1 + settings.gain_sd * rng.standard_normal(shape), 0.1)
    noise = np.exp(settings.read_noise_spread * rng.standard_normal(shape))
    return SensorMaps(
        offset.astype(np.float32),
        (camera.e_per_adu * gain).astype(np.float32),
        (camera.read_noise_e * noise).astype(np.float32),
    )


def make_camera(
    settings: CameraSettings, maps: SensorMaps | None, part: tuple[slice, slice]
) -> Camera:
    """The noise model of a part (rows, columns) of the chip."""
    if maps is None:
        return Camera(settings)
    return Camera(
        settings,
        offset_map_adu=maps.offset_adu[part],
        e_per_adu_map=maps.e_per_adu[part],
        read_noise_map_e=maps.read_noise_e[part],
    )
