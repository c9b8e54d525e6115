"""Doubles of devices with a fault each, loaded into the real core by a configuration.

`#py pyDevice` lines name these classes; core, run, network and files are real.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from numpy.typing import DTypeLike
from pymmcore_plus.experimental.unicore import CameraDevice, GenericDevice

HEIGHT, WIDTH = 22, 30


class SpotsCamera(CameraDevice):
    """Spots on a noisy background, 30 x 22 px, 100 frames/s."""

    delivered: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self._exposure_ms = 10.0
        self._rng = np.random.default_rng(5)

    def get_exposure(self) -> float:
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        self._exposure_ms = exposure

    def shape(self) -> tuple[int, int]:
        return HEIGHT, WIDTH

    def dtype(self) -> DTypeLike:
        return np.uint16

    def image(self, number: int) -> npt.NDArray[Any]:
        pixels = self._rng.poisson(40, (HEIGHT, WIDTH)) + 100
        rows, columns = self._rng.integers(2, 20, 4), self._rng.integers(2, 28, 4)
        pixels[rows, columns] += 2000
        return pixels

    def start_sequence(
        self,
        n: int | None,
        get_buffer: Callable[[Sequence[int], DTypeLike], np.ndarray[Any, Any]],
    ) -> Iterator[Mapping[str, Any]]:
        number = 0
        while n is None or number < n:
            time.sleep(self._exposure_ms / 1000)
            pixels = self.image(number)
            get_buffer((HEIGHT, WIDTH), np.uint16)[...] = pixels
            number += 1
            SpotsCamera.delivered = number
            yield {}


class VanishingCamera(SpotsCamera):
    """Gone after 40 frames."""

    def image(self, number: int) -> npt.NDArray[Any]:
        if number == 40:
            raise RuntimeError("USB device not found")
        return super().image(number)


class StallingCamera(SpotsCamera):
    """Delivers 40 frames, then nothing for 4 s."""

    def image(self, number: int) -> npt.NDArray[Any]:
        if number == 40:
            time.sleep(4)
        return super().image(number)


class EmptyCamera(SpotsCamera):
    """No light at all."""

    def image(self, number: int) -> npt.NDArray[Any]:
        return np.zeros((HEIGHT, WIDTH))


class SaturatedCamera(SpotsCamera):
    """Too much of it."""

    def image(self, number: int) -> npt.NDArray[Any]:
        return np.full((HEIGHT, WIDTH), 65535)


class Laser(GenericDevice):
    """`Power`, 0 to 50; what it was set to is in `record`."""

    record: ClassVar[list[float]] = []

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

    def power(self) -> float:
        return self.reported()

    def set_power(self, value: float) -> None:
        self.judge(value)
        self._power = float(value)
        Laser.record.append(self._power)

    def judge(self, value: float) -> None:
        """Raises when the value is refused."""

    def reported(self) -> float:
        """What it says its power is."""
        return self._power


class RefusingLaser(Laser):
    """Takes its first four powers, as arming needs, and then 0, and nothing else."""

    def judge(self, value: float) -> None:
        if len(Laser.record) >= 4 and value != 0:
            raise RuntimeError("interlock open")


class WitnessedLaser(Laser):
    """What it was set to is told to a file, too: for a run in a process of its own."""

    def judge(self, value: float) -> None:
        with Path(os.environ["LASER_WITNESS"]).open("a") as file:
            file.write(f"{value}\n")


class LyingLaser(Laser):
    """0.8 s after it was switched on it reports a power that nobody set."""

    def __init__(self) -> None:
        super().__init__()
        self._on_s: float | None = None

    def reported(self) -> float:
        if self._power > 0:
            self._on_s = self._on_s or time.monotonic()
            if time.monotonic() - self._on_s > 0.8:
                return 25.0
        return self._power


class LateLaser(Laser):
    """Reports what it was set to 0.2 s ago, in whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self._set: list[tuple[float, float]] = []

    def judge(self, value: float) -> None:
        self._set.append((time.monotonic(), value))

    def reported(self) -> float:
        over = [v for at, v in self._set if time.monotonic() >= at + 0.2]
        return float(math.floor(over[-1])) if over else 0.0


class LateLyingLaser(LateLaser):
    """Late, and after 100 frames somebody turns it up."""

    def reported(self) -> float:
        up = SpotsCamera.delivered >= 100 and self._power > 0
        return 25.0 if up else super().reported()


class DeafLaser(Laser):
    """Takes every value and stays dark."""

    def reported(self) -> float:
        return 0.0
