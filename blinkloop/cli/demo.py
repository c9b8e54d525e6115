"""`blinkloop demo`: a virtual microscope, localized live, its density held."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from blinkloop.cli._bundled import bundled_models, resolve_model
from blinkloop.cli._feedback import make_loop
from blinkloop.cli._needs import check_needs
from blinkloop.cli._options import CameraFlags, FiniteRange, FrameSize, json_option
from blinkloop.cli._output import next_step, note, print_json
from blinkloop.cli._recording import Recording, recording_options
from blinkloop.cli._roi import Part, roi_meta, roi_option
from blinkloop.cli._session import Session, open_session, raise_failure
from blinkloop.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from blinkloop.cli._live import LiveRun
    from blinkloop.integrations.virtual import VirtualSettings
    from blinkloop.runtime import FrameSource, Roi
    from blinkloop.runtime.feedback import FeedbackLoop

    _Truth = tuple[npt.NDArray[Any], npt.NDArray[Any]]
    """True emitters, and one row per frame."""

__all__ = ["command"]

_PICTURE_NM = 20.0
_PICTURE_SIGMA_NM = 15.0
_LOAD = 0.45
"""Share of the frame time the analysis may take; the rest is for camera and disk."""
_SLOWEST_MS, _FASTEST_MS = 200.0, 20.0
_UPDATE_FRAMES = 40
"""Longer than the default of `run`: the field is small, so its count is noisy."""


@click.command(
    "demo", short_help="Localize a virtual microscope live, its density held."
)
@click.option(
    "--seconds",
    type=FiniteRange(1, 86400),
    default=60.0,
    show_default=True,
    help="How long the camera runs.",
)
@click.option(
    "--target",
    type=FiniteRange(0.01, 5),
    default=0.5,
    show_default=True,
    help="Density to hold, active emitters per um^2.",
)
@click.option(
    "--start",
    type=click.Choice(["low", "right", "high"]),
    default="low",
    show_default=True,
    help="Laser at the start: 3.5 times too low, right, 3.5 times too high.",
)
@click.option(
    "--structure",
    type=click.Choice(["filaments", "rings", "clusters", "uniform"]),
    default="filaments",
    show_default=True,
    help="What the sample looks like.",
)
@click.option(
    "--exposure-ms",
    type=FiniteRange(1, 10000),
    help="Default: what this computer can do.",
)
@click.option(
    "-m",
    "--model",
    metavar="MODEL",
    help="Bundled name or path; default: the bundled one.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the virtual sample.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the results; default: a new one named by the time.",
)
@click.option(
    "--size",
    type=FrameSize(),
    default="96x128",
    show_default=True,
    help="Height x width of the camera, px.",
)
@roi_option
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads; default: all but one, which the camera needs.",
)
@click.option("--backend", default="auto", show_default=True, help="See: doctor.")
@recording_options
@json_option
def command(
    seconds: float,
    target: float,
    start: str,
    structure: str,
    exposure_ms: float | None,
    model: str | None,
    seed: int,
    out: Path | None,
    size: tuple[int, int],
    roi: Part | None,
    threads: int | None,
    backend: str,
    recording: Recording,
    as_json: bool,
) -> int | None:
    """Watch molecules being localized while a laser holds their density.

    A virtual microscope inside the real Micro-Manager core: blinking, bleaching
    molecules, a noisy camera, a 405 nm laser. No hardware, no screen needed.

    Example: blinkloop demo --seconds 60
    """
    from blinkloop.cli._live import (
        camera_settings,
        live_record,
        make_folder,
        new_folder_name,
        run_live,
        write_report,
    )
    from blinkloop.cli._suitability import PixelTap, Suitability
    from blinkloop.integrations.micromanager import (
        MicroManagerSource,
        MMLaser,
        new_core,
    )
    from blinkloop.integrations.virtual import demo_settings, load_virtual_microscope
    from blinkloop.runtime import RegionSource, Roi, read_card

    recording.check()
    check_needs(
        "demo", ("pymmcore_plus", "demo"), ("matplotlib", "demo"), backend=backend
    )
    model = model or _default_model()
    path = resolve_model(model)
    card = read_card(path)
    image = Roi(0, 0, size[1], size[0])
    field = image if roi is None else roi.within(image, card)
    session = open_session(
        path,
        CameraFlags(),
        {},
        source="Micro-Manager",
        backend=backend,
        threads=threads,
        live=(field.height, field.width),
    )
    settings = demo_settings(
        card,
        target_per_um2=target,
        start=start,  # type: ignore[arg-type]
        seconds=seconds,
        exposure_ms=exposure_ms or _exposure_ms(session, field),
        height_px=size[0],
        width_px=size[1],
        structure=structure,  # type: ignore[arg-type]
        seed=seed,
    )
    core = new_core()
    scope = load_virtual_microscope(core, settings)
    folder = make_folder(out or new_folder_name("demo"))
    note(
        f"virtual microscope: {settings.width_px} x {settings.height_px} px, "
        f"{1000 / settings.exposure_ms:.0f} frames/s, model {card.name}"
    )
    try:
        laser = MMLaser(core, scope.laser, scope.laser_property)
        loop = make_loop(
            card,
            mode="control",
            target=target,
            on_time=None,  # learned, as in `run`
            update_frames=_UPDATE_FRAMES,
            laser=laser,
            start_power=settings.start_power_mw,
            log=folder / "laser.csv",
            frame_s=settings.exposure_ms / 1000.0,
        )
        source: FrameSource = MicroManagerSource(core, camera=scope.camera)
        if field != image:
            source = RegionSource(source, field)
        tap = PixelTap(source)
        recorder = recording.recorder(source, folder, loop.make_safe)
        run = run_live(
            tap,
            session,
            loop,
            folder,
            suitability=Suitability(session, tap),
            seconds=seconds,
            total=int(seconds * 1000 / settings.exposure_ms),
            meta={"virtual": settings.model_dump(mode="json")}
            | roi_meta(source)
            | recording.meta(recorder, source),
            settings=camera_settings(source),
            recorder=recorder,
        )
        run = recording.finish(run, session, folder, threads)
        run.files["laser_log"] = str(folder / "laser.csv")
        run.files["truth"] = str(scope.save_truth(folder / "truth.npz"))
        truth = scope.truth()
        more = roi_meta(source)
        more |= _against_truth(run, session, scope.settings, truth, field)
        _pictures(run, session, scope.settings, truth, field, loop, folder)
    finally:
        scope.unload()
    record = live_record(run, session, **more)
    write_report(folder, run, record)
    if as_json:
        print_json(record)
    else:
        from blinkloop.cli._show import show_run

        show_run("Demo", record)
    raise_failure(run.report, run.files["store"], len(run.localizations))
    if run.signal is not None:
        return run.say_stopped()
    next_step("blinkloop", "run", "-m", model, "--config", "YOUR_MICROSCOPE.cfg")
    return None


def _default_model() -> str:
    names = [name for name in bundled_models() if name.startswith("astigmatic")]
    if not names:
        raise InputError(
            "no model is bundled with this build of blinkloop; train one "
            "(blinkloop train astigmatic -o RUN), export it and give it to -m"
        )
    return names[0]


def _exposure_ms(session: Session, field: Roi) -> float:
    """Exposure at which the analysis takes its share of the frame time."""
    import numpy as np

    from blinkloop.runtime import Frame

    pixels = np.full((field.height, field.width), 140, np.uint16)
    took = []
    for index in range(12):
        started = time.perf_counter()
        session.localizer.push([Frame(index, 0.0, pixels, field)])
        took.append(time.perf_counter() - started)
    session.localizer.flush()
    wanted = 1000 * float(np.median(took[4:])) / _LOAD
    return float(np.clip(5 * np.ceil(wanted / 5), _FASTEST_MS, _SLOWEST_MS))


def _against_truth(
    run: LiveRun,
    session: Session,
    settings: VirtualSettings,
    truth: _Truth,
    field: Roi,
) -> dict[str, Any]:
    """Accuracy against the virtual truth, and the true density."""
    import numpy as np

    from blinkloop.cli._truth import from_corner, true_density
    from blinkloop.evaluation import score
    from blinkloop.runtime.sinks import LiveStoreReader

    emitters, frames = truth
    seen = LiveStoreReader(Path(run.files["store"])).frames()["index"]
    if not seen.size:
        return {}
    # Only frames that were analysed can be compared.
    analysed = np.isin(emitters["frame"], seen)
    if not analysed.all():
        emitters = emitters[analysed]
    measured = score(
        from_corner(emitters, (field.x, field.y)),
        from_corner(run.localizations, (field.x, field.y)),
        card=session.model.card,
        frames=int(seen[-1]) + 1,
        height_px=field.height,
        width_px=field.width,
    )
    density = true_density(*truth, field, settings.pixel_size_nm)
    last = density[frames["frame"] >= seen[-1] * 2 // 3]
    return {
        **measured.as_dict(),
        "density_true_per_um2": float(last.mean()),
        "power_first_mw": settings.start_power_mw,
        "exposure_ms": settings.exposure_ms,
        "seed": settings.seed,
    }


def _pictures(
    run: LiveRun,
    session: Session,
    settings: VirtualSettings,
    truth: _Truth,
    field: Roi,
    loop: FeedbackLoop,
    folder: Path,
) -> None:
    """Draw reconstruction beside truth, and density above laser."""
    import numpy as np

    from blinkloop.cli._truth import true_density, within
    from blinkloop.figures import density_figure, reconstruction_figure
    from blinkloop.render import Extent, render_gaussian

    pixel_nm = settings.pixel_size_nm
    extent = Extent.of_camera(field.width, field.height, pixel_nm, field.x, field.y)

    def picture(rows: Any) -> Any:
        return render_gaussian(
            rows["x_px"] * pixel_nm,
            rows["y_px"] * pixel_nm,
            pixel_nm=_PICTURE_NM,
            sigma_nm=_PICTURE_SIGMA_NM,
            extent=extent,
        )

    emitters, frames = truth
    lit = within(emitters, field)
    lit &= emitters["photons"] >= 50
    shown = {name: emitters[name][lit] for name in ("x_px", "y_px")}
    figure = reconstruction_figure(
        {
            f"blinkloop, live: {len(run.localizations)} localizations": picture(
                run.localizations
            ),
            f"virtual truth: {np.count_nonzero(lit)} emitters": picture(shown),
        },
        pixel_nm=_PICTURE_NM,
    )
    path = folder / "reconstruction.png"
    figure.savefig(path)
    run.files["reconstruction"] = str(path)
    history = loop.history()
    density = np.full(history["frame"].shape, np.nan)
    place = np.searchsorted(frames["frame"], history["frame"].astype(np.int64))
    known = place < len(frames)
    density[known] = true_density(*truth, field, pixel_nm)[place[known]]
    figure = density_figure(
        history,
        true_density_per_um2=density,
        title=f"{session.model.card.name}, target {loop.target_per_um2:g} per µm²",
    )
    path = folder / "density.png"
    figure.savefig(path)
    run.files["density_plot"] = str(path)
