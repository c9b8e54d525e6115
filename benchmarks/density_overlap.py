"""Density over the true one, as counted and with what neighbours hide put back.

Frames of the virtual microscope at a constant power, a bundled network, the real
estimator. Besides the structures of the virtual microscope: `clusters:30:2` (SD in nm,
clusters per um^2) and `half` (even, in one half of the field). The width of the
correction was taken from even samples alone.

    python benchmarks/density_overlap.py --density 0.5 uniform rings clusters half
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import closed_loop_sample as sample
import numpy as np
import numpy.typing as npt
from closed_loop_images import settings_of
from closed_loop_sample import FPS, TARGET, Case

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._session import Session, open_session
from blinkloop.integrations.virtual import Simulator, structures
from blinkloop.runtime import Frame, Roi, probability_floor
from blinkloop.runtime.density import DensityEstimator

_WARM_UP = 30
_LEARNED = 100
"""Frames that are not judged: the correction is being learned."""


def _half(n: int, box: Any, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    points = rng.uniform(box.low, box.high, (n, 3))
    points[:, 0] = box.low[0] + 0.5 * (points[:, 0] - box.low[0])
    return points


@contextmanager
def shape(name: str) -> Iterator[str]:
    """The structure to ask for, while the sample is drawn."""
    if name.startswith("clusters:"):
        sd_nm, per_um2 = map(float, name.split(":")[1:])
        with (
            mock.patch.object(structures, "_CLUSTER_SIGMA_NM", sd_nm),
            mock.patch.object(structures, "_CLUSTERS_PER_UM2", per_um2),
        ):
            yield "clusters"
    elif name == "half":
        with mock.patch.dict(structures._SHAPES, uniform=_half):
            yield "uniform"
    else:
        yield name


def shares(
    session: Session, name: str, density: float, frames: int, seed: int
) -> tuple[float, float]:
    """Counted and corrected density over the true one."""
    with shape(name) as structure:
        settings = settings_of(session, Case("", structure=structure), seed)
        simulator = Simulator(settings)
    card = session.model.card
    floor = probability_floor(card.architecture.logit_clamp)
    size = settings.height_px, settings.width_px
    roi = Roi(0, 0, size[1], size[0])
    estimators = [
        DensityEstimator(card.pixel_size_nm, p_floor=floor, overlap_px=0.0),
        DensityEstimator(card.pixel_size_nm, p_floor=floor),
    ]
    true = np.zeros(frames)
    power = settings.start_power_mw * density / TARGET
    sums = np.zeros(3)
    for number in range(-_WARM_UP, frames):
        image = np.zeros(size, np.uint16)
        _, facts = simulator.frame(image, power, number + _WARM_UP)
        if number < 0:
            continue
        true[number] = facts["emitters"][0] / settings.field_um2
        frame = Frame(number, number / FPS, image, roi)
        for result in session.localizer.push([frame]):
            seen = [estimator.update(result).per_um2 for estimator in estimators]
            if result.index >= _LEARNED:
                sums += (*seen, true[result.index])
    session.localizer.flush()
    return sums[0] / sums[2], sums[1] / sums[2]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("structures", nargs="+")
    parser.add_argument("--density", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--model", default="astigmatic-lite")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--size", type=int, default=96, help="Side, px.")
    parser.add_argument("--seed", type=int, default=12)
    options = parser.parse_args()
    sample.SIDE_PX = options.size
    out = sys.stdout.write
    model = resolve_model(options.model)
    out(f"{options.model}, seed {options.seed}\n\n")
    out("| structure | per um^2 | counted | corrected |\n|---|---|---|---|\n")
    for name in options.structures:
        for density in options.density:
            session = open_session(
                model, CameraFlags(), {}, source="movie", backend="auto", threads=1
            )
            seen, corrected = shares(
                session, name, density, options.frames, options.seed
            )
            out(f"| {name} | {density:g} | {seen:.2f} | {corrected:.2f} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
