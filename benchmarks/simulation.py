"""How many training samples the simulator makes per second, and what they look like.

One sample is a 40 x 40 px target frame with the frames before and after it, at 1
emitter per um^2 (100 nm pixels), 3000 photons, background 20, sCMOS, margin included.
Movies have as many target frames as the bundled recipes (2, and two more for context)
or 30: neighbouring samples of one movie share frames, so long movies are cheaper, but
less varied.

CPU rates are per second of processor time of one core, so that what else the machine
does counts little. Device rates are per second of wall time.

    python benchmarks/simulation.py                  # one core, NumPy and torch
    python benchmarks/simulation.py --device cuda    # and a GPU
    python benchmarks/simulation.py --pictures docs/images/simulation.png
    python benchmarks/simulation.py --dry            # does it run? seconds
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from blinkloop.psf_file import PsfCalibration, write_psf
from blinkloop.training.recipe import Recipe
from blinkloop.training.recipes import load_recipe
from blinkloop.training.simulate import Simulator

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "decode_spline.npz"

OFFICIAL_MINUTES = (1.0, 3.0)
"""Issue 3 says of the official sampler "minutes for 10,000 frames of 40x40" (users
complain in TuragaLab/DECODE issue 241, REFERENCE section 13). No number was found that
says how many, and its code is not run here; so rates are compared with 1 and 3."""


def spline_settings(folder: Path) -> dict[str, Any]:
    """The official test spline (13 x 13 px, 3D) as a calibration file."""
    with np.load(GOLDEN) as golden:
        calibration = PsfCalibration(
            golden["coeff"].astype(np.float32),
            tuple(float(value) for value in golden["ref0"]),
            float(golden["vx"][2]),
            pixel_size_nm=100.0,
            z_range_nm=(-500.0, 500.0),
        )
    write_psf(folder / "psf.h5", calibration)
    return calibration.settings(folder / "psf.h5").model_dump()


def recipe(psf: dict[str, Any], targets: int, batch: int, **sample: Any) -> Recipe:
    """The conditions of the module docstring."""
    return Recipe.model_validate(
        {
            "psf": psf,
            "sample": {
                "photons": [3000.0, 3000.0],
                "background_photons": [20.0, 20.0],
                "density_per_um2": [1.0, 1.0],
                "on_time_frames": [3.0, 3.0],
                "empty_fraction": 0.0,
                **sample,
            },
            "schedule": {"batch": batch, "targets_per_movie": targets},
        }
    )


def rate(made: Recipe, device: str | None, seconds: float) -> float:
    """Samples per second; best of the rounds that fit into the time."""
    simulator = Simulator(made, device=device)
    on_gpu = device is not None and device != "cpu"
    clock = time.perf_counter if on_gpu else time.process_time
    simulator.batch(0)
    best, number, until = float("inf"), 1, time.perf_counter() + seconds
    while number == 1 or time.perf_counter() < until:
        started = clock()
        for _ in range(4):
            frames = simulator.batch(number).frames
            number += 1
        if on_gpu:
            float(frames.sum())  # waits for the device
        best = min(best, (clock() - started) / 4)
    return made.schedule.batch * made.schedule.targets_per_movie / best


def pictures(path: Path) -> None:
    """Sixteen movies of `universal-2d`: a frame, its targets, and its background."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    made = load_recipe("universal-2d")
    batch = Simulator(made).batch(1)
    length = batch.frames.shape[1]
    figure, axes = plt.subplots(4, 8, figsize=(12.8, 7.2), layout="constrained")
    for movie, (left, right) in enumerate(axes.reshape(-1, 2)):
        frame = batch.frames[movie, 1]
        rows = batch.emitters[batch.emitters["frame"] == movie * length + 1]
        rows = rows[rows["photons"] >= made.sample.photons_floor]
        left.imshow(frame, "gray", vmax=np.percentile(frame, 99.8))
        left.plot(rows["x_px"], rows["y_px"], "+", color="#ff9f1c", ms=4)
        left.set_title(f"brightest pixel {frame.max():.0f}", fontsize=8)
        low, high = (f"{v:.3g}" for v in np.quantile(batch.background[movie], (0, 1)))
        right.imshow(batch.background[movie], "viridis")
        right.set_title(f"background {low} to {high}", fontsize=8)
        for axis in (left, right):
            axis.set(xticks=[], yticks=[], xlim=(-0.5, 39.5), ylim=(39.5, -0.5))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="a torch device beside the CPU, e.g. cuda")
    parser.add_argument("--seconds", type=float, default=4.0, help="per row")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--pictures", type=Path, help="only draw samples into a file")
    parser.add_argument("--dry", action="store_true", help="does it run?")
    given = parser.parse_args()
    if given.pictures is not None:
        pictures(given.pictures)
        return
    torch.set_num_threads(1)
    seconds = 0.0 if given.dry else given.seconds
    with tempfile.TemporaryDirectory() as folder:
        gaussian = {"kind": "gaussian", "sigma0_px": 1.1}
        spline = spline_settings(Path(folder))
        defocused = {"defocused_fraction": 0.3, "background_structure_max": 0.3}
        cases = {
            "gaussian, 2 targets per movie": recipe(gaussian, 2, 16),
            "gaussian, 30 targets per movie": recipe(gaussian, 30, 4),
            "gaussian, structure and defocused": recipe(gaussian, 2, 16, **defocused),
            "spline, 2 targets per movie": recipe(spline, 2, 16),
        }
        places: dict[str, str | None] = {"numpy": None, "torch cpu": "cpu"}
        if given.device:
            places[given.device] = given.device
        print(
            f"samples/s; numpy {np.__version__}, torch {torch.__version__}, "
            f"{platform.processor() or platform.machine()}; in brackets, times 10,000 "
            f"samples in {OFFICIAL_MINUTES[0]:g} and {OFFICIAL_MINUTES[1]:g} minutes"
        )
        numbers: dict[str, dict[str, float]] = {}
        for name, made in cases.items():
            numbers[name] = {}
            for place, device in places.items():
                if device not in (None, "cpu"):  # a device wants large batches
                    large = made.schedule.model_copy(update={"batch": 512})
                    made = made.model_copy(update={"schedule": large})
                found = numbers[name][place] = rate(made, device, seconds)
                low, high = (found * m * 60 / 1e4 for m in OFFICIAL_MINUTES)
                print(f"{name:>36} {place:>10}: {found:8.0f} ({low:.0f} to {high:.0f})")
    if given.json is not None:
        given.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
