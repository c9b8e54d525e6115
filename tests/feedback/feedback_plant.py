"""A numerical plant (a double of microscope, sample and network) in closed loop.

Emitters are born as a Poisson process whose rate follows the laser and the emitters
still dark, live an exponential time, and are counted by a network with Bernoulli
doubt. Run as a program it prints the table of docs/closed-loop.md.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from feedback_doubles import ClockDouble, LaserDouble, result

from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import (
    ControllerSettings,
    FeedbackController,
    FeedbackLoop,
    LaserGuard,
    LaserLimits,
    settling_frame,
)

TARGET = 0.5
AREA_UM2 = 40.96
NOMINAL = 3.0  # power that gives the target at gain 1, at the start


@dataclass(frozen=True)
class Plant:
    """`noise` off: the expected number instead of a drawn one."""

    on_time_frames: float = 3.0
    gain: float = 1.0
    start_ratio: float = 1 / 3
    dead_frames: int = 4
    bleached_share: float = 0.5
    update_frames: int = 10
    delay_frames: int | None = None
    """As told to the controller; None = it has to find out."""
    frames: int = 1500
    fps: float = 50.0
    noise: bool = True
    drift_share: float = 0.05


@dataclass(frozen=True)
class Run:
    loop: FeedbackLoop
    laser: LaserDouble
    density: npt.NDArray[np.float64]
    """True active emitters per um2 and frame."""
    expected: npt.NDArray[np.float64]
    """Density the laser and the emitters left would give in the long run."""


def simulate(plant: Plant, rng: np.random.Generator) -> Run:
    """Closed loop of the real estimator, controller, guard and loop."""
    laser, clock = LaserDouble(), ClockDouble()
    settings = ControllerSettings(
        target_per_um2=TARGET,
        start_power=NOMINAL / plant.gain * plant.start_ratio,
        max_power=100.0,
        on_time_frames=plant.on_time_frames,
        update_frames=plant.update_frames,
        delay_frames=plant.delay_frames,
        drift_share=plant.drift_share,
    )
    guard = LaserGuard(
        laser,
        LaserLimits(max_value=100.0),
        mode="control",
        clock=clock,
        sleep=clock.sleep,
        watchdog=False,
    )
    loop = FeedbackLoop(
        DensityEstimator(
            100.0,
            average_frames=plant.update_frames,
            on_time_frames=plant.on_time_frames,
        ),
        FeedbackController(settings),
        guard,
    )
    loop.start()
    survive = math.exp(-1 / plant.on_time_frames)
    wanted = TARGET * AREA_UM2
    mean = wanted * plant.start_ratio
    n = float(rng.poisson(mean)) if plant.noise else mean
    dark, bleach = 1.0, (1 - plant.bleached_share) ** (1 / plant.frames)
    light = deque([laser.value] * plant.dead_frames)
    density, expected = np.zeros(plant.frames), np.zeros(plant.frames)
    for frame in range(plant.frames):
        light.append(laser.value)
        steady = wanted * light.popleft() / NOMINAL * plant.gain * dark
        dark *= bleach
        births = steady * (1 - survive)
        if plant.noise:
            n = float(rng.binomial(int(n), survive) + rng.poisson(births))
            count = max(n + rng.normal(0.0, math.sqrt(0.05 * n)), 0.0)
        else:
            n = n * survive + births
            count = n
        density[frame], expected[frame] = n / AREA_UM2, steady / AREA_UM2
        clock.now += 1 / plant.fps
        loop.observe([result(frame, count, 0.05 * n, fps=plant.fps)])
    return Run(loop, laser, density, expected)


def main() -> None:
    """Print the table: no noise for the dynamics, then noise for the truth."""
    out = sys.stdout.write
    out("| on-time | start | delay | learned | settled | beyond | with noise | held |")
    out("\n|---|---|---|---|---|---|---|---|\n")
    for on_time in (2.0, 5.0, 10.0):
        for ratio in (1 / 3, 3.0):
            for delay in (0, 5, 25, 50):
                out(_row(on_time, 1.0, ratio, delay))


def _row(on_time: float, gain: float, ratio: float, delay: int) -> str:
    plant = Plant(on_time, gain, ratio, delay, noise=False)
    run = simulate(plant, np.random.default_rng(0))
    quiet, learned = run.density, run.loop.summary()["laser_delay_frames"]
    settled = settling_frame(quiet, TARGET, window_frames=1)
    beyond = quiet.max() / TARGET if ratio < 1 else TARGET / quiet.min()
    noisy, held = [], []
    for seed in range(3):
        run = simulate(Plant(on_time, gain, ratio, delay), np.random.default_rng(seed))
        frame = settling_frame(run.density, TARGET, window_frames=200)
        noisy.append(math.inf if frame is None else frame)
        held.append(run.density[1000:].mean() / TARGET)
    return (
        f"| {on_time:g} | x{ratio:.2g} | {delay} | {learned} | {settled} | "
        f"{100 * (beyond - 1):.0f} % | {', '.join(f'{f:g}' for f in noisy)} | "
        f"{', '.join(f'{100 * (h - 1):+.0f} %' for h in held)} |\n"
    )


if __name__ == "__main__":
    main()
