"""Closed loop on images: our network and controller against htSMLM's counter and law.

`closed_loop.py` compares laws on counts; here everything is real but the microscope:
frames of the virtual microscope (blinking, bleaching, camera noise), a bundled network
whose sum of p is the density, our controller, guard and loop; and htSMLM's counter
(clipped difference of two frames, blur, non-maximum suppression, cut-off) with its law
as delivered. Both on the same sample, power 4 frames late, 100 frames/s.

What both are told is the same: either nothing but the number ("absolute": ours gets
the target in emitters per um^2) or the mean of their own counter over 2 s at the right
power ("copied": what *Get N* of htSMLM and `--target now` of ours do; htSMLM's counter
knows no absolute number, so it always gets this one, and a cut-off that makes it count
as many as are there). Errors of "copied" are against the true density of those 2 s.

    python benchmarks/closed_loop_images.py --seeds 3

With `--rows FILE` every run is kept as soon as it is there, and those that the file
already has are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import closed_loop_sample as sample
import numpy as np
import numpy.typing as npt
from closed_loop import row_of, table
from closed_loop_laws import UPDATE, Held, HtSmlm
from closed_loop_sample import FPS, NOMINAL, Case, Counts, Track, score
from kept_rows import KeptRows
from scipy.ndimage import gaussian_filter, maximum_filter

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import Session, open_session
from blinkloop.integrations.virtual import Simulator, VirtualSettings, demo_settings
from blinkloop.runtime import Frame, Roi, probability_floor
from blinkloop.runtime.density import DensityEstimator
from blinkloop.runtime.feedback import FeedbackLoop

CASES = tuple(
    Case(f"{structure}, start {start}", factor, structure=structure)
    for structure in ("uniform", "filaments", "rings", "clusters")
    for start, factor in (("x0.29", 1 / 3.5), ("x3.5", 3.5))
)
DELAY, DELIVERED = 4, (0.4, 12.0)
_STARTS = {1 / 3.5: "low", 3.5: "high", 1.0: "right"}
_CALIBRATION = 200
_BLUR_PX, _MASK_PX = 3.0, 7
_US_PER_MW = 100.0
"""The pulse that gives 1 mW on average: `NOMINAL` us are the 2 mW of the demo."""

Image = npt.NDArray[np.uint16]


class Watching(Protocol):
    """A law that sees frames; `copied`: it holds what it was shown."""

    copied: bool

    def calibrate(self, images: list[Image], gone: float) -> None:
        """Frames at the right power, and the emitters gone from frame to frame."""
        ...

    def step(self, number: int, image: Image) -> float:
        """Pulse from now on, us."""
        ...


class Ours(Held):
    """Network, estimator, controller, guard and loop with the settings of `run`."""

    def __init__(self, session: Session, start: float, copied: bool) -> None:
        super().__init__()
        self._session, self._start, self.copied = session, start, copied
        self._target = sample.TARGET
        card = session.model.card
        self._floor = probability_floor(card.architecture.logit_clamp)
        low, high = card.training_ranges.on_time_frames
        self._tau = math.sqrt(low * high)
        self._loop: FeedbackLoop | None = None

    def _estimator(self, frames: int) -> DensityEstimator:
        estimator = DensityEstimator(
            self._session.model.card.pixel_size_nm,
            average_frames=frames,
            on_time_frames=self._tau,
            learn_on_time=True,
            p_floor=self._floor,
        )
        if self.copied:
            estimator.count_as_seen()
        return estimator

    def _results(self, number: int, image: Image) -> list[Any]:
        height, width = image.shape
        roi = Roi(0, 0, width, height)
        frame = Frame(number, number / FPS, image, roi)
        return self._session.localizer.push([frame])

    def calibrate(self, images: list[Image], gone: float) -> None:
        self._session.localizer.flush()
        if self.copied:
            estimator, seen = self._estimator(UPDATE), []
            for number, image in enumerate(images):
                for result in self._results(number, image):
                    seen.append(estimator.update(result).per_um2)
            self._session.localizer.flush()
            self._target = float(np.mean(seen))
        self._loop = self.held_by(
            self._estimator(UPDATE),
            target=self._target,
            start=self._start,
            on_frames=self._tau,
        )

    def step(self, number: int, image: Image) -> float:
        assert self._loop is not None
        self.now = number / FPS
        results = self._results(number, image)
        if results:
            self._loop.observe(results)
        return self.value


class Theirs:
    """htSMLM's counter, and its law as delivered."""

    copied = True

    def __init__(self, start: float) -> None:
        self._start = start
        self._before: npt.NDArray[np.float32] | None = None
        self._cut = 0.0
        self._law: HtSmlm | None = None

    def peaks(self, image: Image) -> npt.NDArray[np.float32]:
        """Heights of the maxima of what is gone since the frame before."""
        now = image.astype(np.float32)
        before, self._before = self._before, now
        if before is None:
            return np.zeros(0, np.float32)
        blurred = gaussian_filter(np.maximum(before - now, 0), _BLUR_PX)
        return np.asarray(blurred[blurred == maximum_filter(blurred, _MASK_PX)])

    def calibrate(self, images: list[Image], gone: float) -> None:
        found = [self.peaks(image) for image in images][1:]
        heights = np.sort(np.concatenate(found))[::-1]
        # As many as there are; a person would turn the cut-off until it looks right.
        self._cut = float(heights[min(round(gone * len(found)), heights.size) - 1])
        counted = float(np.mean([(peaks >= self._cut).sum() for peaks in found]))
        self._before = None
        self._law = HtSmlm(self._start, *DELIVERED, counted)

    def step(self, number: int, image: Image) -> float:
        assert self._law is not None
        count = float((self.peaks(image) >= self._cut).sum())
        return self._law.step(
            Counts(number, np.zeros((1, 1)), np.zeros((0, 2)), count, 0.0)
        )


