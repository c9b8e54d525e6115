"""How much of an emitter's light the column `photons` of a table holds.

Isolated emitters drawn by a vectorial pupil model (`pupil.py`) on a background of 20,
seen by an sCMOS camera, localized by `blinkloop fit`; each is on for three whole
frames, of which the middle one is compared. Light far from the core (a Gaussian has
none) ends in the background.

    python benchmarks/pupil_photons.py --model universal-2d
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from pupil import Pupil

from blinkloop.cli import main as blinkloop
from blinkloop.integrations.formats import read_table

SIDE, APART, FRAMES, BACKGROUND = 192, 24, 24, 20.0
CASES = [
    ("2D, in focus", 1.4, {}, (0.0, 0.0)),
    ("2D, z within 300 nm", 1.4, {}, (-300.0, 300.0)),
    ("2D, NA 1.2, in focus", 1.2, {}, (0.0, 0.0)),
    ("astigmatic, z within 300 nm", 1.4, {"astigmatism": 0.12}, (-300.0, 300.0)),
]


def movie(case, photons: float, pixel_nm: float, rng: np.random.Generator):
    """(T, H, W) uint16, and (N, 3) middle frame, x, y of the emitters."""
    _, na, waves, (low, high) = case
    pupil = Pupil(na, waves)
    light = np.full((FRAMES, SIDE, SIDE), BACKGROUND)
    truth = []
    for first in range(1, FRAMES - 4, 6):
        for row in range(APART, SIDE - APART + 1, APART):
            for column in range(APART, SIDE - APART + 1, APART):
                x, y = column + rng.uniform(-0.5, 0.5), row + rng.uniform(-0.5, 0.5)
                box = slice(row - 20, row + 21), slice(column - 20, column + 21)
                image = pupil.image(
                    (41, 41),
                    x - column + 20,
                    y - row + 20,
                    rng.uniform(low, high),
                    pixel_nm,
                )
                light[(slice(first, first + 3), *box)] += photons * image
                truth.append((first + 1, x, y))
    electrons = rng.poisson(light) + rng.normal(0, 1.5, light.shape)
    return np.clip(electrons / 0.5 + 100, 0, 65535).astype(np.uint16), np.array(truth)


def measure(model: str, case, photons: float, pixel_nm: float, seed: int):
    """Median photons and background over the truth, and the share of emitters found."""
    adu, truth = movie(case, photons, pixel_nm, np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "movie.npy", Path(folder) / "locs.csv"
        np.save(file, adu)
        words = ["fit", str(file), "-m", model, "-o", str(out), "--baseline", "100"]
        words += ["--e-per-adu", "0.5", "--read-noise", "1.5"]
        words += ["--pixel-size-nm", f"{pixel_nm:g}"]
        result = CliRunner().invoke(blinkloop, words, catch_exceptions=False)
        if result.exit_code:
            raise SystemExit(result.output)
        found = read_table(out, pixel_size_nm=pixel_nm).data
    near = []
    for frame, x, y in truth:
        here = found[found["frame"] == frame]
        away = np.hypot(here["x_px"] - x, here["y_px"] - y)
        if len(here) and away.min() < 1.5:
            near.append(here[away.argmin()])
    close = np.array(near, found.dtype)
    return {
        "case": case[0],
        "true_photons": photons,
        "photons": float(np.median(close["photons"]) / photons),
        "background_added": float(np.median(close["background_photons"]) - BACKGROUND),
        "found": len(close) / len(truth),
    }


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="universal-2d")
    parser.add_argument("--pixel-size-nm", type=float, default=100.0)
    parser.add_argument("--photons", default="1000,5000")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    for case in CASES:
        for photons in map(float, words.photons.split(",")):
            record = measure(
                words.model, case, photons, words.pixel_size_nm, words.seed
            )
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
