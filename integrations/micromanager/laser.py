"""One numeric property of one Micro-Manager device, as the laser of the runtime.

Design notes: no policy here. Limits on the dose, slewing, logging and the safe value
are `LaserGuard`'s, the only object that may call `write`. What this object owns is that
only numbers within the limits ever reach the core: MMCore reads text that is not a
number as 0 and raises nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager.facts import one_line

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

__all__ = ["MMLaser"]


class MMLaser:
    """A writable number of a device: laser power, pulse length, voltage.

    Parameters
    ----------
    core
        A core with its devices loaded.
    device, property_name
        Labels as in the configuration, e.g. "Laser405", "Power".
    limits
        Lowest and highest value allowed, in the property's own unit. None = the
        property's own limits. Must lie within those when both exist.
    otherwise
        Limits of a property that has none of its own.

    Raises
    ------
    InputError
        Unknown device or property (the text lists what exists), a property that is
        read-only, holds a choice or text instead of a number, or has no limits when
        none are given.
    """

    def __init__(
        self,
        core: CMMCorePlus,
        device: str,
        property_name: str,
        *,
        limits: tuple[float, float] | None = None,
        otherwise: tuple[float, float] | None = None,
    ) -> None:
        _check_exists(core, device, property_name)
        self._core = core
        self._device = device
        self._property = property_name
        self._integer = _is_integer(core, device, property_name)
        if limits is None and not core.hasPropertyLimits(device, property_name):
            limits = otherwise
        self._limits = _limits(core, device, property_name, limits)
        self.read()  # a property that does not answer with a number is found now

    @property
    def label(self) -> str:
        """Device and property, e.g. "Laser405.Power"."""
        return f"{self._device}.{self._property}"

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest value allowed."""
        return self._limits

    @property
    def resolution(self) -> float | None:
        """1 for a property that takes integers only, else None."""
        return 1.0 if self._integer else None

    def write(self, value: float) -> None:
        """Set the property; `DeviceError` when it is refused, here or by the device.

        An integer property gets the integer below, so that no rounding ever exceeds
        what was allowed.
        """
        low, high = self._limits
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DeviceError(f"{self.label}: {value!r} was not sent, it is no number")
        if not math.isfinite(value) or not low <= value <= high:
            raise DeviceError(
                f"{self.label}: {value!r} was not sent, it is outside the limits "
                f"{low:g} to {high:g}"
            )
        if self._integer:
            # The small term keeps 2.9999999 from becoming 2; a limit may itself not
            # be an integer: stay inside.
            below = math.floor(value + 1e-9)
            text = str(min(max(below, math.ceil(low)), math.floor(high)))
        else:
            text = f"{value + 0.0:.6f}"  # never -0
            if float(text) > high:
                text = f"{value - 1e-6:.6f}"
        try:
            self._core.setProperty(self._device, self._property, text)
        except Exception as error:  # any adapter may raise anything
            raise DeviceError(
                f"{self.label}: the device refused {text} ({one_line(error)}); check "
                "its connection, interlock and limits"
            ) from error

    def read(self) -> float:
        """Value of the property now; `DeviceError` when it is no number."""
        try:
            return float(str(self._core.getProperty(self._device, self._property)))
        except Exception as error:
            raise DeviceError(
                f"{self.label}: reading failed ({one_line(error)}); check that the "
                "device is connected and the property holds a number"
            ) from error


def _check_exists(core: CMMCorePlus, device: str, property_name: str) -> None:
    devices = tuple(core.getLoadedDevices())
    if device not in devices:
        raise InputError(
            f"Micro-Manager has no device {device!r}; devices loaded: "
            f"{', '.join(devices) or 'none'}"
        )
    names = tuple(core.getDevicePropertyNames(device))
    if property_name not in names:
        raise InputError(
            f"device {device!r} has no property {property_name!r}; it has: "
            f"{', '.join(names) or 'none'}"
        )
    if core.isPropertyReadOnly(device, property_name):
        raise InputError(
            f"property {property_name!r} of {device!r} is read-only; name one that "
            "can be set"
        )


def _is_integer(core: CMMCorePlus, device: str, property_name: str) -> bool:
    from pymmcore_plus import PropertyType

    kind = core.getPropertyType(device, property_name)
    if kind not in (PropertyType.Float, PropertyType.Integer):
        raise InputError(
            f"property {property_name!r} of {device!r} holds text, not a number; name "
            "a numeric one, such as a power or a pulse length"
        )
    return bool(kind == PropertyType.Integer)


def _limits(
    core: CMMCorePlus,
    device: str,
    property_name: str,
    asked: tuple[float, float] | None,
) -> tuple[float, float]:
    label = f"{device}.{property_name}"
    if core.getAllowedPropertyValues(device, property_name) and not (
        core.hasPropertyLimits(device, property_name)
    ):
        raise InputError(
            f"{label} is a choice of fixed values, not a range; name a property that "
            "takes any number"
        )
    if asked is not None and not (
        math.isfinite(asked[0]) and math.isfinite(asked[1]) and asked[0] < asked[1]
    ):
        raise InputError(
            f"{label}: limits must be two numbers, the lower first, got {asked}"
        )
    if not core.hasPropertyLimits(device, property_name):
        if asked is None:
            raise InputError(
                f"{label} has no limits of its own; say the highest value that is safe "
                "for the device and the sample (--max-power)"
            )
        return float(asked[0]), float(asked[1])
    low = float(core.getPropertyLowerLimit(device, property_name))
    high = float(core.getPropertyUpperLimit(device, property_name))
    if asked is None:
        return low, high
    if asked[0] < low or asked[1] > high:
        raise InputError(
            f"{label}: limits {asked[0]:g} to {asked[1]:g} exceed those of the device, "
            f"{low:g} to {high:g}; choose limits within them"
        )
    return float(asked[0]), float(asked[1])
