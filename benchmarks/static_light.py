"""What `fit --remove-static-light` gives and costs, on samples with and without it.

    python benchmarks/static_light.py [--model universal-2d] [--samples "cell;none"]

Movies of 97 x 131 px at 100 nm, 1000 photons per frame of an emitter, background 15,
read noise 1 e: emitters at random places, or at sites that are on for a share of the
time. Static light: a filament, a cell with a sharp edge, four fiducials.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._corrections import Corrections
from blinkloop.cli._options import CameraFlags
from blinkloop.cli.fit import fit_movie
from blinkloop.evaluation import score
from blinkloop.optics import Camera, GaussianPsf
from blinkloop.optics.emitter_image import emitter_image
from blinkloop.runtime import read_live_store, read_model
from blinkloop.schema import EMITTER_DTYPE, CameraSettings, GaussianPsfSettings

HEIGHT, WIDTH, PIXEL_NM = 97, 131, 100.0
PSF = GaussianPsf(
    GaussianPsfSettings(sigma0_px=1.3, astigmatism_nm=0.0, z_range_nm=(0.0, 0.0))
)
CAMERA = CameraSettings(
    kind="scmos",
    baseline_adu=100.0,
    e_per_adu=0.5,
    read_noise_e=1.0,
    quantum_efficiency=1.0,
    pixel_size_nm=PIXEL_NM,
)
PHOTONS, BACKGROUND = 1000.0, 15.0
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """What is in a movie; without sites the emitters lie anywhere.

    Parameters
    ----------
    name
        In the table.
    static
        Of "filament", "cell", "fiducials".
    density
        Emitters per um^2 and frame, of those that are anywhere.
    on_frames
        Mean on-time.
    sites, duty
        Number of places, and the share of the time each is on.
    bleaching
        Static light fades to exp(-this) over the movie.
    """

    name: str
    static: tuple[str, ...] = ()
    density: float = 0.5
    on_frames: float = 3.0
    sites: int = 0
    duty: float = 0.0
    bleaching: float = 0.0


SAMPLES = [
    Sample("filament and cell", ("filament", "cell")),
    Sample("filament", ("filament",)),
    Sample("filament, 2 per um^2", ("filament",), density=2.0),
    Sample("filament, bleaching to 0.22", ("filament",), bleaching=1.5),
    Sample("cell", ("cell",)),
    Sample("4 fiducials", ("fiducials",)),
    Sample("none"),
    Sample("none, 2 per um^2", density=2.0),
    Sample("none, on for 30 frames", on_frames=30.0),
    Sample("none, 60 sites on 20 %", on_frames=10.0, sites=60, duty=0.2),
    Sample("none, 60 sites on 50 %", on_frames=10.0, sites=60, duty=0.5),
    Sample("none, 60 sites on 70 %", on_frames=10.0, sites=60, duty=0.7),
]


def static_image(kinds: Sequence[str], rng: np.random.Generator) -> Floats:
    """(H, W) photons per frame that are always there, above the background."""
    image = np.zeros((HEIGHT, WIDTH))
    if "filament" in kinds:
        t = np.linspace(0, 1, 400)
        x, y = 20 + 90 * t, 30 + 40 * np.sin(3 * t)
        image += draw(x, y, np.full(400, 60.0))
    if "cell" in kinds:
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        image += 80 / (1 + np.exp((np.hypot(x - 90, y - 80) - 35) / 2))
    if "fiducials" in kinds:
        x, y = rng.uniform(10, WIDTH - 10, 4), rng.uniform(10, HEIGHT - 10, 4)
        image += draw(x, y, np.full(4, 3000.0))
    return image


def draw(x: Floats, y: Floats, photons: Floats) -> Floats:
    """(H, W) expected photons."""
    positions = np.stack([x, y, np.zeros(len(x))], -1)
    return emitter_image(PSF, positions, photons, HEIGHT, WIDTH).astype(float)


def blinks(
    sample: Sample, frames: int, rng: np.random.Generator
) -> Iterator[tuple[float, float, float, float, float]]:
    """x, y, begin, end and photons per frame of each time an emitter is on."""

    def brightness() -> float:
        return PHOTONS * rng.uniform(0.5, 1.5)

    for _ in range(sample.sites):
        x, y = rng.uniform(5, WIDTH - 5), rng.uniform(5, HEIGHT - 5)
        off = sample.on_frames * (1 - sample.duty) / sample.duty
        now = 0.0
        while now < frames:
            begin = now + rng.exponential(off)
            now = begin + rng.exponential(sample.on_frames)
            yield x, y, begin, now, brightness()
    if sample.sites:
        return
    area_um2 = HEIGHT * WIDTH * (PIXEL_NM / 1000) ** 2
    for _ in range(rng.poisson(sample.density * area_um2 * frames / sample.on_frames)):
        begin = rng.uniform(-5 * sample.on_frames, frames)
        end = begin + rng.exponential(sample.on_frames)
        x, y = rng.uniform(-0.5, WIDTH - 0.5), rng.uniform(-0.5, HEIGHT - 0.5)
        yield x, y, begin, end, brightness()


def simulate(
    sample: Sample, frames: int, seed: int
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.void]]:
    """The movie in ADU and what is in it."""
    rng = np.random.default_rng(seed)
    static, camera = static_image(sample.static, rng), Camera(CAMERA)
    rows: list[tuple[Any, ...]] = []
    for number, (x, y, begin, end, photons) in enumerate(blinks(sample, frames, rng)):
        for frame in range(max(int(np.floor(begin)), 0), min(int(end) + 1, frames)):
            light = photons * (min(frame + 1, end) - max(frame, begin))
            if light > 0:
                rows.append((frame, number, x, y, 0.0, light, BACKGROUND))
    truth = np.array(rows, EMITTER_DTYPE)
    movie = np.empty((frames, HEIGHT, WIDTH), np.uint16)
    for frame in range(frames):
        here = truth[truth["frame"] == frame]
        photons = BACKGROUND + static * np.exp(-sample.bleaching * frame / frames)
        photons += draw(
            *(here[name].astype(float) for name in ("x_px", "y_px", "photons"))
        )
        counts = camera.forward(photons.astype(np.float32), rng)
        movie[frame] = np.clip(np.rint(counts), 0, 65535)
    return movie, truth


def measure(
    sample: Sample, model: Path, frames: int, seed: int, threads: int | None
) -> dict[str, Any]:
    """Scores of one sample, as it is and without static light."""
    movie, truth = simulate(sample, frames, seed)
    card = read_model(model).card
    names = ("baseline_adu", "e_per_adu", "read_noise_e", "quantum_efficiency")
    values = {name: getattr(CAMERA, name) for name in (*names, "pixel_size_nm")}
    row: dict[str, Any] = {"sample": sample.name}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "movie.npy", movie)
        for key, wanted in (("as it is", False), ("removed", True)):
            out = Path(folder) / f"{key}.zarr"
            fit_movie(
                Path(folder) / "movie.npy",
                model,
                out,
                flags=CameraFlags(None, values),
                threads=threads,
                corrections=Corrections(remove_static_light=wanted),
            )
            found = score(
                truth,
                read_live_store(out).data,
                card=card,
                frames=frames,
                height_px=HEIGHT,
                width_px=WIDTH,
                pixel_size_nm=PIXEL_NM,
            ).values
            row[key] = {
                name: found[name]
                for name in ("jaccard", "precision", "recall", "rmse_lateral_nm")
            }
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each sample."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default="universal-2d")
    parser.add_argument("--samples", help="names with ; between them; default: all")
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    wanted = options.samples and options.samples.split(";")
    rows = []
    for sample in SAMPLES:
        if wanted and sample.name not in wanted:
            continue
        row = measure(
            sample,
            resolve_model(options.model),
            options.frames,
            options.seed,
            options.threads,
        )
        rows.append(row)
        if not options.json:
            before, after = row["as it is"], row["removed"]
            print(
                f"{sample.name}: Jaccard {before['jaccard']:.3f} -> "
                f"{after['jaccard']:.3f}, precision {before['precision']:.3f} -> "
                f"{after['precision']:.3f}, recall {before['recall']:.3f} -> "
                f"{after['recall']:.3f}, lateral RMSE {before['rmse_lateral_nm']:.1f} "
                f"-> {after['rmse_lateral_nm']:.1f} nm",
                flush=True,
            )
    if options.json:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
