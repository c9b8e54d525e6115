"""A live run: source, localizer, feedback and files joined; what it leaves behind."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blinkloop.cli._output import note, plain, warn
from blinkloop.cli._run_warnings import run_warnings
from blinkloop.cli._session import full_tables
from blinkloop.cli._signals import say_stopped, stopping
from blinkloop.cli._watch import watching
from blinkloop.errors import BlinkloopError, InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from blinkloop.cli._session import Session
    from blinkloop.runtime import FrameSource, Observer, PipelineSettings, RunReport
    from blinkloop.runtime.feedback import FeedbackLoop
    from blinkloop.runtime.protocols import Recorder

__all__ = [
    "LiveRun",
    "camera_settings",
    "live_record",
    "make_folder",
    "new_folder_name",
    "run_live",
    "unless_refused",
    "write_report",
    "write_tables",
]

_RING_S, _LEAST_RING = 1.0, 16
_SOURCE_FIRST_S = 20.0
_STORE_PAUSE_S = 0.003
"""Twenty columns a second: 60 ms of rest for 14 ms of work."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What came out of a live run.

    Parameters
    ----------
    report
        Of the pipeline.
    files
        {kind: path} of everything written.
    warnings
        One line each.
    localizations
        Array of `LOCALIZATION_DTYPE`.
    signal
        Number of the signal that ended the run, or None.
    """

    report: RunReport
    files: dict[str, str]
    warnings: list[str]
    localizations: npt.NDArray[Any] = field(repr=False)
    signal: int | None = None

    def say_stopped(self) -> int:
        """Say what a signal left; the exit code."""
        assert self.signal is not None
        saved = self.files.get("picasso", self.files["store"])
        report = self.report
        return say_stopped(
            self.signal, report.localizations, report.frames_localized, saved
        )


def new_folder_name(verb: str) -> Path:
    """A folder named by verb and time, in the current folder."""
    return Path(time.strftime(f"blinkloop-{verb}-%Y%m%d-%H%M%S"))


def make_folder(folder: Path) -> Path:
    """Make the folder of a run; it must not hold another run.

    Raises
    ------
    InputError
        It holds a run, or cannot be made.
    """
    if (folder / "localizations.zarr").exists():
        raise InputError(f"{folder} holds a run already; give another folder to -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: the folder cannot be made ({error.strerror}); give another "
            f"one to -o"
        ) from error
    return folder


@contextmanager
def unless_refused(folder: Path) -> Iterator[None]:
    """A folder made for a run whose input is then refused goes again."""
    try:
        yield
    except InputError:
        with suppress(OSError):
            for path in folder.iterdir():
                if path.name == "laser.csv":  # begun, and empty but for its header
                    path.unlink()
            folder.rmdir()  # never one that holds anything else
        raise


def camera_settings(
    source: FrameSource, frame_timeout_s: float | None = None
) -> PipelineSettings:
    """A ring of about a second: when the computer is too slow, old frames go.

    With more the density would be that of long ago, and no use to a laser.

    Parameters
    ----------
    source
        The camera.
    frame_timeout_s
        The run ends after so long without a frame; None = as ever. Longer exposures
        get 5 of them.
    """
    from blinkloop.runtime import PipelineSettings

    room = PipelineSettings().ring_capacity(
        source.roi.width * source.roi.height * source.dtype.itemsize
    )
    exposure_ms = float(source.camera_facts().get("exposure_ms", 0.0))
    wanted = math.ceil(1000 * _RING_S / max(exposure_ms, 1.0))
    ring, usual = min(max(wanted, _LEAST_RING), room), PipelineSettings().stall_abort_s
    patience_s = max(frame_timeout_s or usual or 0.0, 5 * exposure_ms / 1000)
    own_s = getattr(source, "frame_timeout_s", None)
    if own_s is not None:
        # A source that ends by itself names its camera: it comes first.
        patience_s = own_s + _SOURCE_FIRST_S
    return PipelineSettings(ring_frames=ring, stall_abort_s=patience_s)


def say_patience(loop: FeedbackLoop, frame_timeout_s: float | None) -> None:
    """Say that waiting longer for frames keeps no laser on: the guard is as ever."""
    dark_s = loop.dark_after_s
    if dark_s is not None and frame_timeout_s is not None and frame_timeout_s > dark_s:
        note(
            f"the run waits {frame_timeout_s:g} s for a frame; the laser goes dark "
            f"after {dark_s:g} s without one, for the rest of the run"
        )


def run_live(
    source: FrameSource,
    session: Session,
    loop: FeedbackLoop,
    folder: Path,
    *,
    suitability: Any = None,
    max_frames: int | None = None,
    seconds: float | None = None,
    total: int | None = None,
    quiet: bool = False,
    meta: dict[str, Any] | None = None,
    settings: PipelineSettings | None = None,
    recorder: Recorder | None = None,
) -> LiveRun:
    """Run a source through a session and leave the results in a folder.

    The laser is at its safe value when this returns or raises.

    Parameters
    ----------
    source
        Camera or replay.
    session
        Model and camera facts.
    loop
        Feedback; the first observer.
    folder
        Gets `localizations.zarr`, `.hdf5` with `.yaml`, `.csv`, and the laser's log.
    suitability
        Observer that says whether the data suit the model; None = none.
    max_frames, seconds
        Limits of the run.
    total
        Frames in all, when known, for the status line.
    quiet
        No status line.
    meta
        More facts for the store.
    settings
        Of the pipeline.
    recorder
        Keeps the raw frames.
    """
    from blinkloop.runtime import LiveStore, Pipeline
    from blinkloop.runtime.aside import Aside
    from blinkloop.runtime.heaps import give_back
    from blinkloop.runtime.sinks import EventLog
    from blinkloop.runtime.steady import steady

    store = folder / "localizations.zarr"
    observers: list[Observer] = [loop]
    try:
        with stopping(loop.make_safe) as stop, steady():
            # Before the camera runs: a laser that refuses is found now.
            loop.start()
            if suitability is not None:
                observers.append(Aside(suitability))
            pipeline = Pipeline(
                source,
                session.localizer,
                [
                    LiveStore(store, pause_s=_STORE_PAUSE_S),
                    EventLog(folder / "events.csv"),
                ],
                observers,
                settings,
                meta={**session.meta, **(meta or {})},
                recorder=recorder,
            )
            with watching(
                pipeline, total=total, extra=lambda: density_text(loop), quiet=quiet
            ):
                report = pipeline.run(
                    max_frames=max_frames, duration_s=seconds, stop_event=stop.event
                )
    finally:
        # The pipeline closes it too; this is for what fails before the run begins.
        loop.close()
    give_back()  # what the network needed; tables need memory, too
    warnings = [
        *report.warnings,
        *full_tables(report, session),
        *run_warnings(report, source.roi),
    ]
    try:
        files, table = write_tables(store, folder, warnings)
        if "events" in report.files:
            files["events"] = report.files["events"]
    except KeyboardInterrupt:
        note(f"interrupted: {report.localizations} localizations are saved in {store}")
        raise
    except BlinkloopError as error:
        # A store that broke during the run: its reason says more than its remains.
        if report.failure is None:
            raise
        raise BlinkloopError(f"{report.failure}; {error}") from error
    if suitability is not None:
        warnings += suitability.warnings()
    return LiveRun(report, files, warnings, table, stop.number)


def write_tables(
    store: Path, folder: Path, warnings: list[str]
) -> tuple[dict[str, str], npt.NDArray[Any]]:
    """Make the tables of other programs from the store: files by kind, and the rows."""
    from blinkloop.integrations.formats import write_table
    from blinkloop.runtime import read_live_store

    files = {"store": str(store)}
    table = read_live_store(store)
    for kind, name in (
        ("picasso", "localizations.hdf5"),
        ("thunderstorm", "localizations.csv"),
    ):
        try:
            files[kind] = str(write_table(table, folder / name, True)[0])
        except BlinkloopError as error:
            warnings.append(f"{name} was not written: {error}; {store} has everything")
    return files, table.data


def live_record(run: LiveRun, session: Session, **more: Any) -> dict[str, Any]:
    """The keys of `run --json`, `replay --json` and `demo --json`."""
    from blinkloop.runtime.accounting import missing_by_stage

    gaps = run.report.gaps
    record = run.report.to_dict()
    record["frames_missing"] = {
        **missing_by_stage(gaps),
        "writer": run.report.frames_unwritten,
        "raw": record["raw"]["frames_unwritten"] if "raw" in record else None,
    }
    # The gaps of a long run belong into its report file, not onto the screen.
    record["gaps"] = len(gaps)
    return {
        **record,
        "files": run.files,
        "warnings": run.warnings,
        "model": session.model.card.name,
        "model_sha256": session.model.sha256,
        "backend": session.meta["backend"],
        "threads": session.meta["threads"],
        "camera": session.camera.settings,
        "camera_origin": session.camera.origin,
        **more,
    }


def write_report(folder: Path, run: LiveRun, record: dict[str, Any]) -> None:
    """Write `report.json`, with every gap; it joins the files of the run."""
    path = folder / "report.json"
    run.files["report"] = str(path)
    gaps = run.report.to_dict()["gaps"]
    text = json.dumps(plain({**record, "gaps": gaps}), indent=1)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        del run.files["report"]
        with suppress(OSError):
            path.unlink()
        warn(f"{path} was not written ({error.strerror or error})")


def density_text(loop: FeedbackLoop) -> str:
    """Density against target, and the laser, for the status line."""
    estimate, decision = loop.estimate, loop.decision
    if estimate is None:
        return ""
    text = f"density {estimate.smoothed_per_um2:.2f}/um^2"
    if loop.mode == "off":
        return text
    text = f"{text} (target {loop.target_per_um2:.2f})"
    if loop.mode == "advise":
        # Without a laser there is a direction, but no power to state.
        return text if decision is None else f"{text}  advice: laser {decision.reason}"
    power = "" if decision is None else f"  laser {decision.power:.2f}"
    return f"{text}{power} [{loop.state}]"
