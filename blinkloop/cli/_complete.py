"""Fitting, from the raw data of a live run, what has no result yet.

Used at the end of `run --policy every`, and by `fit --resume` for a run that was
killed. Frames beside a hole were analysed live without a neighbour: they are fitted
again, so that the table is that of one `fit` of the raw data.

    RUN/localizations.zarr   what the run had, then what is whole
    RUN/catch-up.live.zarr   what is being fitted; a kill leaves it to be gone on with
    RUN/merged.live.zarr     both; takes the first one's place when it is complete
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blinkloop.cli._corrections import correct_again
from blinkloop.cli._fit_plan import FitPlan, Wanted
from blinkloop.cli._fit_progress import progress_of
from blinkloop.cli._fit_resume import clear_unborn
from blinkloop.cli._live import LiveRun, write_tables
from blinkloop.cli._options import CameraFlags
from blinkloop.cli._output import note
from blinkloop.cli._recording import RAW_NAME, say_left
from blinkloop.cli._roi import ROI_KEY
from blinkloop.cli._session import Session, open_session
from blinkloop.cli._signals import stopping
from blinkloop.errors import InputError

if TYPE_CHECKING:
    from blinkloop.integrations.movies import RawMovie
    from blinkloop.runtime import Gap, RunReport
    from blinkloop.runtime.sinks import LiveStoreReader

__all__ = [
    "Account",
    "Completion",
    "catch_up",
    "complete",
    "find_raw",
    "frames_in",
    "log_end",
    "merge",
]

Numbers = npt.NDArray[np.int64]
_STORE = "localizations.zarr"
_CATCH_UP, _MERGED = "catch-up.live.zarr", "merged.live.zarr"
_OLD, _DAMAGED = "replaced.live.zarr", "damaged.zarr"
NOT_KEPT = "skipped: neither analysed in time nor kept on the disk"


@dataclass(frozen=True, slots=True)
class Account:
    """Where the frames of a run went in the end.

    Parameters
    ----------
    seen, lost
        As the run counted them.
    skipped
        Numbers of frames delivered without a result.
    lost_gaps
        Frames never delivered.
    """

    seen: int
    lost: int
    skipped: Numbers
    lost_gaps: tuple[Gap, ...]

    def problem(self, localized: int) -> str | None:
        """What is wrong with the sum, given the frames in the table."""
        skipped = len(self.skipped)
        if self.seen == localized + skipped + self.lost:
            return None
        return (
            f"accounting: {self.seen} frames seen but {localized} localized + "
            f"{skipped} skipped + {self.lost} lost"
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """What a completion did.

    Parameters
    ----------
    fitted
        Frames fitted now.
    left
        Frames of the raw data that still have no result.
    failure
        Why not, in one line, or None.
    signal
        Number of the signal that stopped it, or None.
    """

    fitted: int
    left: int
    failure: str | None
    signal: int | None

    @property
    def to_be_gone_on(self) -> bool:
        """Whether the same again would fit more; a movie that is damaged stays so."""
        damaged = self.failure is not None and self.failure.startswith("camera: ")
        return self.left > 0 and not damaged


def find_raw(folder: Path) -> Path:
    """The raw data of a run: where its store says, or in its folder.

    Raises
    ------
    InputError
        The folder holds no run, or the run kept no raw data.
    """
    from blinkloop.runtime.raw import is_raw_store

    if is_raw_store(folder / RAW_NAME):
        return folder / RAW_NAME
    live = open_live(folder)
    said = None if live is None else live.meta.get("raw")
    if said and is_raw_store(Path(said)):
        return Path(said)
    if said:
        raise InputError(
            f"{folder}: the raw data of this run are not in {said} any more; put them "
            f"into {folder / RAW_NAME}"
        )
    raise InputError(
        f"{folder} is no folder of a run with raw data, so there is nothing to go on "
        f"from; give the folder that 'blinkloop run --raw' or '--policy every' wrote"
    )


def open_live(folder: Path) -> LiveStoreReader | None:
    """The live store of a run; None when it was killed before its first row."""
    from blinkloop.runtime.sinks import LiveStoreReader

    merged = folder / _MERGED
    if not (folder / _STORE).exists() and merged.exists():
        merged.rename(folder / _STORE)  # killed in between
    try:
        return LiveStoreReader(folder / _STORE)
    except InputError:
        return None


def complete(
    folder: Path,
    raw: RawMovie,
    model: Path,
    meta: Mapping[str, Any],
    *,
    backend: str = "auto",
    threads: int | None = None,
) -> Completion:
    """Fit what has no result, into the catch-up store of a run.

    Parameters
    ----------
    folder
        Of the run.
    raw
        Its raw data.
    model
        File of the model.
    meta
        Facts of the run: camera, threshold, model.
    backend, threads
        See `open_session`.
    """
    from blinkloop.integrations.movies import MovieSource, RawMovie, RegionMovie
    from blinkloop.runtime import LiveStore, Pipeline, Roi
    from blinkloop.runtime.raw import frames_to_fit, runs_with_context
    from blinkloop.runtime.sinks import FrameSetSink

    live = open_live(folder)
    wanted = frames_to_fit(_frames(live), raw.numbers)
    done = _fitted(folder, wanted)
    todo = wanted[~np.isin(wanted, done)]
    if not len(todo):
        return Completion(0, 0, None, None)
    # A run that analysed a part goes on with that part: one table, one field.
    part = raw.store.meta.get(ROI_KEY)
    plan = FitPlan(raw if part is None else RegionMovie(raw, Roi(*part)), Wanted())
    session = open_session(
        model,
        CameraFlags(values=dict(meta["camera"])),
        raw.facts(),
        source="movie",
        backend=backend,
        threshold=meta["threshold"],
        threads=threads,
        localize=plan.localizer,
    )
    session = correct_again(
        session,
        meta,
        raw,
        lambda: RegionMovie(RawMovie(raw.store.path), plan.tiles.window),
    )
    if session.model.sha256 != meta["model_sha256"]:
        raise InputError(
            f"{model} is not the model of this run ({meta['model']}, "
            f"{meta['model_sha256'][:12]}); give that one with -m"
        )
    clear_unborn(folder / _CATCH_UP)
    runs = runs_with_context(todo, raw.numbers)
    store = LiveStore(
        folder / _CATCH_UP,
        if_exists="resume" if len(done) else "overwrite",
        resume_at=int(todo[0]) if len(done) else None,
    )
    pipeline = Pipeline(
        MovieSource(RegionMovie(raw, plan.tiles.window), runs=runs),
        session.localizer,
        [FrameSetSink(store, todo)],
        settings=plan.settings(),
        meta={**session.meta, **_field(raw.store.meta), "catch_up": True},
    )
    note(f"fitting {len(todo)} frames from {raw.store.path}")
    with stopping() as stop, progress_of(pipeline, len(todo)):
        report = pipeline.run(stop_event=stop.event)
    # Asked to stop, its last frame was analysed without the next one.
    fitted = _fitted(folder, wanted, whole=stop.number is None)
    left = len(wanted) - len(fitted)
    return Completion(len(todo) - left, left, report.failure, stop.number)


def _field(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What was analysed of which image, as a run says it; see `roi_meta`."""
    return {key: meta[key] for key in (ROI_KEY, "camera_roi_px") if key in meta}


