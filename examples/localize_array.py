"""Localize frames that are in memory, without files and without threads.

    python examples/localize_array.py MODEL.onnx

Simulates a short movie that fits the model, localizes it frame by frame as a camera
would deliver it, and compares with the truth.
"""

from __future__ import annotations

import sys

import numpy as np

from blinkloop.evaluation import EvaluationSettings, score, simulate_movie
from blinkloop.runtime import Frame, Roi, StreamLocalizer, read_model


def main(path: str) -> None:
    """Localize a simulated movie with the model at `path`."""
    model = read_model(path)
    settings = EvaluationSettings(frames=50, height_px=40, width_px=56, seed=1)
    scene = simulate_movie(model.card, settings)
    movie = scene.frames_adu[0]  # (T, H, W) raw camera counts

    localizer = StreamLocalizer(model)
    roi = Roi(x=0, y=0, width=movie.shape[2], height=movie.shape[1])
    results = []
    for index, pixels in enumerate(movie):
        # One frame in, results out as soon as the next frame is known.
        results += localizer.push([Frame(index, index * 0.02, pixels, roi)])
    results += localizer.flush()  # the last frame has no next one to wait for
    localizer.close()

    table = np.concatenate([result.localizations for result in results])
    print(f"{len(results)} frames, {len(table)} localizations; the first:")
    print(
        {name: table[0][name] for name in table.dtype.names or ()} if len(table) else ""
    )
    measured = score(
        scene.emitters,
        table,
        card=model.card,
        frames=settings.frames,
        height_px=settings.height_px,
        width_px=settings.width_px,
    )
    print(f"Jaccard index {measured.values['jaccard']:.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
