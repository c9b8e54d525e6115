"""`blinkloop fit`: localize movies offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from blinkloop.cli._options import (
    CameraFlags,
    camera_options,
    json_option,
    model_option,
)
from blinkloop.cli._output import next_step, note, print_json
from blinkloop.cli._session import Output, open_session, raise_failure, say
from blinkloop.cli._watch import watching
from blinkloop.errors import InputError

__all__ = ["command", "fit_movie"]


@click.command("fit")
@click.argument("movie", type=click.Path(path_type=Path))
@model_option()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Table to write: .hdf5 (Picasso), .csv (ThunderSTORM) or .zarr (live store); "
    "a folder when MOVIE is a folder of movies.",
)
@camera_options
@click.option("--threshold", type=float, help="Detection threshold; default: card's.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all.")
@click.option("--backend", default="auto", show_default=True, help="See: doctor.")
@click.option("--batch", default=16, show_default=True, help="Frames per call.")
@click.option("--overwrite", is_flag=True, help="Allow replacing OUT.")
@json_option
def command(
    movie: Path,
    model: Path,
    out: Path,
    camera_flags: CameraFlags,
    threshold: float | None,
    threads: int | None,
    backend: str,
    batch: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Localize a MOVIE: TIFF, folder of TIFFs, Picasso .raw, .npy, Zarr.

    A folder of multi-frame movies is fitted movie by movie. Ctrl-C saves what is done.

    Example: blinkloop fit movie.tif -m astigmatic-small -o locs.hdf5
    """
    from blinkloop.integrations.movies import find_movies

    if batch < 1:
        raise InputError(f"--batch must be at least 1, got {batch}")
    options: dict[str, Any] = {
        "flags": camera_flags,
        "threshold": threshold,
        "threads": threads,
        "backend": backend,
        "batch": batch,
        "overwrite": overwrite,
    }
    movies = find_movies(movie)
    if len(movies) == 1 and movies[0] == movie:
        result: Any = fit_movie(movie, model, out, **options)
        results = [result]
    else:
        if out.suffix:
            raise InputError(
                f"{movie} is a folder of {len(movies)} movies; give -o a folder, "
                f"not {out.name}"
            )
        out.mkdir(parents=True, exist_ok=True)
        results = []
        for one in movies:
            note(f"{one.name}:")
            results.append(fit_movie(one, model, out / f"{one.stem}.hdf5", **options))
        result = results
    if as_json:
        print_json(result)
        return
    for one in results:
        note(
            f"{one['localizations']} localizations in {one['frames']} frames, "
            f"{one['frames_per_second']:.0f} frames/s -> {one['out']}"
        )
    next_step(f"picasso render {results[-1]['out']}")


def fit_movie(
    movie: Path,
    model: Path,
    out: Path,
    *,
    flags: CameraFlags,
    threshold: float | None = None,
    threads: int | None = None,
    backend: str = "auto",
    batch: int = 16,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fit one movie; returns the keys of `fit --json`.

    Raises
    ------
    BlinkloopError
        Bad input, or a failure midway; what was localized is saved then.
    """
    from blinkloop.cli._suitability import PixelTap, Suitability
    from blinkloop.integrations.movies import MovieSource, open_movie
    from blinkloop.runtime import EndedBy, LiveStore, Pipeline, PipelineSettings

    with open_movie(movie) as opened:
        session = open_session(
            model,
            flags,
            opened.facts(),
            source="movie",
            backend=backend,
            threshold=threshold,
            threads=threads,
        )
        output = Output.choose(out, overwrite=overwrite)
        tap = PixelTap(MovieSource(opened))
        suitability = Suitability(session, tap)
        store = LiveStore(output.store, if_exists="overwrite")
        pipeline = Pipeline(
            tap,
            session.localizer,
            [store],
            [suitability],
            PipelineSettings(wait=True, max_batch=batch, stall_abort_s=None),
            meta={**session.meta, "movie": str(movie), "frames": opened.n_frames},
        )
        say(session, list(opened.notes()))
        with watching(pipeline, total=opened.n_frames):
            report = pipeline.run()
        warnings = [*report.warnings, *suitability.warnings()]
    files = output.finish()
    say_warnings(warnings)
    raise_failure(report, files[0])
    if report.ended_by is EndedBy.INTERRUPT:
        note(f"interrupted; {report.frames_localized} frames are saved in {files[0]}")
        raise KeyboardInterrupt
    seconds = report.elapsed_s
    return {
        "frames": report.frames_localized,
        "localizations": report.localizations,
        "seconds": seconds,
        "frames_per_second": report.frames_localized / seconds if seconds else None,
        "out": files[0],
        "files": files,
        "tables_full": report.tables_full,
        "warnings": warnings,
        "in_training_range": not suitability.warnings(),
        "data": suitability.facts(),
        "camera": session.camera.settings,
        "camera_origin": session.camera.origin,
        "model": session.model.card.name,
        "model_sha256": session.model.sha256,
    }


def say_warnings(warnings: list[str]) -> None:
    """Each warning on a line of its own (stderr)."""
    from blinkloop.cli._output import warn

    for line in warnings:
        warn(line)
