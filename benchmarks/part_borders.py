"""What the borders of a part cost: its counts against those of the whole image.

A simulated movie is localized whole and, cut out, in its middle (`--roi` of live
verbs). Printed is sum p of the part, without the floor, over that of the whole image in
the same pixels and over the truth, in rings of 8 px from the part's border inwards.

    python benchmarks/part_borders.py astigmatic-lite 0.5
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from blinkloop.cli._bundled import resolve_model
from blinkloop.evaluation.movie import simulate_movie
from blinkloop.evaluation.settings import EvaluationSettings
from blinkloop.runtime import (
    Frame,
    ModelFile,
    Roi,
    StreamLocalizer,
    localize_movie,
    probability_floor,
    read_model,
)

_BLOCK_PX = 8
Blocks = npt.NDArray[np.float64]


def counts(model: ModelFile, frames: npt.NDArray[np.generic], roi: Roi) -> Blocks:
    """Mean sum p in blocks of 8 x 8 px, without the floor."""
    localizer = StreamLocalizer(
        model, "onnxruntime-cpu", threads=1, max_frames_per_call=8
    )
    given = (Frame(i, 0.01 * i, pixels, roi) for i, pixels in enumerate(frames))
    results = localize_movie(given, localizer, batch=8)
    total = np.mean([result.block_mean for result in results], axis=0, dtype=float)
    floor = probability_floor(model.card.architecture.logit_clamp)
    return np.asarray(total - floor * _BLOCK_PX**2)


def main() -> None:
    """Print a line per ring, and one for the whole part."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="bundled name or path")
    parser.add_argument("density", type=float, help="emitters per um^2")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--part", type=int, default=128, help="side, px; 8 divides it")
    parser.add_argument(
        "--margin", type=int, default=32, help="around it; 8 divides it"
    )
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    part, margin = arguments.part, arguments.margin
    model, side = read_model(resolve_model(arguments.model)), part + 2 * margin
    settings = EvaluationSettings(
        height_px=side,
        width_px=side,
        frames=arguments.frames,
        density_per_um2=arguments.density,
        seed=arguments.seed,
    )
    scene = simulate_movie(model.card, settings)
    frames = np.asarray(scene.frames_adu)[0]
    inner, n = slice(margin, margin + part), part // _BLOCK_PX
    cut = np.ascontiguousarray(frames[:, inner, inner])
    of_part = counts(model, cut, Roi(margin, margin, part, part))
    first = margin // _BLOCK_PX
    middle = slice(first, first + n)
    of_whole = counts(model, frames, Roi(0, 0, side, side))[middle, middle]
    known = scene.emitters[scene.emitters["photons"] >= 50]
    y, x = (known[name] + 0.5 - margin for name in ("y_px", "x_px"))
    edges = np.arange(n + 1) * _BLOCK_PX
    truth = np.histogram2d(y, x, (edges, edges))[0] / arguments.frames
    place = np.arange(n)
    ring = np.minimum(place, n - 1 - place)
    rings = np.minimum.outer(ring, ring)
    for name, chosen in (
        *((f"{8 * k} to {8 * k + 8} px", rings == k) for k in range(n // 2)),
        ("all", rings >= 0),
    ):
        sums = [blocks[chosen].sum() for blocks in (of_part, of_whole, truth)]
        print(
            f"{name:12} part / whole {sums[0] / sums[1]:.4f}   "
            f"part / truth {sums[0] / sums[2]:.4f}   "
            f"whole / truth {sums[1] / sums[2]:.4f}"
        )


if __name__ == "__main__":
    main()
