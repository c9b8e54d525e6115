"""Load a virtual microscope into a Micro-Manager core and keep its truth at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import DeviceError, InputError
from blinkloop.extras import require
from blinkloop.integrations.virtual.faults import FaultScript
from blinkloop.integrations.virtual.settings import VirtualSettings
from blinkloop.integrations.virtual.simulator import Simulator
from blinkloop.integrations.virtual.truth import TruthLog
from blinkloop.optics.sensor import write_sensor_maps
from blinkloop.schema import CameraSettings

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from pymmcore_plus.experimental.unicore import UniMMCore

    from blinkloop.integrations.virtual.devices import VirtualCamera

__all__ = [
    "CAMERA_LABEL",
    "LASER_LABEL",
    "VirtualMicroscope",
    "load_virtual_microscope",
]

CAMERA_LABEL = "VirtualCamera"
LASER_LABEL = "Laser405"
LASER_PROPERTY = "Power"


class VirtualMicroscope:
    """Handle on a loaded virtual microscope; made by `load_virtual_microscope`.

    The camera and the laser are used through the core, like any other devices:
    `MicroManagerSource(core, camera=scope.camera)` and
    `MMLaser(core, scope.laser, scope.laser_property)`.
    """

    def __init__(
        self,
        core: UniMMCore,
        settings: VirtualSettings,
        simulator: Simulator,
        truth: TruthLog,
        device: VirtualCamera,
    ) -> None:
        self._core = core
        self._settings = settings
        self._simulator = simulator
        self._truth = truth
        self._device = device

    @property
    def camera(self) -> str:
        """Label of the camera device."""
        return CAMERA_LABEL

    @property
    def laser(self) -> str:
        """Label of the activation laser device."""
        return LASER_LABEL

    @property
    def laser_property(self) -> str:
        """Property of the laser that sets its power, mW."""
        return LASER_PROPERTY

    @property
    def settings(self) -> VirtualSettings:
        """What was asked for."""
        return self._settings

    @property
    def camera_settings(self) -> CameraSettings:
        """All facts of the camera, pixel size and exposure included."""
        return self._settings.camera_facts

    @property
    def positions(self) -> npt.NDArray[np.float64]:
        """(pool, 3) x_px, y_px, z_nm of every emitter, lit or not; id = row."""
        return self._simulator.positions

    @property
    def late_s(self) -> float:
        """Seconds by which the camera fell behind real time in this sequence."""
        return self._device.late_s

    @property
    def failure(self) -> BaseException | None:
        """What ended the last sequence early, if the simulation failed."""
        return self._device.failure

    def truth(self) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """Truth of the last sequence; may be asked for while it runs.

        Returns
        -------
        tuple
            Emitters (`EMITTER_DTYPE`, those in the margin around the chip included) and
            one row per frame (`TRUTH_FRAME_DTYPE`). `frame` is the core's ImageNumber.
        """
        return self._truth.tables()

    def save_truth(self, path: str | Path) -> Path:
        """Write the truth as `emitters` and `frames` to a .npz or .h5 file."""
        return self._truth.save(path)

    def save_sensor_maps(self, path: str | Path) -> Path | None:
        """Write offset, gain and noise of each pixel to a .npz; None: all are alike."""
        maps = self._simulator.sensor_maps
        return None if maps is None else write_sensor_maps(maps, path)

    def unload(self) -> None:
        """Stop the camera and remove both devices from the core."""
        self._device.release()
        core = self._core
        loaded = core.getLoadedDevices()
        if CAMERA_LABEL in loaded:
            if core.getCameraDevice() == CAMERA_LABEL:
                core.stopSequenceAcquisition(CAMERA_LABEL)
                # Without an empty label first, a C++ camera would not be taken up.
                core.setCameraDevice("")
            core.unloadDevice(CAMERA_LABEL)
        if LASER_LABEL in loaded:
            core.unloadDevice(LASER_LABEL)


def load_virtual_microscope(
    core: CMMCorePlus, settings: VirtualSettings
) -> VirtualMicroscope:
    """Add the virtual camera and laser to a core and select the camera.

    Parameters
    ----------
    core
        A `UniMMCore` (`new_core()` gives one), empty or with other devices.
    settings
        What stands under the objective.

    Raises
    ------
    MissingExtraError
        Without pymmcore-plus.
    InputError
        A core that takes no Python devices, or that holds a virtual microscope.
    DeviceError
        A device did not initialize.
    """
    require("pymmcore_plus", "The virtual microscope", "micromanager")
    from pymmcore_plus.core import DeviceInitializationState
    from pymmcore_plus.experimental.unicore import UniMMCore

    from blinkloop.integrations.virtual.devices import VirtualCamera, VirtualLaser

    if not isinstance(core, UniMMCore):
        raise InputError(
            f"the virtual microscope needs a UniMMCore, got {type(core).__name__}; "
            "make one with new_core()"
        )
    taken = {CAMERA_LABEL, LASER_LABEL} & set(core.getLoadedDevices())
    if taken:
        raise InputError(
            f"the core has devices named {', '.join(sorted(taken))} already; unload "
            "the virtual microscope that is in it first"
        )
    simulator = Simulator(settings)
    truth = TruthLog(settings.truth_rows_max)
    script = FaultScript(settings.faults)
    laser = VirtualLaser(settings.start_power_mw, settings.max_power_mw, script)
    camera = VirtualCamera(simulator, laser, truth, settings, script)
    devices: dict[str, Any] = {LASER_LABEL: laser, CAMERA_LABEL: camera}
    for label, device in devices.items():
        core.loadPyDevice(label, device)
        core.initializeDevice(label)
        # The core logs a failure to initialize and goes on.
        state = core.getDeviceInitializationState(label)
        if state != DeviceInitializationState.InitializedSuccessfully:
            raise DeviceError(f"virtual device {label!r} did not initialize")
    core.setCameraDevice("")
    core.setCameraDevice(CAMERA_LABEL)
    return VirtualMicroscope(core, settings, simulator, truth, camera)
