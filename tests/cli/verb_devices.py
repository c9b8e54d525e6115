"""Doubles of devices that misbehave, loaded into the real core by a configuration.

`#py pyDevice` lines of a configuration name these classes; everything else in the tests
that use them is real.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from pymmcore_plus.experimental.unicore import CameraDevice, GenericDevice


class SteadyCamera(CameraDevice):
    """Spots on a noisy background, 30 x 22 px, 100 frames/s."""

    last: int | None = None
    """Frames it delivers before it fails; None = for ever."""

    def __init__(self) -> None:
        super().__init__()
        self._exposure_ms = 10.0

    def get_exposure(self) -> float:
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        self._exposure_ms = exposure

    def shape(self) -> tuple[int, int]:
        return 22, 30

    def dtype(self) -> DTypeLike:
        return np.uint16

    def start_sequence(
        self,
        n: int | None,
        get_buffer: Callable[[Sequence[int], DTypeLike], np.ndarray[Any, Any]],
    ) -> Iterator[Mapping[str, Any]]:
        rng = np.random.default_rng(5)
        number = 0
        while n is None or number < n:
            if number == self.last:
                raise RuntimeError("USB device not found")
            time.sleep(self._exposure_ms / 1000)
            pixels = rng.poisson(40, self.shape()) + 100
            pixels[rng.integers(2, 20, 4), rng.integers(2, 28, 4)] += 2000
            get_buffer(self.shape(), np.uint16)[...] = pixels
            number += 1
            yield {}


class VanishingCamera(SteadyCamera):
    """Gone after 40 frames."""

    last = 40


class Laser(GenericDevice):
    """`Power`, 0 to 50; raises for every value that `refuses` names."""

    def __init__(self) -> None:
        super().__init__()
        self._power = 0.0
        self.register_property(
            "Power",
            property_type=float,
            limits=(0.0, 50.0),
            getter=Laser.power,
            setter=Laser.set_power,
        )

    def refuses(self, value: float) -> bool:
        return False

    def power(self) -> float:
        return self._power

    def set_power(self, value: float) -> None:
        if self.refuses(value):
            raise RuntimeError("interlock open")
        self._power = float(value)


class InterlockedLaser(Laser):
    """Takes 0 only."""

    def refuses(self, value: float) -> bool:
        return value > 0


class TrippingLaser(Laser):
    """Takes its first four powers, as arming needs, and then the safe one only."""

    def __init__(self) -> None:
        super().__init__()
        self._taken = 0

    def refuses(self, value: float) -> bool:
        self._taken += value > 0
        return value > 0 and self._taken > 4