def merge(
    folder: Path, account: Account, summary: Mapping[str, Any]
) -> tuple[int, tuple[Gap, ...]]:
    """Make the store whole; frames in it, and those without a result."""
    from blinkloop.runtime import LiveStore
    from blinkloop.runtime.raw import gaps_of, merge_stores
    from blinkloop.runtime.sinks import LiveStoreReader

    live = open_live(folder)
    parts = [] if live is None else [live]
    if (folder / _CATCH_UP).exists():
        parts.append(LiveStoreReader(folder / _CATCH_UP))
    skipped = gaps_of(account.skipped, NOT_KEPT)
    gaps = tuple(sorted((*account.lost_gaps, *skipped), key=lambda gap: gap.first))
    meta = {**(parts[-1].meta), **({} if live is None else live.meta)}
    for key in ("run", "frames", "catch_up"):
        meta.pop(key, None)
    clear_unborn(folder / _MERGED)
    merged = LiveStore(folder / _MERGED, if_exists="overwrite")
    count = merge_stores(parts, merged, meta, summary, gaps)
    old = folder / _OLD
    if live is not None:
        shutil.rmtree(old, ignore_errors=True)
        live.path.rename(old)
    else:
        _put_aside(folder)
    (folder / _MERGED).rename(folder / _STORE)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(folder / _CATCH_UP, ignore_errors=True)
    return count, gaps


