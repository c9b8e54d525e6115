"""The virtual microscope's camera and laser, as devices of a `UniMMCore`.

Importing this module needs pymmcore-plus; `load_virtual_microscope` imports it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pymmcore_plus.experimental.unicore import CameraDevice, GenericDevice

from blinkloop.integrations.virtual.faults import FaultScript
from blinkloop.integrations.virtual.pace import Pace
from blinkloop.integrations.virtual.simulator import Simulator
from blinkloop.integrations.virtual.truth import TruthLog
from blinkloop.runtime.records import Roi
from blinkloop.schema import CameraSettings

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from blinkloop.integrations.virtual.settings import FaultSettings, VirtualSettings

__all__ = ["VirtualCamera", "VirtualLaser"]


class VirtualLaser(GenericDevice):
    """Activation laser with one property, `Power` in mW.

    Parameters
    ----------
    power_mw
        Power at the start.
    max_power_mw
        Upper limit; the device refuses more.
    script
        Faults of the laser.
    """

    def __init__(
        self, power_mw: float, max_power_mw: float, script: FaultScript | None = None
    ) -> None:
        super().__init__()
        self._power_mw = float(power_mw)
        self._script = script or FaultScript(())
        # Registered on the instance: limits of a decorated property would live on the
        # class and be shared by all lasers (pymmcore-plus 0.18.1).
        self.register_property(
            "Power",
            property_type=float,
            limits=(0.0, float(max_power_mw)),
            getter=VirtualLaser._reported,
            setter=VirtualLaser._set_power,
        )

    def power_mw(self) -> float:
        """Power now, mW. A float is read whole, so no lock is needed."""
        return self._power_mw

    def _reported(self) -> float:
        fault = self._script.laser("laser-lies")
        return self._power_mw if fault is None else fault.power_mw

    def _set_power(self, value: float) -> None:
        if value != 0 and self._script.laser("laser-refuses") is not None:
            raise RuntimeError("interlock open")
        self._power_mw = float(value)


class VirtualCamera(CameraDevice):
    """Camera whose frames come from a `Simulator`.

    A frame is simulated when its exposure is due, with the laser power then in force,
    and published at its end. A hiccup of the computer of up to 0.1 s is made up for, as
    by the buffer of a camera; when the computer cannot keep pace the camera slows down.
    It never skips a frame. A failure in the simulation
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
    script
        What goes wrong, and when. A camera whose ROI or exposure is changed while it
        runs goes on with the new ones.
    """

    def __init__(
        self,
        simulator: Simulator,
        laser: VirtualLaser,
        truth: TruthLog,
        settings: VirtualSettings,
        script: FaultScript | None = None,
    ) -> None:
        super().__init__()
        self._simulator = simulator
        self._script = script or FaultScript(())
        self._exposure_ms = settings.exposure_ms
        self._chip = Roi(0, 0, settings.width_px, settings.height_px)
        self._roi = self._chip
        self._laser = laser
        self._truth = truth
        self._settings = settings
        self._busy = threading.Lock()
        self.failure: BaseException | None = None
        self.late_s = 0.0
        """Seconds by which the frames of this sequence fell behind the clock."""
        facts = settings.camera_facts
        for name in CameraSettings.model_fields:
            if name == "exposure_ms":
                continue  # changes: the core is asked for it
            self.register_property(
                name,
                property_type=str if name == "kind" else float,
                getter=functools.partial(_fact, getattr(facts, name)),
                is_read_only=True,
            )

    def get_exposure(self) -> float:
        """Exposure in ms."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Another exposure, from the next frame on; light grows with it."""
        if not 0 < exposure <= 1000:
            raise ValueError(f"an exposure of {exposure:g} ms is not in 0 to 1000 ms")
        self._exposure_ms = float(exposure)

    def get_camera_name(self) -> str:
        """Name shown to people."""
        return "blinkloop virtual camera"

    def shape(self) -> tuple[int, int]:
        """Height and width of the ROI in px."""
        return self._roi.height, self._roi.width

    def get_roi(self) -> tuple[int, int, int, int]:
        """(x, y, width, height) in px."""
        roi = self._roi
        return roi.x, roi.y, roi.width, roi.height

    def set_roi(self, x: int, y: int, width: int, height: int) -> None:
        """Read out a part of the chip, from the next frame on."""
        chip = self._chip
        inside = x >= 0 and y >= 0 and width >= 1 and height >= 1
        if not inside or x + width > chip.width or y + height > chip.height:
            raise ValueError(
                f"the ROI ({x}, {y}, {width}, {height}) is not on the chip of "
                f"{chip.width} x {chip.height} px"
            )
        self._roi = Roi(x, y, width, height)

    def clear_roi(self) -> None:
        """The whole chip again."""
        self._roi = self._chip

    def release(self) -> None:
        """End a stall, so that nothing waits for the device when it is unloaded."""
        self._script.end()

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
        self._script.begin()
        pace = Pace()
        number = 0
        while n is None or number < n:
            try:
                wrong = self._go_wrong(number)
            except _ReleasedError:
                return
            except Exception as error:
                self.failure = error
                return
            roi, exposure_ms = self._roi, self._exposure_ms
            buffer = get_buffer((roi.height, roi.width), np.uint16)
            power_mw = self._laser.power_mw()
            if self._settings.realtime:
                pace.before_drawing()
            try:
                with self._busy:
                    emitters, facts = self._simulator.frame(
                        buffer,
                        power_mw,
                        number,
                        roi=roi,
                        exposure_ms=exposure_ms,
                        shutter="empty" not in wrong,
                    )
            except Exception as error:
                self.failure = error
                return
            if "saturated" in wrong:
                buffer[:] = 2**self._settings.camera_facts.bit_depth - 1
            if recorded:
                self._truth.add(emitters, facts)
            if self._settings.realtime:
                pace.until_due(exposure_ms / 1000)
                if recorded:
                    self.late_s = pace.late_s
            yield {
                "LaserPower_mW": f"{power_mw:.6g}",
                "ROI-X-start": str(roi.x),
                "ROI-Y-start": str(roi.y),
                "Width": str(roi.width),
                "Height": str(roi.height),
            }
            number += 1

    def _go_wrong(self, number: int) -> dict[str, FaultSettings]:
        """What the script says of this frame; stalls and changes happen here."""
        wrong = self._script.at(number)
        if "stall" in wrong and not self._script.stall(wrong["stall"]):
            # The core has emptied its buffer: a frame would have no place there.
            raise _ReleasedError
        if "vanish" in wrong:
            raise RuntimeError("the camera is gone")
        changed = wrong.get("exposure")
        if changed is not None and changed.exposure_ms is not None:
            self.set_exposure(changed.exposure_ms)
        changed = wrong.get("roi")
        if changed is not None and changed.roi is not None:
            self.set_roi(*changed.roi)
        return wrong


class _ReleasedError(Exception):
    """The device is unloaded while it hangs."""


def _fact(value: object, _device: object) -> object:
    """A property that always answers the same."""
    return value
