"""How close single-emitter fits come to the Cramer-Rao bound, and how fast they are.

    python benchmarks/fitting.py [--emitters 10000]

RMSE / bound of x, y, z, photons and background of simulated emitters in windows of
11 x 11 px, background 20; fits per second of CPU time of one core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from prefit import ASTIGMATIC, CAMERAS, FLAT, spline

from blinkloop.fitting import cut_windows, fit_psf, fit_widths
from blinkloop.optics import Camera

HALF, SIDE = 5, 13


def row(name, psf, camera, photons, count, fit, names, depth=400.0):
    """Print one line of the table."""
    rng = np.random.default_rng(7)
    truth = {
        "x_px": rng.uniform(5.5, 6.5, count),
        "y_px": rng.uniform(5.5, 6.5, count),
        "z_nm": rng.uniform(-depth, depth, count),
        "photons": np.full(count, float(photons)),
        "background": np.full(count, 20.0),
    }
    values = (truth[key] for key in ("x_px", "y_px", "z_nm", "photons"))
    light = psf.render(*values, np.arange(count), count, SIDE, SIDE) + 20.0
    frames = camera.backward(camera.forward(light, rng))
    middle = np.full(count, 6)
    windows = cut_windows(frames, np.arange(count), middle, middle, HALF, camera)
    started = time.process_time()
    fits = fit(windows)
    seconds = time.process_time() - started
    bounds = {"x_px": "x_sigma_px", "y_px": "y_sigma_px", "z_nm": "z_sigma_nm"}
    cells = []
    for key in ("x_px", "y_px", "z_nm", "photons", "background"):
        if key not in names:
            cells.append("-")
            continue
        bound = getattr(fits, bounds.get(key, f"{key}_sigma"))[fits.good]
        error = (getattr(fits, key) - truth[key])[fits.good]
        ratio = np.sqrt(np.mean(error**2) / np.mean(bound**2))
        cells.append(f"{ratio:.3f}")
    rate = f"{count / seconds:.0f}"
    print(
        "|",
        " | ".join([name, str(photons), *cells, f"{fits.good.mean():.4f}", rate]),
        "|",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emitters", type=int, default=10000)
    count = parser.parse_args().emitters
    plane = ("x_px", "y_px", "photons", "background")
    splined = spline()
    print("| fit | photons | x | y | z | N | bg | good | fits/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for photons in (1000, 5000):
        for key in ("ideal", "scmos", "emccd"):
            camera = Camera(CAMERAS[key])
            row(f"astigmatic, {key}", ASTIGMATIC, camera, photons, count,
                lambda w: fit_psf(w, ASTIGMATIC), (*plane, "z_nm"))  # fmt: skip
        camera = Camera(CAMERAS["ideal"])
        row("spline, ideal", splined, camera, photons, count,
            lambda w: fit_psf(w, splined), (*plane, "z_nm"))  # fmt: skip
        row("2D, ideal", FLAT, camera, photons, count,
            lambda w: fit_psf(w, FLAT), plane, 0.0)  # fmt: skip
        row("2D free width, ideal", FLAT, camera, photons, count,
            fit_widths, plane, 0.0)  # fmt: skip


if __name__ == "__main__":
    main()
