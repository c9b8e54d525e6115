"""`blinkloop replay`: a movie as if it were a camera."""

from __future__ import annotations

from pathlib import Path

import click

from blinkloop.cli._corrections import Corrections, correction_options
from blinkloop.cli._feedback import check_region, feedback_options, make_loop
from blinkloop.cli._needs import check_needs
from blinkloop.cli._options import (
    CameraFlags,
    camera_options,
    json_option,
    model_option,
)
from blinkloop.cli._output import print_json
from blinkloop.cli._recording import Recording, recording_options
from blinkloop.cli._roi import Part, analysed, roi_meta, roi_option
from blinkloop.cli._session import open_session, raise_failure, say

__all__ = ["command"]


@click.command("replay", short_help="Play a movie as if it were a camera.")
@click.argument("movie", type=click.Path(path_type=Path))
@model_option()
@recording_options
@click.option("--fps", type=float, required=True, help="Frames per second.")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the results; default: a new one named by the time.",
)
@roi_option
@click.option("--repeat", default=1, show_default=True, help="Play it so often.")
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    help="True emitters of the movie (any table 'convert' reads): adds the accuracy.",
)
@feedback_options
@camera_options
@click.option("--threshold", type=float, help="Detection threshold; default: card's.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads; default: all but one, which the camera needs.",
)
@click.option("--backend", default="auto", show_default=True, help="See: doctor.")
@correction_options
@json_option
def command(
    movie: Path,
    model: Path,
    recording: Recording,
    fps: float,
    out: Path | None,
    roi: Part | None,
    repeat: int,
    truth: Path | None,
    target: float | str,
    on_time: float | None,
    update_frames: int,
    estimator: str,
    region: tuple[int, int, int, int] | None,
    camera_flags: CameraFlags,
    threshold: float | None,
    threads: int | None,
    backend: str,
    corrections: Corrections,
    as_json: bool,
) -> int | None:
    """Play a MOVIE as if it were a camera: in real time, and it does not wait.

    Says which laser changes the feedback would advise; there is no laser.

    Example: blinkloop replay movie.tif -m astigmatic --fps 50
    """
    from blinkloop.cli._live import (
        camera_settings,
        live_record,
        make_folder,
        new_folder_name,
        run_live,
        write_report,
    )
    from blinkloop.cli._show import open_next, show_run
    from blinkloop.cli._suitability import PixelTap, Suitability
    from blinkloop.cli._truth import from_corner, read_truth
    from blinkloop.integrations.movies import open_movie
    from blinkloop.integrations.replay import ReplaySource

    recording.check()
    check_needs("replay", backend=backend)
    with open_movie(movie) as opened:
        source = analysed(ReplaySource(opened, fps, repeat=repeat), roi, model)
        tap = PixelTap(source)
        session = open_session(
            model,
            camera_flags,
            opened.facts(),
            source="movie",
            backend=backend,
            threshold=threshold,
            threads=threads,
            live=(source.roi.height, source.roi.width),
        )
        session, mask = corrections.live(session, opened)
        check_region(region, source.roi)
        loop = make_loop(
            session.model.card,
            mode="advise",
            target=target,
            on_time=on_time,
            update_frames=update_frames,
            estimator=estimator,
            region=region,
            field_px=source.roi.height * source.roi.width,
        )
        pixel_nm = session.model.card.pixel_size_nm
        emitters = None if truth is None else read_truth(truth, pixel_nm)
        folder = make_folder(out or new_folder_name("replay"))
        say(session, list(opened.notes()))
        recorder = recording.recorder(source, folder, loop.make_safe)
        run = run_live(
            tap,
            session,
            loop,
            folder,
            suitability=Suitability(session, tap, feedback=True, mask=mask),
            total=opened.n_frames * repeat,
            meta={"movie": str(movie), "fps": fps}
            | roi_meta(source)
            | recording.meta(recorder, source),
            recorder=recorder,
            settings=camera_settings(source),
        )
        frames, field = opened.n_frames, source.roi
    run = recording.finish(run, session, folder, threads)
    more = roi_meta(source)
    if emitters is not None:
        from blinkloop.evaluation import score

        localized = run.localizations[run.localizations["frame"] < frames]
        more |= score(
            from_corner(emitters, (field.x, field.y)),
            from_corner(localized, (field.x, field.y)),
            card=session.model.card,
            frames=frames,
            height_px=field.height,
            width_px=field.width,
        ).as_dict()
    record = live_record(run, session, **more)
    write_report(folder, run, record)
    if as_json:
        print_json(record)
    else:
        show_run("Replay", record)
    raise_failure(run.report, run.files["store"], len(run.localizations))
    if run.signal is not None:
        return run.say_stopped()
    open_next(run.files.get("picasso", run.files["store"]))
    return None
