"""What the core knows of its camera, in the words of `CameraSettings`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blinkloop.errors import DeviceError, InputError
from blinkloop.schema import CameraSettings

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["camera_facts", "check_exposure", "one_line", "select_camera"]

_ROUNDED, _ROUNDED_MS = 0.05, 0.05
"""By so much a camera may round an exposure: a share, and some rows."""


def one_line(error: BaseException) -> str:
    """Text of an error on one line; MMCore's often spread over several."""
    return " ".join(str(error).split()) or type(error).__name__


def _camera_labels(core: CMMCorePlus) -> tuple[str, ...]:
    from pymmcore_plus import DeviceType

    return tuple(
        label
        for label in core.getLoadedDevices()
        if core.getDeviceType(label) == DeviceType.Camera
    )


def select_camera(core: CMMCorePlus, camera: str | None = None) -> str:
    """Make `camera` the core's camera and return its label.

    Parameters
    ----------
    core
        A core with its devices loaded.
    camera
        Device label; None = the one the core has already.

    Raises
    ------
    InputError
        When there is no such device, it is no camera, or none is chosen.
    """
    current = str(core.getCameraDevice())
    if camera is None:
        if current:
            return current
        found = ", ".join(_camera_labels(core)) or "no camera at all"
        raise InputError(
            f"no camera is selected in Micro-Manager (loaded: {found}); name one, or "
            "set the Core's Camera in the configuration"
        )
    labels = _camera_labels(core)
    if camera not in labels:
        found = ", ".join(labels) or "none"
        raise InputError(
            f"Micro-Manager has no camera {camera!r}; cameras loaded: {found}"
        )
    if camera != current:
        # pymmcore-plus 0.18.1 goes on using a Python camera when a C++ one is chosen
        # straight after it; an empty label in between makes the switch happen.
        core.setCameraDevice("")
        core.setCameraDevice(camera)
    return camera


def check_exposure(camera: str, asked_ms: float, taken_ms: float) -> None:
    """`InputError` when the camera left its exposure as it was, or cut it.

    Cores say nothing of what is off a camera's limits; rounding to rows is no fault.
    """
    if abs(taken_ms - asked_ms) > _ROUNDED * asked_ms + _ROUNDED_MS:
        raise InputError(
            f"camera {camera!r} does not take an exposure of {asked_ms:g} ms, it has "
            f"{taken_ms:g} ms; give one that it takes"
        )


def camera_facts(core: CMMCorePlus, camera: str) -> dict[str, Any]:
    """Facts of the current camera as keyword arguments of `CameraSettings`.

    Exposure, bit depth and pixel size (when the configuration has one) come from the
    core. A camera that publishes properties named like fields of `CameraSettings`
    (`e_per_adu`, `baseline_adu` ...) is taken at its word; the virtual camera does.

    Parameters
    ----------
    core
        The core; `camera` is its current camera.
    camera
        Device label.

    Returns
    -------
    dict
        Only what is known.
    """
    facts: dict[str, Any] = {}
    try:
        exposure_ms = float(core.getExposure())
        if exposure_ms > 0:
            facts["exposure_ms"] = exposure_ms
        bit_depth = int(core.getImageBitDepth())
        if 1 <= bit_depth <= 16:
            facts["bit_depth"] = bit_depth
        pixel_size_um = float(core.getPixelSizeUm())
        if pixel_size_um > 0:
            facts["pixel_size_nm"] = pixel_size_um * 1000.0
        for name in CameraSettings.model_fields:
            if name != "exposure_ms" and core.hasProperty(camera, name):
                text = str(core.getProperty(camera, name))
                if name == "kind":
                    facts[name] = text
                else:
                    number = float(text)
                    facts[name] = int(number) if name == "bit_depth" else number
    except Exception as error:  # any adapter may raise anything
        raise DeviceError(
            f"camera {camera!r} does not answer ({one_line(error)}); check that it is "
            "switched on and not used by another program"
        ) from error
    return facts
