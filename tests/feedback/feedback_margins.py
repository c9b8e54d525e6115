"""Stability margins of the loop, from its own settings; prints the table of the docs.

Sampled once per update of T frames. A unit step of ln power after update 0 changes the
average of the T frames before update m by

    Y_m = mean over f of max(0, 1 - exp(-(f - d) / tau)),   h_m = Y_m - Y_(m-1)

so the plant is G(z) = sum h_m z^-m, and Gm(z) with the on-time and delay the controller
believes in. Its filter F(z), from a measured ln gain to the one expected while the next
command holds, is that of `GainFilters`: with a = gain, b = share a^2, L updates ahead,

    F(z) = [1, L] (1 - A z^-1)^-1 [a, b],  A = [[1 - a, 1 - a], [-b, 1 - b]]

The command is u = -F (y - Gm u), so the open loop is F G / (1 - F Gm).
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.runtime.feedback import ControllerSettings

_UPDATES = 60
_Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Margins:
    """Gain margin, phase margin in degrees, largest sensitivity, stable at all."""

    gain: float
    phase_deg: float
    sensitivity: float
    stable: bool


def steps(update: int, on_time: float, delay: int) -> npt.NDArray[np.float64]:
    """h_m, m = 1 .. (answer of the averages to a step of the power)."""
    frame = np.arange(1, update * _UPDATES + 1)
    rise = np.where(frame > delay, 1 - np.exp(-(frame - delay) / on_time), 0.0)
    return np.diff(rise.reshape(_UPDATES, update).mean(axis=1), prepend=0.0)


def margins(
    settings: ControllerSettings, believed_delay: int, on_time: float, delay: int
) -> Margins:
    """Of the loop that believes in a delay (and the settings' on-time)."""
    update, a = settings.update_frames, settings.gain(believed_delay)
    b, ahead = settings.drift_share * a**2, believed_delay / update + 1.0
    true = steps(update, on_time, delay)
    believed = steps(update, settings.on_time_frames, believed_delay)
    omega = np.linspace(1e-3, math.pi, 3000)
    inverse = np.exp(-1j * omega)
    powers = inverse[:, None] ** np.arange(1, _UPDATES + 1)
    matrix = np.array([[1 - a, 1 - a], [-b, 1 - b]])
    inner = np.eye(2)[None] - matrix[None] * inverse[:, None, None]
    solved = np.linalg.solve(inner, np.array([a, b])[None, :, None] + 0j)
    filtered: _Complex = solved[:, 0, 0] + ahead * solved[:, 1, 0]
    loop = filtered * (powers @ true) / (1 - filtered * (powers @ believed))
    return Margins(
        _gain_margin(loop),
        _phase_margin(loop),
        float((1 / np.abs(1 + loop)).max()),
        _is_stable(true, believed, a, b, ahead),
    )


def _gain_margin(loop: _Complex) -> float:
    """Factor until the curve passes -1, at the crossings of the negative real axis."""
    place = np.flatnonzero(loop.imag[:-1] * loop.imag[1:] <= 0)
    share = loop.imag[place] / (loop.imag[place] - loop.imag[place + 1])
    real = loop.real[place] + share * (loop.real[place + 1] - loop.real[place])
    real = np.append(real, loop.real[-1])
    return float(1 / -real.min()) if real.min() < 0 else math.inf


def _phase_margin(loop: _Complex) -> float:
    size = np.abs(loop)
    place = np.flatnonzero((size[:-1] - 1) * (size[1:] - 1) <= 0)
    left = 180 - np.abs(np.degrees(np.angle(loop[place])))
    return float(left.min()) if place.size else math.inf


def _is_stable(
    true: npt.NDArray[np.float64],
    believed: npt.NDArray[np.float64],
    a: float,
    b: float,
    ahead: float,
) -> bool:
    """The answer to a step of the sample dies out."""
    n = 1500
    power, density = np.zeros(n), np.zeros(n)
    value = drift = 0.0
    for k in range(1, n):
        m = min(k, true.size)
        past = power[k - 1 :: -1][:m]
        density[k] = 1 + past @ true[:m]
        surprise = density[k] - past @ believed[:m] - value - drift
        value, drift = value + drift + a * surprise, drift + b * surprise
        power[k] = -value - ahead * drift
        if abs(density[k]) > 1e6:
            return False
    return bool(np.abs(density[-50:]).max() < 1e-2)


def main() -> None:
    """Print the table."""
    settings = ControllerSettings(target_per_um2=0.5, start_power=1, max_power=10)
    out = sys.stdout.write
    out("| believed delay | true delay | on-time | gain margin | phase margin ")
    out("| max sensitivity |\n|---|---|---|---|---|---|\n")
    for believed, delays in (
        (6, (0, 6, 16, 26)),
        (26, (16, 26, 36, 46)),
        (50, (40, 50, 60)),
    ):
        for delay in delays:
            for on_time in (2.0, 10.0):
                m = margins(settings, believed, on_time, delay)
                out(
                    f"| {believed} | {delay} | {on_time:g} | {m.gain:.1f} | "
                    f"{m.phase_deg:.0f} deg | {m.sensitivity:.1f} |\n"
                )


if __name__ == "__main__":
    main()
