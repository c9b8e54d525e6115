"""`blinkloop fit`: localize movies offline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._options import (
    CameraFlags,
    camera_options,
    json_option,
    model_option,
)
from blinkloop.cli._output import note, print_json, warn
from blinkloop.cli._session import (
    Output,
    full_tables,
    open_session,
    raise_failure,
    say,
)
from blinkloop.cli._show import open_next
from blinkloop.cli._signals import say_stopped, stopping
from blinkloop.cli._watch import watching
from blinkloop.errors import BlinkloopError, InputError

if TYPE_CHECKING:
    from blinkloop.integrations.movies import Movie
    from blinkloop.runtime import PipelineSettings, RunReport

__all__ = ["command", "fit_movie"]


@click.command("fit", short_help="Localize a movie, or a folder of movies.")
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
) -> int | None:
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
        done = fit_movie(movie, model, out, **options)
        if as_json:
            print_json(done.record)
        raise_failure(done.report, done.record["out"])
        if done.signal is not None:
            return done.stopped()
        if not as_json:
            _show(done.record)
        open_next(done.record["out"])
        return None
    return _fit_all(movies, movie, model, out, as_json, options)


@dataclass(frozen=True, slots=True)
class Fit:
    """A movie that was fitted, or as much of it as could be.

    Parameters
    ----------
    record
        The keys of `fit --json`.
    report
        Of the pipeline.
    signal
        Number of the signal that ended it early, or None.
    """

    record: dict[str, Any]
    report: RunReport
    signal: int | None

    def stopped(self) -> int:
        """Say what a signal left; the exit code."""
        assert self.signal is not None
        record = self.record
        return say_stopped(
            self.signal, record["localizations"], record["frames"], record["out"]
        )


def _fit_all(
    movies: list[Path],
    folder: Path,
    model: Path,
    out: Path,
    as_json: bool,
    options: dict[str, Any],
) -> int | None:
    """Fit movie by movie; one that is damaged does not keep the others from it."""
    targets = [out / f"{movie.name}.hdf5" for movie in movies]
    if len({movie.stem for movie in movies}) == len(movies):
        targets = [out / f"{movie.stem}.hdf5" for movie in movies]
    if out.suffix in (".hdf5", ".h5", ".csv", ".zarr") or out.is_file():
        raise InputError(
            f"{folder} is a folder of {len(movies)} movies; give -o a folder for their "
            f"tables, not {out.name}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror})") from error
    for target in targets:
        Output.choose(target, overwrite=options["overwrite"])
    records: list[dict[str, Any]] = []
    failures: list[str] = []
    code: int | None = None
    for movie, target in zip(movies, targets, strict=True):
        note(f"{movie.name}:")
        try:
            done = fit_movie(movie, model, target, **options)
            records.append(done.record)
            raise_failure(done.report, done.record["out"])
        except BlinkloopError as error:
            failures.append(f"{movie.name}: {error}")
            warn(failures[-1])
            continue
        if done.signal is not None:
            code = done.stopped()
            break
    if as_json:
        print_json(records)
    else:
        for record in records:
            _show(record)
    if code is not None:
        return code
    if failures:
        raise BlinkloopError(
            f"{len(failures)} of {len(movies)} movies could not be fitted whole, the "
            f"first: {failures[0]}"
        )
    open_next(records[-1]["out"])
    return None


def _show(record: dict[str, Any]) -> None:
    rate = record["frames_per_second"] or 0.0
    click.echo(
        f"{record['localizations']} localizations in {record['frames']} frames, "
        f"{rate:.0f} frames/s -> {record['out']}"
    )


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
) -> Fit:
    """Fit one movie. What fails midway is in the report; all before it is saved.

    Raises
    ------
    BlinkloopError
        Bad input: nothing was localized.
    """
    from blinkloop.cli._suitability import PixelTap, Suitability
    from blinkloop.integrations.movies import MovieSource, open_movie
    from blinkloop.runtime import LiveStore, Pipeline

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
            _settings(opened, batch),
            meta={**session.meta, "movie": str(movie), "frames": opened.n_frames},
        )
        say(session, list(opened.notes()))
        with stopping() as stop, watching(pipeline, total=opened.n_frames):
            report = pipeline.run(stop_event=stop.event)
    outside = suitability.warnings()
    warnings = [*report.warnings, *full_tables(report, session), *outside]
    try:
        files = output.finish()
    except KeyboardInterrupt:
        note(f"interrupted: the localizations are saved in {output.store}")
        raise
    for line in warnings:
        warn(line)
    seconds = report.elapsed_s
    record = {
        "frames": report.frames_localized,
        "localizations": report.localizations,
        "seconds": seconds,
        "frames_per_second": report.frames_localized / seconds if seconds else None,
        "out": files[0],
        "files": files,
        "tables_full": report.tables_full,
        "warnings": warnings,
        "failure": report.failure,
        "ended_by": report.ended_by,
        "in_training_range": not outside,
        "data": suitability.facts(),
        "camera": session.camera.settings,
        "camera_origin": session.camera.origin,
        "model": session.model.card.name,
        "model_sha256": session.model.sha256,
    }
    return Fit(record, report, stop.number)


def _settings(movie: Movie, batch: int) -> PipelineSettings:
    """The movie waits for the analysis; few frames in between, so that it can end."""
    from blinkloop.runtime import PipelineSettings

    room = PipelineSettings().ring_capacity(
        movie.height * movie.width * movie.dtype.itemsize
    )
    return PipelineSettings(
        ring_frames=min(2 * batch, room), wait=True, max_batch=batch, stall_abort_s=None
    )
