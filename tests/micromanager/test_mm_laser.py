"""A property of a real C++ device as a laser."""

from __future__ import annotations

import math

import pytest

from blinkloop.errors import DeviceError, InputError
from blinkloop.integrations.micromanager import MMLaser
from blinkloop.runtime.protocols import Laser


def test_writes_and_reads_back(demo_core) -> None:
    laser: Laser = MMLaser(demo_core, "DA405", "Voltage")
    assert laser.label == "DA405.Voltage"
    assert laser.limits == (0.0, 10.0)
    for value in (2.5, 0.0, 10.0, 0.0312):
        laser.write(value)
        assert laser.read() == pytest.approx(value, abs=1e-4)


def test_integer_property_gets_integers(demo_core) -> None:
    laser = MMLaser(demo_core, "LED", "State", limits=(0.0, 2.6))
    laser.write(1.4)
    assert laser.read() == 1
    laser.write(2.6)
    assert laser.read() == 2
    laser.write(1.9)  # never above what was asked for
    assert laser.read() == 1
    laser.write(2 - 1e-12)
    assert laser.read() == 2
    assert laser.resolution == 1.0
    assert MMLaser(demo_core, "DA405", "Voltage").resolution is None


@pytest.mark.parametrize("value", ["7", "x", True, None])
def test_non_numbers_are_not_sent(demo_core, value) -> None:
    """MMCore would read them as 0, or as 1."""
    laser = MMLaser(demo_core, "DA405", "Voltage")
    laser.write(3.0)
    with pytest.raises(DeviceError, match="no number"):
        laser.write(value)
    assert laser.read() == 3.0


def test_rounding_of_the_text_stays_within_the_limits(demo_core, monkeypatch) -> None:
    laser = MMLaser(demo_core, "DA405", "Voltage", limits=(0.0, 0.1234567))
    sent = []
    monkeypatch.setattr(demo_core, "setProperty", lambda *what: sent.append(what[2]))
    for value in (0.1234567, -0.0, 0.1):
        laser.write(value)
    assert sent == ["0.123456", "0.000000", "0.100000"]


@pytest.mark.parametrize("value", [10.5, -1.0, math.nan, math.inf, -math.inf])
def test_nothing_outside_the_limits_reaches_the_device(demo_core, value) -> None:
    laser = MMLaser(demo_core, "DA405", "Voltage")
    laser.write(3.0)
    with pytest.raises(DeviceError, match="outside the limits 0 to 10"):
        laser.write(value)
    assert laser.read() == 3.0


def test_own_limits_are_narrower(demo_core) -> None:
    laser = MMLaser(demo_core, "DA405", "Voltage", limits=(0.0, 4.0))
    assert laser.limits == (0.0, 4.0)
    with pytest.raises(DeviceError, match="0 to 4"):
        laser.write(5.0)


def test_a_device_that_refuses_or_vanishes(demo_core) -> None:
    """The limits given are wider than what the device takes by then."""
    demo_core.loadDevice("DA2", "DemoCamera", "D-DA")
    demo_core.initializeDevice("DA2")
    laser = MMLaser(demo_core, "DA2", "Voltage")
    laser.write(1.0)
    demo_core.unloadDevice("DA2")
    with pytest.raises(
        DeviceError, match=r"DA2\.Voltage: the device refused"
    ) as caught:
        laser.write(2.0)
    assert "\n" not in str(caught.value)
    with pytest.raises(DeviceError, match=r"DA2\.Voltage: reading failed"):
        laser.read()


@pytest.mark.parametrize(
    ("device", "name", "limits", "match"),
    [
        ("Laser", "Power", None, "no device 'Laser'.*DA405"),
        ("DA405", "Power", None, "no property 'Power'.*Voltage"),
        ("Camera", "CameraName", None, "read-only"),
        ("LED", "Label", None, "text, not a number"),
        ("LED", "State", None, "no limits of its own"),
        ("LED", "State", (3.0, 1.0), "lower first"),
        ("LED", "State", (0.0, math.inf), "two numbers"),
        ("Camera", "Binning", None, "choice of fixed values"),
        ("DA405", "Voltage", (0.0, 20.0), "exceed those of the device, 0 to 10"),
    ],
)
def test_what_cannot_be_a_laser(demo_core, device, name, limits, match) -> None:
    with pytest.raises(InputError, match=match) as caught:
        MMLaser(demo_core, device, name, limits=limits)
    assert "\n" not in str(caught.value)
