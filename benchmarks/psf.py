"""Speed of the PSFs: emitters and frames per second, spline against Gaussian.

Draws the emitters of training frames (40x40 px by default, those in a margin of 10 px
included) with a Gaussian and with a spline PSF of 27x27 px and 40 slices, on NumPy, on
torch's CPU with and without gradients, and on torch's GPU where there is one. Then a
whole simulated batch (blinking, PSF, background, sCMOS camera) with each PSF. Times are
the best of several; on the CPU they are processor seconds, so that other programs on
the machine do not count.

    OMP_NUM_THREADS=1 python benchmarks/psf.py --frames 64 --json
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from blinkloop.optics import Camera, GaussianPsf, SplinePsf
from blinkloop.optics.gaussian import render_gaussians
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.schema import CameraSettings, GaussianPsfSettings
from blinkloop.training.calibration.spline_fit import spline_coefficients

Row = dict[str, Any]
Z_RANGE_NM = (-500.0, 500.0)


def spline_of(gaussian: GaussianPsf, size: int, slices: int) -> SplinePsf:
    """The Gaussian PSF, sampled and splined."""
    middle = (size - 1) / 2
    z = np.linspace(Z_RANGE_NM[1], Z_RANGE_NM[0], slices + 1)
    place, one = np.full(z.shape, middle), np.ones_like(z)
    frame = np.arange(z.shape[0])
    sigmas = gaussian.sigmas_px(z)
    samples = render_gaussians(
        place, place, *sigmas, one, frame, z.shape[0], size, size
    )
    a = spline_coefficients(samples.transpose(2, 1, 0), closed=True)
    dz_nm = (Z_RANGE_NM[1] - Z_RANGE_NM[0]) / slices
    reference = (middle, middle, Z_RANGE_NM[1] / dz_nm)
    return SplinePsf(a.astype(np.float32), reference, dz_nm)


def best(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    """Shortest of several runs after one that does not count, seconds."""
    run()
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def ways(repeats: int) -> list[tuple[str, Callable[[Any], Any], Any]]:
    """(name, how to bring an array there, timer) for each library and device."""

    def on_cpu(run: Callable[[], object]) -> float:
        return best(run, repeats, time.process_time)

    found: list[tuple[str, Callable[[Any], Any], Any]] = [("numpy", np.asarray, on_cpu)]
    try:
        import torch
    except ImportError:
        return found

    def with_gradient(array: Any) -> Any:
        tensor = torch.from_numpy(array)
        return tensor.requires_grad_() if tensor.is_floating_point() else tensor

    found.append(("torch CPU", torch.from_numpy, on_cpu))
    found.append(("torch CPU, gradients", with_gradient, on_cpu))
    if torch.cuda.is_available():

        def on_gpu(run: Callable[[], object]) -> float:
            def waited() -> None:
                run()
                torch.cuda.synchronize()

            return best(waited, repeats, time.perf_counter)

        name = f"torch GPU ({torch.cuda.get_device_name()})"
        found.append((name, lambda array: torch.from_numpy(array).cuda(), on_gpu))
    return found


def draw(arguments: argparse.Namespace) -> list[Row]:
    """Rows: library, PSF, emitters/s, frames/s."""
    rng = np.random.default_rng(0)
    size, frames = arguments.size, arguments.frames
    area_um2 = ((size + 20) * 0.1) ** 2
    count = int(arguments.density * area_um2 * frames)
    values = [
        rng.uniform(*limits, count).astype(np.float32)
        for limits in ((-10, size + 10), (-10, size + 10), Z_RANGE_NM, (500, 5000))
    ]
    frame = np.sort(rng.integers(0, frames, count))
    gaussian = GaussianPsf(GaussianPsfSettings())
    psfs = {"gaussian": gaussian, "spline": spline_of(gaussian, 27, 40)}
    rows = []
    for library, bring, timer in ways(arguments.repeats):
        at, there = [bring(value) for value in values], bring(frame)
        for name, psf in psfs.items():
            seconds = timer(
                lambda psf=psf, at=at, there=there: psf.render(
                    *at, there, frames, size, size
                )
            )
            rows.append(
                {
                    "what": library,
                    "psf": name,
                    "emitters_per_s": round(count / seconds),
                    "frames_per_s": round(frames / seconds),
                }
            )
    for name, psf in psfs.items():
        seconds = best(
            lambda psf=psf: simulate(psf, arguments),
            arguments.repeats,
            time.process_time,
        )
        rows.append(
            {
                "what": "simulation, numpy",
                "psf": name,
                "emitters_per_s": None,
                "frames_per_s": round(arguments.movies * 6 / seconds),
            }
        )
    return rows


def simulate(psf: Any, arguments: argparse.Namespace) -> None:
    """A batch of training movies of 6 frames."""
    movies = arguments.movies

    def all_movies(value: float) -> Any:
        return np.full(movies, value)

    simulate_scene(
        np.random.default_rng(1),
        psf,
        Camera(CameraSettings(kind="scmos")),
        SceneSettings(
            n_frames=6,
            height_px=arguments.size,
            width_px=arguments.size,
            pixel_size_nm=100.0,
            z_range_nm=Z_RANGE_NM,
        ),
        density_per_um2=all_movies(arguments.density),
        photons=all_movies(2000.0),
        background_photons=all_movies(20.0),
        on_time_frames=all_movies(2.0),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=64, help="Frames drawn at once.")
    parser.add_argument("--size", type=int, default=40, help="Side of a frame, px.")
    parser.add_argument("--density", type=float, default=1.0, help="Emitters per um^2.")
    parser.add_argument("--movies", type=int, default=32, help="Movies of a batch.")
    parser.add_argument("--repeats", type=int, default=7, help="Runs, the best counts.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    chosen = parser.parse_args(arguments)
    rows = draw(chosen)
    if chosen.json:
        machine = {"machine": platform.processor() or platform.machine()}
        print(json.dumps({**machine, **vars(chosen), "rows": rows}, indent=2))
        return 0
    print(f"{'':28} {'PSF':9} {'emitters/s':>12} {'frames/s':>10}")
    for row in rows:
        emitters = "" if row["emitters_per_s"] is None else row["emitters_per_s"]
        print(
            f"{row['what']:28} {row['psf']:9} {emitters:>12} {row['frames_per_s']:>10}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
