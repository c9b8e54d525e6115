"""Kinds of actuators by name: what is special about their values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ACTUATORS", "Actuator"]


@dataclass(frozen=True, slots=True)
class Actuator:
    """What limits and controller must know of a kind of laser property.

    Parameters
    ----------
    resolution
        Step of its values; None = what the property itself says.
    floor
        Smallest value above off; None = a thousandth of the largest.
    """

    resolution: float | None = None
    floor: float | None = None


ACTUATORS = {
    "power": Actuator(),
    # Length of the pulse per frame in whole us, as MicroFPGA and its kin take it.
    "pulse-us": Actuator(resolution=1.0, floor=1.0),
}
"""By the name given to `run --actuator`."""
