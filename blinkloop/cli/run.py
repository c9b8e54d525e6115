"""`blinkloop run`: live from Micro-Manager."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._corrections import Corrections, correction_options
from blinkloop.cli._feedback import (
    check_max_power,
    check_region,
    feedback_options,
    make_loop,
)
from blinkloop.cli._following import Following, following_options
from blinkloop.cli._needs import check_needs
from blinkloop.cli._options import (
    CameraFlags,
    FiniteRange,
    camera_options,
    json_option,
    model_option,
)
from blinkloop.cli._output import note, print_json
from blinkloop.cli._pycromanager import PycroManager, pycromanager_options
from blinkloop.cli._recording import Recording, recording_options
from blinkloop.cli._roi import Part, analysed, roi_meta, roi_option
from blinkloop.cli._session import open_session, raise_failure, say
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.integrations.growing import GrowingSource
    from blinkloop.integrations.micromanager import MicroManagerSource, MMLaser
    from blinkloop.integrations.pycromanager import PycroCamera
    from blinkloop.runtime.deadman import DeadManPlan

__all__ = ["command"]


@click.command("run", short_help="Localize live from a Micro-Manager camera.")
@model_option()
@pycromanager_options
@following_options
@recording_options
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Micro-Manager .cfg; default: the demo configuration.",
)
@click.option("--device", help="Label of the camera; default: the configuration's.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="DEVICE.PROPERTY=VALUE",
    help="Set a property before the run; may be repeated.",
)
@click.option(
    "--exposure-ms",
    type=FiniteRange(0, min_open=True),
    help="Exposure time; default: as it is.",
)
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option(
    "--seconds",
    type=FiniteRange(0, min_open=True),
    help="Stop after so long; default: Ctrl-C.",
)
@click.option(
    "--frame-timeout",
    "frame_timeout_s",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="The run ends after so long without a frame, as with a slow trigger; default: "
    "10, at least 5 exposures (--pycromanager: 30).",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the results; default: a new one named by the time.",
)
@roi_option
@click.option(
    "--mode",
    type=click.Choice(["off", "advise", "control"]),
    default="advise",
    show_default=True,
    help="control lets the feedback write to the laser.",
)
@click.option("--laser", metavar="DEVICE.PROPERTY", help="Activation laser.")
@click.option("--start-power", type=float, help="First power, in the laser's unit.")
@click.option("--max-power", type=float, help="Hard limit, in the laser's unit.")
@click.option(
    "--safe-power",
    type=float,
    default=0.0,
    show_default=True,
    help="Written on any fault, stop and exit.",
)
@click.option(
    "--laser-step",
    type=FiniteRange(0, min_open=True),
    help="Step of the laser's values, e.g. 1 for whole per cents; default: found out.",
)
@click.option(
    "--laser-settle",
    type=FiniteRange(0, 1, min_open=True),
    metavar="SECONDS",
    help="So late the laser reports a new value, at most 1 s; default: found out.",
)
@click.option("--max-dose", type=float, help="Limit of power x seconds.")
@click.option(
    "--actuator",
    type=click.Choice(["power", "pulse-us"]),
    default="power",
    show_default=True,
    help="Kind of the laser property; pulse-us takes whole us (MicroFPGA).",
)
@click.option(
    "--stop-at-max",
    "stop_at_max_s",
    type=FiniteRange(0, min_open=True),
    metavar="SECONDS",
    help="Laser down for good after so long at --max-power with too few emitters.",
)
@click.option(
    "--tune", is_flag=True, help="Begin with a step of the laser that sets the gains."
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
    model: Path,
    following: Following,
    recording: Recording,
    pycro: PycroManager,
    config: Path | None,
    device: str | None,
    settings: tuple[str, ...],
    exposure_ms: float | None,
    frames: int | None,
    seconds: float | None,
    frame_timeout_s: float | None,
    out: Path | None,
    roi: Part | None,
    mode: str,
    laser: str | None,
    start_power: float | None,
    max_power: float | None,
    safe_power: float,
    laser_step: float | None,
    laser_settle: float | None,
    max_dose: float | None,
    actuator: str,
    stop_at_max_s: float | None,
    tune: bool,
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
    """Localize live from a Micro-Manager camera, and watch or hold the density.

    The default mode, advise, never writes to the laser. Ctrl-C ends the run, saves
    everything and leaves the laser at its safe value. With --watch the frames come from
    a movie that another program is writing, and none is skipped. With --pycromanager
    camera and laser are those of the Micro-Manager that runs.

    Example: blinkloop run -m astigmatic --config scope.cfg --laser L405.Power
    """
    following.refuse(
        config=config,
        device=device,
        set=settings,
        exposure_ms=exposure_ms,
        laser=laser,
        frame_timeout=frame_timeout_s,
        **recording.given,
    )
    recording.check()
    check_needs("run", *_packages(following, pycro), backend=backend)
    if mode == "control" and laser is None:
        raise InputError(
            "--mode control needs a laser; name it with --laser DEVICE.PROPERTY, or "
            "use --mode advise"
        )
    from blinkloop.cli._live import (
        camera_settings,
        live_record,
        make_folder,
        new_folder_name,
        run_live,
        say_patience,
        unless_refused,
        write_report,
    )
    from blinkloop.cli._show import open_next, show_run
    from blinkloop.cli._suitability import PixelTap, Suitability

    source: MicroManagerSource | PycroCamera | GrowingSource
    if following.path is not None:
        core, source = None, following.open()
        name, pipeline = str(following.path), following.settings()
    else:
        core, source = _camera(
            pycro, config, device, settings, frames, exposure_ms, frame_timeout_s
        )
        name, pipeline = source.camera, None
    seen = analysed(source, roi, model)
    session = open_session(
        model,
        camera_flags,
        source.camera_facts(),
        source="Micro-Manager" if following.path is None else "movie",
        backend=backend,
        threshold=threshold,
        threads=threads,
        live=(seen.roi.height, seen.roi.width),
    )
    session, mask = corrections.live(session)
    writer = None if laser is None or mode == "off" else _laser(core, laser, max_power)
    check_region(region, seen.roi)
    folder = make_folder(out or new_folder_name("run"))
    with unless_refused(folder):
        loop = make_loop(
            session.model.card,
            mode=mode,
            target=target,
            on_time=on_time,
            update_frames=update_frames,
            estimator=estimator,
            region=region,
            actuator=actuator,
            stop_at_max_s=stop_at_max_s,
            tune=tune,
            laser=writer,
            start_power=start_power,
            max_power=max_power,
            safe_power=safe_power,
            laser_step=laser_step,
            laser_settle_s=laser_settle,
            max_dose=max_dose,
            log=folder / "laser.csv" if mode != "off" else None,
            frame_s=float(source.camera_facts().get("exposure_ms", 0.0)) / 1000.0,
            deadman=_deadman(core, laser, config, safe_power, folder / "deadman.log")
            if mode == "control" and laser is not None
            else None,
            field_px=seen.roi.height * seen.roi.width,
        )
    say(session, [])
    say_patience(loop, frame_timeout_s)
    tap = PixelTap(seen)
    recorder = recording.recorder(seen, folder, loop.make_safe)
    run = run_live(
        tap,
        session,
        loop,
        folder,
        suitability=Suitability(session, tap, feedback=mode != "off", mask=mask),
        # A camera of ours counts for itself.
        max_frames=None if following.path is None else frames,
        seconds=seconds,
        total=frames,
        meta={"camera_device": name, "laser": laser, "mode": mode}
        | roi_meta(seen)
        | recording.meta(recorder, seen),
        settings=pipeline or camera_settings(seen, frame_timeout_s),
        recorder=recorder,
    )
    run = recording.finish(run, session, folder, threads)
    if mode != "off":
        run.files["laser_log"] = str(folder / "laser.csv")
    record = live_record(run, session, **roi_meta(seen))
    write_report(folder, run, record)
    if as_json:
        print_json(record)
    else:
        show_run(f"Run on {name}", record)
        if mode == "advise":
            note("mode advise: the laser was not touched; --mode control holds density")
    raise_failure(run.report, run.files["store"], len(run.localizations))
    # Without a limit, Ctrl-C is how a run ends.
    if run.signal is not None and (frames is not None or seconds is not None):
        return run.say_stopped()
    open_next(run.files.get("picasso", run.files["store"]))
    return None


def _packages(following: Following, pycro: PycroManager) -> list[tuple[str, str]]:
    """What frames come through, and the extra that brings it."""
    if following.path is not None:
        return []
    through = ("pycromanager", "pycromanager")
    return [through if pycro.wanted else ("pymmcore_plus", "micromanager")]


def _camera(
    pycro: PycroManager,
    config: Path | None,
    device: str | None,
    settings: tuple[str, ...],
    frames: int | None,
    exposure_ms: float | None,
    frame_timeout_s: float | None,
) -> tuple[Any, MicroManagerSource | PycroCamera]:
    from blinkloop.integrations.micromanager import MicroManagerSource, open_core

    if pycro.wanted:
        remote = pycro.open(config)
        _apply(remote, settings)
        return remote, pycro.camera(remote, device, frames, exposure_ms)
    core = open_core(config, camera=device)
    _apply(core, settings)
    patience: dict[str, Any] = (
        {} if frame_timeout_s is None else {"stall_timeout_s": frame_timeout_s}
    )
    source = MicroManagerSource(
        core,
        camera=device,
        n_frames=frames,
        exposure_ms=exposure_ms,
        # Frames the analysis cannot take are dropped in our own ring, where they are
        # counted; the core's ring must never be the one that overflows.
        stop_on_overflow=True,
        **patience,
    )
    return core, source


def _apply(core: Any, settings: tuple[str, ...]) -> None:
    for text in settings:
        name, equals, value = text.partition("=")
        label, dot, prop = _device_property(core, name)
        if not (equals and dot and label and prop):
            raise InputError(
                f"--set {text}: write DEVICE.PROPERTY=VALUE, e.g. "
                f"Camera.PixelType=16bit"
            )
        try:
            core.setProperty(label, prop, value)
        except Exception as error:  # any adapter may raise anything
            line = " ".join(str(error).split())
            raise InputError(f"--set {text}: refused by the core ({line})") from error


def _device_property(core: Any, name: str) -> tuple[str, str, str]:
    """Split at the dot after a device's label; labels may have dots themselves."""
    known = [label for label in core.getLoadedDevices() if name.startswith(f"{label}.")]
    if known:
        label = max(known, key=len)
        return label, ".", name[len(label) + 1 :]
    return name.partition(".")


def _deadman(
    core: Any, laser: str, config: Path | None, safe_power: float, log: Path
) -> DeadManPlan | str:
    from blinkloop.integrations.micromanager.deadman import core_plan
    from blinkloop.integrations.micromanager.deadman_bridge import bridge_plan

    label, _, prop = _device_property(core, laser)
    port = getattr(core, "port", None)
    if port is not None:
        return bridge_plan(label, prop, safe_power, port=port, log=log)
    return core_plan(core, label, prop, safe_power, config, log=log)


def _laser(core: Any, name: str, max_power: float | None) -> MMLaser:
    from blinkloop.integrations.micromanager import MMLaser

    label, dot, prop = _device_property(core, name)
    if not (dot and label and prop):
        raise InputError(f"--laser {name}: write DEVICE.PROPERTY, e.g. Laser405.Power")
    otherwise = None if max_power is None else (0.0, check_max_power(max_power))
    return MMLaser(core, label, prop, otherwise=otherwise)
