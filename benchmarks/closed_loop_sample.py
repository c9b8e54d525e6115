"""A virtual sample that blinks and bleaches, without images, for `closed_loop.py`.

Blinking is that of the virtual microscope. The counter sees each frame's emitters,
places them to 15 nm, and errs by a variance of 5 % of the count. Of two that are close
in one frame it misses one as often as `astigmatic-lite` did at that distance (1,180
pairs in an even sample of 0.5 per um^2), and like any network trained on such
samples it allows for the pairs that chance gives there.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from blinkloop.integrations.virtual.kinetics import BlinkingPool
from blinkloop.integrations.virtual.settings import VirtualSettings
from blinkloop.integrations.virtual.structures import sample_positions
from blinkloop.runtime.density import BLOCK_PX
from blinkloop.runtime.feedback import settling_frame

__all__ = [
    "AREA_UM2",
    "FPS",
    "NOMINAL",
    "SIDE_PX",
    "TARGET",
    "WANTED",
    "Case",
    "Counts",
    "Law",
    "Track",
    "blinking_floor",
    "counted_share",
    "feedback_floor",
    "score",
    "simulate",
]

FPS, SIDE_PX, TARGET, SECONDS = 100.0, 128, 0.5, 60
AREA_UM2 = (SIDE_PX * 0.1) ** 2
WANTED = TARGET * AREA_UM2
FRAMES = int(SECONDS * FPS)
NOMINAL = 200.0
"""Pulse in us that gives the target at the start: the unit matters to htSMLM, whose
creep is 0.1 us per update."""
_HIDDEN = np.array([0.98, 0.79, 0.70, 0.55, 0.23, 0.13, 0.0])
"""Share of pairs counted as one, by their distance in steps of 0.5 px."""
_HIDDEN_UM2 = float(np.pi * 0.05**2 * np.sum(_HIDDEN * (2 * np.arange(7) + 1)))
_FOUND_PX = 0.15
SETTLE_S = 10.0
"""Errors are those later than this after the start and after each step."""


@dataclass(frozen=True)
class Case:
    """`start` relative to the right power; `steps` = (s, activation from then on)."""

    name: str
    start: float = 1 / 3.5
    steps: tuple[tuple[float, float], ...] = ()
    structure: str = "uniform"
    on_frames: float = 3.0
    delay_frames: int = 4
    bleached: float = 0.5
    """Share of the pool that is used up in the 60 s."""


@dataclass(frozen=True)
class Counts:
    """What the laws see of a frame."""

    frame: int
    blocks: npt.NDArray[np.float64]
    """Emitters per block, (rows, columns)."""
    xy_px: npt.NDArray[np.float64]
    """(n, 2) where emitters were found."""
    gone: float
    """Emitters that were on in the frame before and are off in this one: what is left
    of the clipped difference of two frames."""
    best: float
    """The power that would be right: for the oracle alone."""


class Law(Protocol):
    """Frame by frame: counts in, power out."""

    def step(self, counts: Counts) -> float:
        """Power from now on."""
        ...


@dataclass(frozen=True)
class Track:
    """Of one run, (FRAMES,): true density; the density to be expected; power."""

    density: npt.NDArray[np.float64]
    expected: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]


class _Sample:
    """Emitters at their places, and who counts them."""

    def __init__(self, case: Case, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.per_frame = WANTED / case.on_frames
        self.pool = round(0.5 * self.per_frame * FRAMES / case.bleached)
        settings = VirtualSettings(
            width_px=SIDE_PX,
            height_px=SIDE_PX,
            margin_px=0.0,
            structure=case.structure,  # type: ignore[arg-type]
            n_emitters=self.pool,
        )
        sites = sample_positions(settings, np.random.default_rng(seed))
        self.side = SIDE_PX // BLOCK_PX
        self.sites = sites[:, :2]
        columns = np.clip((sites[:, 0] + 0.5) // BLOCK_PX, 0, self.side - 1)
        rows = np.clip((sites[:, 1] + 0.5) // BLOCK_PX, 0, self.side - 1)
        self.place = (rows * self.side + columns).astype(int)
        self.frame_ms = 1000 / FPS
        self.emitters = BlinkingPool(
            self.pool,
            on_time_ms=case.on_frames * self.frame_ms,
            bleach_fraction=0.5,
            photons=1.0,
            photons_spread=0.0,
            rng=self.rng,
        )
        self.rate = self.per_frame / self.pool / self.frame_ms / NOMINAL
        self._stay = math.exp(-1 / case.on_frames)
        self._tau = case.on_frames
        self._light = np.zeros(self.pool)
        self._before = (np.zeros(0, np.int64), np.zeros(0))
        self.expected = 0.0

    def step(self, power: float) -> _Seen:
        """One frame under this power."""
        dark = self.emitters.n_dark
        blinks = self.emitters.step(self.rate * power, self.frame_ms)
        rise = self._tau * self.rate * power * dark * self.frame_ms
        self.expected = self._stay * self.expected + (1 - self._stay) * rise
        found = self._found(self.sites[blinks.id], blinks.photons)
        at, share = blinks.id[found], blinks.photons[found]
        # A blink that covers part of a frame counts as that part of an emitter.
        seen = np.bincount(self.place[at], share, self.side * self.side)
        seen = seen * (1.0 + 0.5 * _HIDDEN_UM2 * share.sum() / AREA_UM2)
        noise = self.rng.normal(0.0, math.sqrt(0.05), seen.size) * np.sqrt(seen)
        self._light[blinks.id] = blinks.photons
        ids, photons = self._before
        gone = float(np.count_nonzero(photons - self._light[ids] > 0.5))
        self._light[blinks.id] = 0.0
        self._before = (blinks.id, blinks.photons)
        bright = at[share > 0.3]
        xy = self.sites[bright] + self.rng.normal(0.0, _FOUND_PX, (bright.size, 2))
        return _Seen(blinks.on_mean, np.maximum(seen + noise, 0.0), xy, gone)

    def _found(
        self, xy: npt.NDArray[np.float64], light: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.intp]:
        """Rows of the emitters that no brighter one hides (equal ones by chance)."""
        order = np.lexsort((self.rng.random(light.size), -light))
        if order.size < 2:
            return order
        places = xy[order]
        reach = 0.5 * (_HIDDEN.size - 1)
        pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
        apart = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
        close = self.rng.random(apart.size) < _HIDDEN[(2 * apart).astype(int)]
        seen = np.ones(order.size, bool)
        for one, other in sorted(map(tuple, pairs[close].tolist())):
            if seen[one]:
                seen[other] = False
        return order[seen]


@dataclass(frozen=True)
class _Seen:
    """Of one frame: emitters on, counts per block, places found, emitters gone."""

    on: float
    blocks: npt.NDArray[np.float64]
    xy_px: npt.NDArray[np.float64]
    gone: float


def simulate(case: Case, make: Callable[[float, float], Law], seed: int) -> Track:
    """One run; the same seed gives every law the same sample.

    Parameters
    ----------
    make
        From the start power and the number of emitters that are gone from frame to
        frame at the target, a law.
    """
    sample = _Sample(case, seed)
    first = NOMINAL * case.start
    for _ in range(30):  # a sample that was under this power before
        sample.step(first)
    law = make(first, gone_per_frame(case.on_frames))
    light, power_next = deque([first] * case.delay_frames), first
    density, expected, power = np.zeros((3, FRAMES))
    for frame in range(FRAMES):
        factor = 1.0
        for since_s, value in case.steps:
            factor = value if frame >= since_s * FPS else factor
        light.append(power_next)
        now = light.popleft()
        seen = sample.step(factor * now)
        density[frame], power[frame] = seen.on / AREA_UM2, now
        expected[frame] = sample.expected / AREA_UM2
        best = NOMINAL * sample.pool / max(sample.emitters.n_dark, 1) / factor
        blocks = seen.blocks.reshape(sample.side, sample.side)
        power_next = law.step(Counts(frame, blocks, seen.xy_px, seen.gone, best))
    return Track(density, expected, power)


@cache
def gone_per_frame(on_frames: float) -> float:
    """Emitters that are gone from one frame to the next at the target."""
    sample = _Sample(Case("", on_frames=on_frames), 999)
    return float(np.mean([sample.step(NOMINAL).gone for _ in range(400)][100:]))


@cache
def counted_share(structure: str, on_frames: float) -> float:
    """Of the emitters on at the target, the share that the counter counts."""
    sample = _Sample(Case("", structure=structure, on_frames=on_frames), 998)
    steps = [sample.step(NOMINAL) for _ in range(1100)][100:]
    return float(sum(s.blocks.sum() for s in steps) / sum(s.on for s in steps))


def blinking_floor(on_frames: float, window: int) -> float:
    """Relative SD of the mean of a window when the power is right all the time.

    Poisson births, exponential on-times: the count has the variance of its mean and
    the autocorrelation exp(-t / tau), so the variance of a mean over W is
    2 tau / W (1 - tau / W (1 - exp(-W / tau))) / N.
    """
    tau = on_frames / window
    return math.sqrt(2 * tau * (1 - tau * (1 - math.exp(-1 / tau))) / WANTED)


def feedback_floor(on_frames: float, delay_frames: int, window: int) -> float:
    """Relative SD of the mean of a window that no law can go below.

    Every frame brings new births and deaths of variance N (1 - e^2), e = exp(-1 / tau).
    One of them has changed the sum of the counts by psi_j = 1 + e + ... + e^j after j
    more frames; the first frame that a command can change is j = delay + 1. The least
    variance of the sum is what came in between, sum_(j <= delay) psi_j^2, and a window
    much longer than the loop has it at both ends. (Minimum variance control, which
    takes wild powers; counted without error.)
    """
    stay = math.exp(-1 / on_frames)
    psi = (1 - stay ** np.arange(1, delay_frames + 2)) / (1 - stay)
    variance = WANTED * (1 - stay**2) * float(np.sum(psi**2))
    return math.sqrt(2 * variance) / window / WANTED


def score(case: Case, track: Track) -> dict[str, float]:
    """Settling in s, overshoot, errors of 1 s means later than 10 s, dose.

    Settled: from then on every 1 s mean of the true density stays within 15 %, until
    the next step or the end; the worst of the segments counts. Errors of the true
    density (mean, RMS), and the RMS of the density that the power and the emitters left
    would give on average (`expected`).
    """
    edges = [0.0, *(since_s for since_s, _ in case.steps), float(SECONDS)]
    settling, beyond = 0.0, 0.0
    window = int(FPS)
    kernel = np.full(window, 1 / window)
    errors, power_errors = [], []
    for start_s, end_s in pairwise(edges):
        cut = slice(int(start_s * FPS), int(end_s * FPS))
        part = track.density[cut]
        at = settling_frame(part, TARGET, window_frames=window)
        settling = max(settling, math.inf if at is None else at / FPS)
        means = np.convolve(part, kernel, "valid") / TARGET - 1
        errors.append(means[int(SETTLE_S * FPS) :])
        later = track.expected[cut][int(SETTLE_S * FPS) :]
        power_errors.append(np.convolve(later, kernel, "valid") / TARGET - 1)
        # Beyond the target, seen from where it came; the start itself does not count.
        sign = 1.0 if means[0] < 0 else -1.0
        reached = np.flatnonzero(sign * means >= 0)
        if reached.size:
            head = sign * means[reached[0] : reached[0] + int(10 * FPS)]
            beyond = max(beyond, float(head.max()))
    error, expected = np.concatenate(errors), np.concatenate(power_errors)
    return {
        "settling_s": settling,
        "overshoot": beyond,
        "mean_error": float(error.mean()),
        "rms_error": float(np.sqrt(np.mean(error**2))),
        "expected_rms": float(np.sqrt(np.mean(expected**2))),
        "dose": float(track.power.mean() / NOMINAL),
    }
