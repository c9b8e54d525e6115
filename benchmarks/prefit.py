"""How well prefit recovers what a movie was simulated with: measured / true.

    python benchmarks/prefit.py [--rows "2D;spline"] [--frames 600] [--json]

Movies of 96 x 128 px at 100 nm from `simulate_scene`: isolated to crowded emitters,
three PSFs, three cameras. The table of docs/prefit.md comes from this command.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace

import numpy as np

from blinkloop.errors import InputError
from blinkloop.optics import Camera, GaussianPsf, SplinePsf
from blinkloop.optics.scene import SceneSettings, simulate_scene
from blinkloop.schema import CameraSettings, GaussianPsfSettings
from blinkloop.training.calibration.spline_fit import spline_coefficients
from blinkloop.training.prefit import measure

CAMERAS = {
    "ideal": CameraSettings(kind="ideal", e_per_adu=1.0),
    "scmos": CameraSettings(kind="scmos", e_per_adu=0.5, read_noise_e=1.5),
    "emccd": CameraSettings(
        kind="emccd",
        em_gain=300.0,
        e_per_adu=45.0,
        read_noise_e=74.4,
        spurious_e=0.002,
        quantum_efficiency=0.9,
    ),
}
FLAT = GaussianPsf(
    GaussianPsfSettings(sigma0_px=1.3, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0))
)
ASTIGMATIC = GaussianPsf(GaussianPsfSettings())
WIDE = GaussianPsf(GaussianPsfSettings(z_range_nm=(-900.0, 900.0)))
"""Calibrated over twice the depth of the emitters: large templates, more merging."""


def spline() -> SplinePsf:
    """The astigmatic Gaussian as a spline of 18 x 18 voxels of 50 nm, +-600 nm."""
    z = (12 - np.arange(25)) * 50.0
    at = np.full(25, 9.0)
    stack, _, _ = ASTIGMATIC.roi(at, at, z, np.ones(25), half_px=9)
    coefficients = spline_coefficients(np.ascontiguousarray(stack.transpose(2, 1, 0)))
    return SplinePsf(coefficients.astype(np.float32), (9.0, 9.0, 12.0), 50.0)


@dataclass(frozen=True)
class Row:
    """One simulated movie."""

    name: str
    psf: str = "2d"
    camera: str = "scmos"
    flux: float = 3000.0
    background: float = 20.0
    on_time: float = 3.0
    density: float = 0.1
    known_psf: bool = False


START = Row("start")
ROWS = [
    replace(START, name="2D"),
    replace(START, name="2D, ideal", camera="ideal"),
    replace(START, name="2D, EMCCD", camera="emccd"),
    replace(START, name="2D, flux 500", flux=500.0),
    replace(
        START,
        name="2D, flux 500, EMCCD, bg 2",
        flux=500.0,
        camera="emccd",
        background=2,
    ),
    replace(START, name="2D, flux 10000", flux=1e4),
    replace(START, name="2D, background 2", background=2.0),
    replace(START, name="2D, background 200", background=200.0),
    replace(START, name="2D, on-time 1.5", on_time=1.5),
    replace(START, name="2D, on-time 8", on_time=8.0),
    replace(START, name="2D, density 0.02", density=0.02),
    replace(START, name="2D, density 0.2", density=0.2),
    replace(START, name="2D, density 0.5", density=0.5),
    replace(START, name="astigmatic", psf="astigmatic"),
    replace(START, name="astigmatic, EMCCD", psf="astigmatic", camera="emccd"),
    replace(START, name="astigmatic, flux 1000", psf="astigmatic", flux=1000.0),
    replace(START, name="astigmatic, flux 10000", psf="astigmatic", flux=1e4),
    replace(START, name="astigmatic, density 0.02", psf="astigmatic", density=0.02),
    replace(START, name="astigmatic, density 0.3", psf="astigmatic", density=0.3),
    replace(START, name="astigmatic, on-time 8", psf="astigmatic", on_time=8.0),
    replace(START, name="spline", psf="spline", known_psf=True),
    replace(START, name="spline, EMCCD", psf="spline", known_psf=True, camera="emccd"),
    replace(START, name="spline, flux 1000", psf="spline", known_psf=True, flux=1000.0),
    replace(
        START, name="spline, density 0.3", psf="spline", known_psf=True, density=0.3
    ),
    replace(START, name="wide PSF", psf="wide", known_psf=True),
    replace(
        START, name="wide PSF, density 0.2", psf="wide", known_psf=True, density=0.2
    ),
    replace(
        START,
        name="2D, flux 500, background 200",
        flux=500.0,
        background=200.0,
    ),
]


def movie(row: Row, frames: int, rng: np.random.Generator, size=(96, 128)):
    """(frames, 96, 128) uint16, and the PSF."""
    psf = {"2d": FLAT, "astigmatic": ASTIGMATIC, "wide": WIDE}.get(row.psf) or spline()
    depth = (0.0, 0.0) if row.psf == "2d" else (-450.0, 450.0)
    settings = SceneSettings(
        n_frames=frames,
        height_px=size[0],
        width_px=size[1],
        pixel_size_nm=100.0,
        z_range_nm=depth,
    )
    scene = simulate_scene(
        rng,
        psf,
        Camera(CAMERAS[row.camera]),
        settings,
        density_per_um2=np.array([row.density]),
        photons=np.array([row.flux]),
        background_photons=np.array([row.background]),
        on_time_frames=np.array([row.on_time]),
    )
    return scene.frames_adu[0].astype(np.uint16), psf


def recover(row: Row, frames: int, seed: int) -> dict[str, object]:
    """Ratios measured / true of one row."""
    adu, psf = movie(row, frames, np.random.default_rng(seed))
    started = time.process_time()
    try:
        found = measure(
            [adu], Camera(CAMERAS[row.camera]), psf=psf if row.known_psf else None
        )
    except InputError as error:
        return {"name": row.name, "refused": str(error)}
    width = found.width
    return {
        "name": row.name,
        "flux": found.photons.value / row.flux,
        "flux_sd": found.photons_relative_sd / 0.2,
        "background": found.background.value / row.background,
        "on_time": found.on_time.value / row.on_time,
        "density": found.density_per_um2.value / row.density,
        "density_found": found.density_found_per_um2 / row.density,
        "fits": found.fits,
        "emitters": found.photons.count,
        "noise": found.noise_ratio,
        "sigma0_px": None if width is None else width.sigma0_px,
        "alpha": None if width is None else width.astigmatism,
        "seconds": time.process_time() - started,
        "warnings": found.warnings,
    }


SHOWN = (
    "flux",
    "flux_sd",
    "background",
    "on_time",
    "density",
    "density_found",
    "fits",
    "sigma0_px",
    "alpha",
    "seconds",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="Names, separated by ;")
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    wanted = [name for name in words.rows.split(";") if name]
    if not words.json:
        print("| movie |", " | ".join(SHOWN), "|")
        print("|---" * (len(SHOWN) + 1) + "|")
    for row in ROWS:
        if wanted and row.name not in wanted:
            continue
        result = recover(row, words.frames, words.seed)
        if words.json:
            print(json.dumps(result), flush=True)
            continue
        if "refused" in result:
            print(f"| {row.name} | refused: {result['refused']} |", flush=True)
            continue
        values = [result[key] for key in SHOWN]
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v or "") for v in values]
        print(f"| {row.name} |", " | ".join(cells), "|", flush=True)
        for line in result["warnings"]:
            print(f"|   warning: {line} |")


if __name__ == "__main__":
    main()
