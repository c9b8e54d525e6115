"""`blinkloop evaluate`: accuracy of a model on simulated or given truth."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._bundled import resolve_model
from blinkloop.cli._options import CameraFlags, camera_options, json_option
from blinkloop.cli._output import next_step, note, print_json, print_table
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.runtime import Frame, Localizer

__all__ = ["command"]


@click.command("evaluate", short_help="Measure the accuracy of a model.")
@click.argument("model")
@click.option("--density", default=0.5, show_default=True, help="Emitters per um^2.")
@click.option("--flux", default=3000.0, show_default=True, help="Photons per frame.")
@click.option(
    "--background", default=20.0, show_default=True, help="Photons per pixel."
)
@click.option("--on-time", default=3.0, show_default=True, help="Mean on-time, frames.")
@click.option("--frames", default=500, show_default=True, help="Length of the movie.")
@click.option("--size", default="64x64", show_default=True, help="Height x width, px.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulation.")
@click.option("--threshold", type=float, help="Detection threshold; default: card's.")
@click.option(
    "--movie",
    type=click.Path(path_type=Path),
    help="Evaluate on this movie instead; needs --truth.",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="True emitters of the movie (any table 'convert' reads).",
)
@click.option(
    "--write-card",
    is_flag=True,
    help="Write the result into the model's card (needs the export extra).",
)
@camera_options
@json_option
def command(
    model: str,
    density: float,
    flux: float,
    background: float,
    on_time: float,
    frames: int,
    size: str,
    seed: int,
    threshold: float | None,
    movie: Path | None,
    truth: Path | None,
    write_card: bool,
    camera_flags: CameraFlags,
    as_json: bool,
) -> None:
    """Measure the accuracy of a MODEL, on a simulated movie or on given truth.

    Truth counts from 50 photons in the frame on, with its centre in the field. The
    camera options are for --movie; a simulated movie has the camera of the card.

    Example: blinkloop evaluate astigmatic-small --density 1 --frames 1000
    """
    if (movie is None) != (truth is None):
        raise InputError("--movie and --truth go together; give both or neither")
    if movie is None and (camera_flags.file or camera_flags.values):
        raise InputError(
            "camera options go with --movie; a simulated movie has the camera of the "
            "model's card"
        )
    path = resolve_model(model)
    if movie is not None and truth is not None:
        result = _on_movie(path, movie, truth, camera_flags, threshold, seed)
    else:
        height, width = _size(size)
        settings = {
            "density_per_um2": density,
            "flux_photons": flux,
            "background_photons": background,
            "on_time_frames": on_time,
            "frames": frames,
            "height_px": height,
            "width_px": width,
            "seed": seed,
        }
        result = _on_simulation(path, settings, threshold)
    if write_card:
        from blinkloop.export import update_card

        update_card(path, accuracy=_for_card(result))
        note(f"accuracy written into {path}")
    if as_json:
        print_json(result)
        return
    _show(result)
    next_step("blinkloop", "demo", "-m", model)


def _on_simulation(
    path: Path, values: dict[str, Any], threshold: float | None
) -> dict[str, Any]:
    from pydantic import ValidationError

    from blinkloop.evaluation import EvaluationSettings, score, simulate_movie
    from blinkloop.runtime import Frame, Roi, StreamLocalizer, read_model

    try:
        settings = EvaluationSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"evaluate: {first['loc'][0]} = {first['input']} cannot be used: "
            f"{first['msg']}"
        ) from error
    model = read_model(path)
    scene = simulate_movie(model.card, settings)
    stack = scene.frames_adu[0]
    roi = Roi(0, 0, stack.shape[2], stack.shape[1])
    predicted, count, seconds = _localize(
        (Frame(i, 0.0, pixels, roi) for i, pixels in enumerate(stack)),
        StreamLocalizer(model, threshold=threshold),
    )
    measured = score(
        scene.emitters,
        predicted,
        card=model.card,
        frames=settings.frames,
        height_px=settings.height_px,
        width_px=settings.width_px,
        seed=settings.seed,
    )
    area = stack.shape[1] * stack.shape[2] * (model.card.pixel_size_nm / 1000.0) ** 2
    true_density = measured.values["n_truth"] / settings.frames / area
    return {
        "model": model.card.name,
        "model_sha256": model.sha256,
        "settings": settings.model_dump(),
        "threshold": threshold or model.card.detection.threshold,
        **measured.as_dict(),
        "density_true_per_um2": true_density,
        "density_estimated_per_um2": count / settings.frames / area,
        "seconds": seconds,
    }


def _on_movie(
    path: Path,
    movie: Path,
    truth: Path,
    flags: CameraFlags,
    threshold: float | None,
    seed: int,
) -> dict[str, Any]:
    from blinkloop.cli._session import open_session, say
    from blinkloop.cli._truth import from_corner, read_truth
    from blinkloop.evaluation import score
    from blinkloop.integrations.movies import MovieSource, open_movie

    with open_movie(movie) as opened:
        session = open_session(
            path, flags, opened.facts(), source="movie", threshold=threshold
        )
        model = session.model
        emitters = read_truth(truth, model.card.pixel_size_nm)
        say(session, list(opened.notes()))
        source = MovieSource(opened)
        predicted, _, seconds = _localize(source.frames(), session.localizer)
        measured = score(
            from_corner(emitters, opened.origin),
            from_corner(predicted, opened.origin),
            card=model.card,
            frames=opened.n_frames,
            height_px=opened.height,
            width_px=opened.width,
            seed=seed,
        )
    return {
        "model": model.card.name,
        "model_sha256": model.sha256,
        "movie": movie,
        "truth": truth,
        "threshold": threshold or model.card.detection.threshold,
        **measured.as_dict(),
        "seconds": seconds,
    }


def _localize(
    frames: Iterable[Frame], localizer: Localizer
) -> tuple[Any, float, float]:
    """(predicted table, sum of p over all frames, seconds) of a movie."""
    import numpy as np

    from blinkloop.runtime import localize_movie
    from blinkloop.schema import LOCALIZATION_DTYPE

    started = time.perf_counter()
    parts, count = [np.zeros(0, LOCALIZATION_DTYPE)], 0.0
    try:
        for result in localize_movie(frames, localizer, batch=16):
            parts.append(result.localizations)
            count += result.count_mean
    finally:
        localizer.close()
    return np.concatenate(parts), count, time.perf_counter() - started


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise InputError(f"--size {text}: give height x width, e.g. 64x96") from error
    return height, width


def _for_card(result: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in result.items() if key != "model_sha256"}
    return {key: str(v) if isinstance(v, Path) else v for key, v in kept.items()}


def _show(result: dict[str, Any]) -> None:
    intervals = result["intervals_95"]
    rows = []
    for key, interval in intervals.items():
        low, high = interval
        known = math.isfinite(low) and math.isfinite(high)
        rows.append([key, result[key], f"{low:.4g} to {high:.4g}" if known else None])
    for key in (
        "n_truth",
        "n_predicted",
        "density_true_per_um2",
        "density_estimated_per_um2",
        "threshold",
    ):
        if key in result:
            rows.append([key, result[key], None])
    print_table(
        f"Accuracy of {result['model']}", ["measure", "value", "95 % interval"], rows
    )
