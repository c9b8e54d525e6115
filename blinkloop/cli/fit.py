"""`blinkloop fit`: localize movies offline."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from blinkloop.cli._corrections import Corrections, correction_options
from blinkloop.cli._fit_plan import (
    FitPlan,
    Wanted,
    frame_range,
    parse_region,
    parse_tile,
)
from blinkloop.cli._fit_resume import (
    changed_meanwhile,
    clear_unborn,
    find_resume,
    frames_and_rows,
    identity_of,
    is_unfinished,
)
from blinkloop.cli._options import (
    CameraFlags,
    FiniteRange,
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
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.runtime import RunReport

__all__ = ["Fit", "command", "fit_movie"]


@click.command("fit", short_help="Localize a movie, or a folder of movies.")
@click.argument("movie", type=click.Path(path_type=Path))
@model_option(required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Table to write: .hdf5 (Picasso), .csv (ThunderSTORM), .decode.h5, .mat "
    "(SMAP), .parquet or .zarr (live store); for a folder of movies a folder.",
)
@camera_options
@click.option("--threshold", type=float, help="Detection threshold; default: card's.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; default: all.")
@click.option("--backend", default="auto", show_default=True, help="See: doctor.")
@click.option("--batch", type=int, help="Frames per call; default: by their size.")
@click.option(
    "--frames",
    metavar="START:STOP",
    help="Frames to localize, from 0, without STOP; default: all.",
)
@click.option(
    "--roi",
    metavar="X,Y,W,H",
    help="Region to localize, px of the camera chip; default: whole frames.",
)
@click.option(
    "--tile",
    metavar="HxW",
    help="Analyse frames in tiles of this size, px; default: when memory demands it.",
)
@click.option(
    "--memory",
    type=FiniteRange(0, min_open=True),
    metavar="MB",
    help="Memory for the network; default: 384 on a CPU, 8192 on a GPU.",
)
@correction_options
@click.option("--overwrite", is_flag=True, help="Allow replacing OUT.")
@click.option(
    "--restart",
    is_flag=True,
    help="Begin anew instead of going on with an interrupted fit.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="MOVIE is the folder of a killed run: complete it from its raw data.",
)
@json_option
def command(
    movie: Path,
    model: Path | None,
    out: Path | None,
    camera_flags: CameraFlags,
    threshold: float | None,
    threads: int | None,
    backend: str,
    batch: int | None,
    frames: str | None,
    roi: str | None,
    tile: str | None,
    memory: float | None,
    corrections: Corrections,
    overwrite: bool,
    restart: bool,
    resume: bool,
    as_json: bool,
) -> int | None:
    """Localize a MOVIE: TIFF, NDTiff, Zarr, ND2, CZI, SIF, SPE, HDF5, .raw, .npy, ...

    A folder of multi-frame movies is fitted movie by movie. Ctrl-C saves what is done;
    after a kill or a power cut the same command goes on where it was. A live run that
    was killed is completed by fit --resume RUN, with the model and settings it had.

    Example: blinkloop fit movie.tif -m astigmatic -o locs.hdf5
    """
    from blinkloop.cli._fit_folder import fit_folder
    from blinkloop.integrations.movies import find_movies

    if resume:
        from blinkloop.cli._resume_run import resume_run

        _refuse_with_resume()
        return resume_run(movie, model, threads=threads, as_json=as_json)
    if model is None or out is None:
        missing = "-m / --model" if model is None else "-o / --out"
        raise click.UsageError(f"Missing option '{missing}'.")
    if batch is not None and batch < 1:
        raise InputError(f"--batch must be at least 1, got {batch}")
    wanted = Wanted(
        frame_range(frames), parse_region(roi), parse_tile(tile), memory, batch
    )

    def fit(one: Path, table: Path) -> Fit:
        return fit_movie(
            one,
            model,
            table,
            flags=camera_flags,
            wanted=wanted,
            threshold=threshold,
            threads=threads,
            backend=backend,
            corrections=corrections,
            overwrite=overwrite,
            restart=restart,
        )

    movies = find_movies(movie)
    if len(movies) == 1 and movies[0] == movie:
        done = fit(movie, out)
        if as_json:
            print_json(done.record)
        raise_failure(done.report, done.record["out"])
        if done.signal is not None:
            return done.stopped()
        if not as_json:
            _show(done.record)
        open_next(done.record["out"])
        return None
    settings = {
        "model": model,
        "camera": asdict(camera_flags),
        "threshold": threshold,
        "backend": backend,
        "frames": wanted.frames,
        "roi": wanted.region,
        **corrections.settings,
    }
    return fit_folder(
        movies,
        movie,
        out,
        fit=fit,
        settings=settings,
        show=_show,
        as_json=as_json,
        overwrite=overwrite,
        restart=restart,
    )


def _refuse_with_resume() -> None:
    """All else is as the run had it."""
    context = click.get_current_context()
    allowed = ("movie", "model", "threads", "resume", "as_json")
    given = [
        option.opts[-1]
        for option in context.command.params
        if option.name not in allowed
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise InputError(
            f"--resume completes a run with the settings it had; leave out "
            f"{', '.join(given)}"
        )


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
    wanted: Wanted | None = None,
    threshold: float | None = None,
    threads: int | None = None,
    backend: str = "auto",
    corrections: Corrections | None = None,
    overwrite: bool = False,
    restart: bool = False,
) -> Fit:
    """Fit one movie. What fails midway is in the report; all before it is saved.

    Raises
    ------
    BlinkloopError
        Bad input: nothing was localized.
    """
    from blinkloop.cli._fit_progress import progress_of
    from blinkloop.cli._suitability import PixelTap, Suitability
    from blinkloop.integrations.movies import (
        MovieSource,
        RegionMovie,
        frame_holes,
        frame_runs,
        movie_identity,
        open_movie,
    )
    from blinkloop.runtime import LiveStore, Pipeline
    from blinkloop.runtime.sinks import FrameRangeSink

    with open_movie(movie) as opened, ExitStack() as also_open:
        plan = FitPlan(opened, wanted or Wanted())
        session = open_session(
            model,
            flags,
            opened.facts(),
            source="movie",
            backend=backend,
            threshold=threshold,
            threads=threads,
            localize=plan.localizer,
        )
        session, mask = (corrections or Corrections()).of_movie(
            session,
            opened,
            plan.start,
            lambda: RegionMovie(
                also_open.enter_context(open_movie(movie)), plan.tiles.window
            ),
        )
        output = _choose(out, overwrite=overwrite, restart=restart)
        identity = identity_of(
            movie_identity(movie, opened), session.meta, plan.facts()
        )
        runs = frame_runs(frame_holes(opened), range(plan.start, plan.stop))
        if missing := plan.stop - plan.start - sum(map(len, runs)):
            identity["missing"] = missing
        begin = find_resume(
            output.store, identity, restart=restart, overwrite=overwrite, runs=runs
        )
        # One more frame on each side: the neighbours of the first and the last.
        source = MovieSource(
            RegionMovie(opened, plan.tiles.window),
            start=max(begin.first - 1, 0),
            stop=min(plan.stop + 1, opened.n_frames),
        )
        tap = PixelTap(source)
        suitability = Suitability(session, tap, mask=mask)
        store = LiveStore(
            output.store,
            if_exists="resume" if begin.resumed else "overwrite",
            resume_at=begin.first if begin.resumed else None,
        )
        meta = {**session.meta, "movie": str(movie), "frames": opened.n_frames}
        pipeline = Pipeline(
            tap,
            session.localizer,
            [FrameRangeSink(store, begin.first, plan.stop)],
            [suitability],
            plan.settings(),
            meta={**meta, "fit": identity},
        )
        say(session, list(opened.notes()))
        _say_plan(plan, begin.first if begin.resumed else None, output)
        total = sum(map(len, runs))
        before = sum(len(range(run.start, min(run.stop, begin.first))) for run in runs)
        with stopping() as stop, progress_of(pipeline, total, before):
            report = pipeline.run(stop_event=stop.event)
        changed = changed_meanwhile(movie, opened, identity["movie"])
    frames, localizations = frames_and_rows(output.store)
    outside = suitability.warnings()
    warnings = [*report.warnings, *full_tables(report, session), *changed, *outside]
    try:
        files = output.finish(report.failure)
    except KeyboardInterrupt:
        note(f"interrupted: the localizations are saved in {output.store}")
        raise
    for line in warnings:
        warn(line)
    seconds = report.elapsed_s
    record = {
        "movie": str(movie),
        "frames": frames,
        "frames_resumed": before,
        "localizations": localizations,
        "seconds": seconds,
        "frames_per_second": report.frames_localized / seconds if seconds else None,
        "out": files[0],
        "files": files,
        "tables_full": report.tables_full,
        "tiles": len(plan.tiles.tiles),
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


def _choose(out: Path, *, overwrite: bool, restart: bool) -> Output:
    """Where to write. What an interrupted fit left there is no result to protect."""
    try:
        if out.suffix.lower() != ".zarr":
            output = Output.choose(out, overwrite=overwrite)
            clear_unborn(output.store)
            return output
        clear_unborn(out)
        return Output.choose(out, overwrite=overwrite or restart or is_unfinished(out))
    except OSError as error:  # a name that is too long, above all
        raise InputError(
            f"{out} cannot be written ({error.strerror or error}); give another, e.g. "
            f"shorter, name with -o"
        ) from error


def _say_plan(plan: FitPlan, resumed_at: int | None, output: Output) -> None:
    if plan.note is not None:
        note(plan.note)
    if resumed_at is not None:
        note(
            f"going on with frame {resumed_at}: {output.store} holds those before it "
            f"(--restart begins anew)"
        )
