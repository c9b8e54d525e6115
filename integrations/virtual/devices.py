"""The virtual microscope's camera and laser, as devices of a `UniMMCore`.

Importing this module needs pymmcore-plus; `load_virtual_microscope` imports it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus.experimental.unicore import CameraDevice, GenericDevice

from blinkloop.integrations.virtual.simulator import Simulator
from blinkloop.integrations.virtual.truth import TruthLog
from blinkloop.schema import CameraSettings

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from blinkloop.integrations.virtual.settings import VirtualSettings

__all__ = ["VirtualCamera", "VirtualLaser"]


class VirtualLaser(GenericDevice):
    """Activation laser with one property, `Power` in mW.

    Parameters
    ----------
    power_mw
        Power at the start.
    max_power_mw
        Upper limit; the device refuses more.
    """

    def __init__(self, power_mw: float, max_power_mw: float) -> None:
        super().__init__()
        self._power_mw = float(power_mw)
        # Registered on the instance: limits of a decorated property would live on the
        # class and be shared by all lasers (pymmcore-plus 0.18.1).
        self.register_property(
            "Power",
            property_type=float,
            limits=(0.0, float(max_power_mw)),
            getter=VirtualLaser.power_mw,
            setter=VirtualLaser._set_power,
        )

    def power_mw(self) -> float:
        """Power now, mW. A float is read whole, so no lock is needed."""
        return self._power_mw

    def _set_power(self, value: float) -> None:
        self._power_mw = float(value)


class VirtualCamera(CameraDevice):
    """Camera whose frames come from a `Simulator`.

    A frame is simulated when its exposure is due, with the laser power then in force,
    and published at its end. When the computer cannot keep pace the camera slows down;
    it never skips a frame and never hurries to catch up. A failure in the simulation
    ends the sequence, as a camera that is unplugged does; it is kept in `failure`.

    Parameters
    ----------
    simulator
        Makes the frames.
    laser
        Its power drives the activation.
    truth
        Takes the truth; cleared when a sequence of more than one frame starts. A single
        frame (a snap) moves the sample on but is not recorded.
    settings
        Size, exposure, pace, and the facts published as read-only properties named like
        the fields of `CameraSettings`.
    """

    def __init__(
        self,
        simulator: Simulator,
        laser: VirtualLaser,
        truth: TruthLog,
        settings: VirtualSettings,
    ) -> None:
        super().__init__()
        self._simulator = simulator
        self._laser = laser
        self._truth = truth
        self._settings = settings
        self._busy = threading.Lock()
        self.failure: BaseException | None = None
        self.late_s = 0.0
        """Seconds by which the frames of this sequence fell behind the clock."""
        facts = settings.camera_facts
        for name in CameraSettings.model_fields:
            self.register_property(
                name,
                property_type=str if name == "kind" else float,
                getter=functools.partial(_fact, getattr(facts, name)),
                is_read_only=True,
            )

    def get_exposure(self) -> float:
        """Exposure in ms."""
        return self._settings.exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Only the exposure the kinetics were designed for is accepted."""
        if abs(exposure - self._settings.exposure_ms) > 1e-6:
            raise ValueError(
                f"the virtual camera's exposure is {self._settings.exposure_ms:g} ms; "
                "choose another one in its settings"
            )

    def get_camera_name(self) -> str:
        """Name shown to people."""
        return "blinkloop virtual camera"

    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return self._settings.height_px, self._settings.width_px

    def dtype(self) -> DTypeLike:
        """Pixels are unsigned 16 bit."""
        return np.uint16

    def start_sequence(
        self,
        n: int | None,
        get_buffer: Callable[[Sequence[int], DTypeLike], np.ndarray[Any, Any]],
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the metadata of each frame after filling the core's buffer."""
        # One sample, one clock: a snap during a sequence waits for its turn.
        recorded = n != 1
        if recorded:
            self._truth.clear()
            self.failure = None
            self.late_s = 0.0
        period_s = self._settings.exposure_ms / 1000
        due_s = time.perf_counter()
        number = 0
        while n is None or number < n:
            buffer = get_buffer(self.shape(), np.uint16)
            power_mw = self._laser.power_mw()
            try:
                with self._busy:
                    emitters, facts = self._simulator.frame(buffer, power_mw, number)
            except Exception as error:
                self.failure = error
                return
            if recorded:
                self._truth.add(emitters, facts)
            if self._settings.realtime:
                due_s += period_s
                late_s = time.perf_counter() - due_s
                if late_s > 0:
                    # Start the next exposure now instead of rushing after the clock.
                    due_s += late_s
                    self.late_s += late_s
                else:
                    time.sleep(-late_s)
            yield {"LaserPower_mW": f"{power_mw:.6g}"}
            number += 1


def _fact(value: object, _device: object) -> object:
    """A property that always answers the same."""
    return value
