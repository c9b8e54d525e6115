"""Accuracy of 2D networks on spots that are no Gaussians.

Blinking emitters drawn by a vectorial pupil model (`pupil.py`, which shares nothing
with the package) with and without aberrations, and by a Gaussian; on for 3 frames in
the mean, an sCMOS camera; localized by `blinkloop fit`. An emitter counts when it sends
at least 50 photons into a frame, and is where the core of its image is.

    python benchmarks/pupil_accuracy.py --models universal-2d universal-2d-lite
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from pupil import Pupil

from blinkloop.cli import main as blinkloop
from blinkloop.integrations.formats import read_table
from blinkloop.metrics.accuracy import Field, accuracy
from blinkloop.schema import EMITTER_DTYPE

PIXEL_NM, SIDE, HALF, ON_FRAMES = 100.0, 64, 15, 3.0
ABERRATED = {
    "spherical": {"spherical": 0.08, "coma": 0.05},
    "coma": {"coma": 0.09, "astigmatism": -0.03},
    "weak": {"spherical": -0.05, "coma": -0.02, "astigmatism": 0.03},
}
CASES = {
    "Gaussian": (None, 300.0),
    "NA 1.4, in focus": (Pupil(1.4), 0.0),
    "NA 1.4": (Pupil(1.4), 300.0),
    "NA 1.2, z within 600": (Pupil(1.2), 600.0),
    **{f"NA 1.4, {name}": (Pupil(1.4, w), 300.0) for name, w in ABERRATED.items()},
}
CONDITIONS = [(0.1, 1500.0, 20.0), (0.5, 1500.0, 20.0), (1.5, 1500.0, 20.0)]
CONDITIONS += [(0.3, 8000.0, 60.0)]


class Gaussian:
    """A round Gaussian, 1.25 px in focus."""

    def image(self, shape, x, y, z_nm, pixel_nm):
        """(h, w) share of the light."""
        sigma = 125.0 / pixel_nm * math.hypot(1.0, z_nm / 400.0)

        def share(size, at):
            edges = (np.arange(size + 1) - 0.5 - at) / (sigma * math.sqrt(2))
            return np.diff([0.5 * (1 + math.erf(edge)) for edge in edges])

        return np.outer(share(shape[0], y), share(shape[1], x))


def core(psf, z_nm: float) -> tuple[float, float]:
    """x, y in px of the middle of an image's core, for an emitter at 0, 0."""
    size = 2 * HALF + 1
    light = psf.image((5 * size, 5 * size), 5 * HALF + 2, 5 * HALF + 2, z_nm, 20.0)
    places = (np.arange(5 * size) - 5 * HALF - 2) / 5
    x = y = 0.0
    for _ in range(20):
        seen = light * np.exp(-0.5 * ((places - x) / 2.4) ** 2)
        seen *= np.exp(-0.5 * ((places - y) / 2.4) ** 2)[:, None]
        x += seen.sum(0) @ (places - x) / seen.sum()
        y += seen.sum(1) @ (places - y) / seen.sum()
    return x, y


def movie(psf, reach_nm, density, photons, background, frames, rng):
    """(T, H, W) uint16, and `EMITTER_DTYPE` rows."""
    heights = np.linspace(-reach_nm, reach_nm, 13)
    shifts = np.array([core(psf, z) for z in heights])
    share = density * (SIDE * PIXEL_NM / 1000) ** 2 / ON_FRAMES
    begins = rng.uniform(-20, frames, rng.poisson(share * (frames + 20)))
    light = np.full((frames, SIDE + 2 * HALF, SIDE + 2 * HALF), background)
    rows = []
    for begin in begins:
        end = begin + rng.exponential(ON_FRAMES)
        x, y = rng.uniform(-0.5, SIDE - 0.5, 2)
        z, flux = rng.uniform(-reach_nm, reach_nm), photons * rng.lognormal(0, 0.4)
        column, row = round(x), round(y)
        shape = (2 * HALF + 1, 2 * HALF + 1)
        image = psf.image(shape, x - column + HALF, y - row + HALF, z, PIXEL_NM)
        x += np.interp(z, heights, shifts[:, 0])
        y += np.interp(z, heights, shifts[:, 1])
        for frame in range(max(math.floor(begin), 0), min(math.ceil(end), frames)):
            n = flux * (min(end, frame + 1) - max(begin, frame))
            box = slice(row, row + 2 * HALF + 1), slice(column, column + 2 * HALF + 1)
            light[(frame, *box)] += n * image
            rows.append((frame, x, y, n))
    truth = np.zeros(len(rows), EMITTER_DTYPE)
    for number, name in enumerate(("frame", "x_px", "y_px", "photons")):
        truth[name] = [row[number] for row in rows]
    light = light[:, HALF:-HALF, HALF:-HALF]
    electrons = rng.poisson(light) + rng.normal(0, 1.5, light.shape)
    return np.clip(electrons / 0.5 + 100, 0, 65535).astype(np.uint16), truth


def localize(adu, model: str):
    """Table of `blinkloop fit`."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "movie.npy", Path(folder) / "locs.csv"
        np.save(file, adu)
        words = ["fit", str(file), "-m", model, "-o", str(out), "--baseline", "100"]
        words += ["--e-per-adu", "0.5", "--read-noise", "1.5"]
        words += ["--pixel-size-nm", f"{PIXEL_NM:g}"]
        result = CliRunner().invoke(blinkloop, words, catch_exceptions=False)
        if result.exit_code:
            raise SystemExit(result.output)
        return read_table(out, pixel_size_nm=PIXEL_NM).data


def main() -> None:
    """Print one line per case, condition and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["universal-2d"])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rows", type=int, default=2000, help="emitter rows per line")
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    for case in words.cases:
        psf, reach_nm = CASES[case]
        for density, photons, background in CONDITIONS:
            area = (SIDE * PIXEL_NM / 1000) ** 2
            frames = math.ceil(words.rows / (area * density * (1 + 1 / ON_FRAMES)))
            rng = np.random.default_rng(words.seed)
            adu, truth = movie(
                psf or Gaussian(), reach_nm, density, photons, background, frames, rng
            )
            for model in words.models:
                found = localize(adu, model)
                field = Field(SIDE, SIDE)
                score = accuracy(
                    truth, found, PIXEL_NM, field=field, three_dimensional=False
                )
                record = {
                    "case": case,
                    "density_per_um2": density,
                    "photons": photons,
                    "model": model,
                    "emitters": score.n_truth,
                    "jaccard": round(score.jaccard, 4),
                    "recall": round(score.recall, 4),
                    "false_per_emitter": round(
                        (score.n_predicted - score.n_matched) / score.n_truth, 4
                    ),
                    "rmse_nm": round(score.rmse_lateral_nm, 2),
                }
                print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