def _put_aside(folder: Path) -> None:
    """Make room where a store is that cannot be read; only an empty one is removed."""
    clear_unborn(folder / _STORE)
    if (folder / _STORE).exists():
        (folder / _STORE).rename(folder / _DAMAGED)
        note(f"{folder / _DAMAGED} was the store of the run and cannot be read")


def frames_in(folder: Path) -> Numbers:
    """Numbers of the frames that have a result, catch-up included, rising."""
    numbers = [_frames(open_live(folder))["index"]]
    if (folder / _CATCH_UP).exists():
        from blinkloop.runtime.sinks import LiveStoreReader

        numbers.append(LiveStoreReader(folder / _CATCH_UP).frames()["index"])
    return np.unique(np.concatenate(numbers))


def catch_up(
    run: LiveRun, session: Session, folder: Path, threads: int | None
) -> LiveRun:
    """Fit what a run with `--policy every` had no time for; the run as it is then."""
    from blinkloop.integrations.movies import RawMovie

    report = run.report
    with RawMovie(Path(report.extra["raw"]["path"])) as raw:
        if run.signal not in (None, _interrupt()):
            say_left(report.frames_skipped, folder)
            return run
        done = complete(
            folder,
            raw,
            session.model.path,
            session.meta,
            backend=session.meta["backend"],
            threads=threads,
        )
    if done.to_be_gone_on:
        say_left(done.left, folder)
        return replace(run, report=_failed(report, done.failure), signal=done.signal)
    lost = tuple(gap for gap in report.gaps if gap.reason.startswith("lost"))
    skipped = [
        np.arange(gap.first, gap.first + gap.count)
        for gap in report.gaps
        if not gap.reason.startswith("lost")
    ]
    delivered = np.concatenate([np.empty(0, np.int64), *skipped])
    still = np.setdiff1d(delivered, frames_in(folder))
    account = Account(report.frames_seen, report.frames_lost, still, lost)
    new = replace(
        report,
        frames_localized=len(frames_in(folder)),
        frames_skipped=len(still),
        extra={**report.extra, "frames_caught_up": done.fitted},
    )
    summary = {"run": {**new.to_dict(), "gaps": None}}
    localized, gaps = merge(folder, account, summary)
    new = _failed(replace(new, gaps=gaps), account.problem(localized))
    files, table = write_tables(folder / _STORE, folder, run.warnings)
    run.files.update(files)
    new = replace(new, localizations=len(table))
    log_end(folder, new.to_dict(), new.failure)
    return replace(run, report=new, localizations=table)


def log_end(folder: Path, run: Mapping[str, Any], failure: str | None = None) -> None:
    """Add the books after a catch-up to the log of events."""
    path = folder / "events.csv"
    names = ("seen", "localized", "skipped", "lost")
    books = ", ".join(f"{name} {run[f'frames_{name}']}" for name in names)
    text = "; ".join(filter(None, (books, failure)))
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(("", "caught up", "", "", text))
    except OSError as error:
        note(f"{path}: the last row is missing ({error.strerror})")


def _failed(report: RunReport, failure: str | None) -> RunReport:
    both = [text for text in (report.failure, failure) if text]
    return replace(report, failure="; ".join(both) or None)


def _frames(live: LiveStoreReader | None) -> npt.NDArray[np.void]:
    from blinkloop.runtime.sinks.layout import FRAME_DTYPE

    return np.empty(0, FRAME_DTYPE) if live is None else live.frames()


def _fitted(folder: Path, wanted: Numbers, *, whole: bool = False) -> Numbers:
    """Frames a catch-up has done; the last one only when it ended by itself."""
    from blinkloop.runtime.sinks import LiveStoreReader

    try:
        numbers = LiveStoreReader(folder / _CATCH_UP).frames()["index"]
    except InputError:
        return np.empty(0, np.int64)
    found: Numbers = numbers[np.isin(numbers, wanted)]
    return found if whole else found[:-1]


def _interrupt() -> int:
    import signal

    return signal.SIGINT