def settings_of(session: Session, case: Case, seed: int) -> VirtualSettings:
    """The sample of `blinkloop demo`: half the pool is used up in the run."""
    return demo_settings(
        session.model.card,
        target_per_um2=sample.TARGET,
        start="right",
        seconds=float(sample.SECONDS),
        exposure_ms=1000 / FPS,
        height_px=sample.SIDE_PX,
        width_px=sample.SIDE_PX,
        structure=case.structure,  # type: ignore[arg-type]
        seed=seed,
        realtime=False,
    )


def calibration(settings: VirtualSettings) -> tuple[list[Image], float, float]:
    """Frames at the right power, emitters gone per frame, true density."""
    simulator = Simulator(settings)
    shape = (settings.height_px, settings.width_px)
    images, gone, before = [], 0, np.zeros(0, np.int64)
    seen = 0
    for number in range(_CALIBRATION + 30):
        image = np.zeros(shape, np.uint16)
        emitters, facts = simulator.frame(image, settings.start_power_mw, number)
        inside = settings.in_field(emitters["x_px"], emitters["y_px"])
        now = emitters["id"][inside & (emitters["photons"] >= 500)]
        if number >= 30:
            images.append(image)
            seen += int(facts["emitters"][0])
            gone += np.setdiff1d(before, now).size
        before = now
    density = seen / _CALIBRATION / settings.field_um2
    return images, gone / _CALIBRATION, density


def simulate(
    session: Session, case: Case, make: Callable[[float], Watching], seed: int
) -> Track:
    """One run; the same seed gives every law the same sample."""
    settings = settings_of(session, case, seed)
    law = make(NOMINAL * case.start)
    images, gone, held = calibration(settings)
    law.calibrate(images, gone)
    # A copied number means the density there was then, blinking included.
    unit = held if law.copied else sample.TARGET
    simulator = Simulator(settings)
    frames = int(sample.SECONDS * FPS)
    pulse = NOMINAL * case.start
    image = np.zeros((settings.height_px, settings.width_px), np.uint16)
    for number in range(30):
        simulator.frame(image, pulse / _US_PER_MW, number)
    light = deque([pulse] * DELAY)
    density, power = np.zeros((2, frames))
    for number in range(frames):
        light.append(pulse)
        power[number] = light.popleft()
        image = np.zeros_like(image)
        milliwatts = min(power[number] / _US_PER_MW, settings.max_power_mw)
        _, facts = simulator.frame(image, milliwatts, number)
        seen = facts["emitters"][0] / settings.field_um2
        density[number] = seen * sample.TARGET / unit
        pulse = law.step(number, image)
    return Track(density, density, power)


def scores_of(
    session: Session,
    case: Case,
    law: tuple[str, Callable[[float], Watching]],
    seeds: int,
    kept: KeptRows,
) -> list[dict[str, float]]:
    """One score per seed; each is a row of its own."""
    name, make = law
    scores = []
    for seed in range(seeds):
        key = {
            "case": case.name,
            "law": name,
            "seed": seed,
            "model": session.model.sha256,
            "seconds": sample.SECONDS,
            "side_px": sample.SIDE_PX,
        }
        row = kept.find(key)
        if row is None:
            row = {**key, "score": score(case, simulate(session, case, make, seed))}
            kept.add(row)
        scores.append(row["score"])
    return scores


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, nargs="*", help="Numbers from 0.")
    parser.add_argument("--laws", nargs="*", help="Names; default: all.")
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--size", type=int, default=128, help="Side, px.")
    parser.add_argument("--model", default="astigmatic-lite")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="JSON lines, one per run.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sample.SECONDS, sample.SIDE_PX = options.seconds, options.size
    session = open_session(
        resolve_model(options.model),
        CameraFlags(),
        {},
        source="movie",
        backend=options.backend,
        threads=options.threads,
    )
    laws: dict[str, Callable[[float], Watching]] = {
        "blinkloop, absolute": lambda start: Ours(session, start, False),
        "blinkloop, copied": lambda start: Ours(session, start, True),
        "htSMLM, copied": Theirs,
    }
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    kept = KeptRows(options.rows)
    cases = CASES if options.cases is None else [CASES[i] for i in options.cases]
    for case in cases:
        for name, make in laws.items():
            if options.laws is not None and name not in options.laws:
                continue
            scores = scores_of(session, case, (name, make), options.seeds, kept)
            rows.append(row_of(case, name, scores))
            sys.stderr.write(table(rows[-1:]).splitlines()[-1] + "\n")
    took_s = time.perf_counter() - began
    if options.json:
        sys.stdout.write(json.dumps({"rows": rows, "took_s": took_s}) + "\n")
        return
    sys.stdout.write(
        f"{options.model}, {options.seeds} seeds, {took_s:.0f} s\n\n{table(rows)}"
    )


if __name__ == "__main__":
    main()
