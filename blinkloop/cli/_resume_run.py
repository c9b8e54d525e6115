"""`fit --resume RUN`: complete a live run that was killed, from its raw data."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from blinkloop.cli._complete import (
    Account,
    complete,
    find_raw,
    frames_in,
    log_end,
    merge,
)
from blinkloop.cli._live import write_tables
from blinkloop.cli._output import note, plain, print_json, warn
from blinkloop.cli._recording import say_left
from blinkloop.cli._show import open_next
from blinkloop.errors import BlinkloopError, InputError

if TYPE_CHECKING:
    from blinkloop.integrations.movies import RawMovie

__all__ = ["resume_run"]

_LOOK_S = 1.5


def resume_run(
    folder: Path, model: Path | None, *, threads: int | None, as_json: bool
) -> int | None:
    """Fit every frame of the raw data that has no result; the exit code.

    Raises
    ------
    BlinkloopError
        No raw data, a run that goes on, another model, or a sum that is wrong.
    """
    from blinkloop.integrations.movies import RawMovie

    path = find_raw(folder)
    with RawMovie(path) as raw:
        if not raw.store.finished and _grows(raw):
            raise InputError(
                f"{folder}: this run still goes on; end it first, its raw data grow"
            )
        meta = raw.store.meta
        done = complete(
            folder,
            raw,
            model or _model(meta),
            meta,
            backend=meta["backend"],
            threads=threads,
        )
        if done.to_be_gone_on:
            say_left(done.left, folder)
            if done.failure is not None:
                raise BlinkloopError(done.failure)
            return 128 + (done.signal or 0)
        account = _account(raw, folder)
    run: dict[str, Any] = {
        "frames_seen": account.seen,
        "frames_localized": len(frames_in(folder)),
        "frames_skipped": len(account.skipped),
        "frames_lost": account.lost,
        "frames_caught_up": done.fitted,
    }
    localized, gaps = merge(folder, account, {"run": {**run, "ended_by": "resumed"}})
    warnings: list[str] = []
    files, table = write_tables(folder / "localizations.zarr", folder, warnings)
    run["localizations"] = len(table)
    failure = done.failure or account.problem(localized)
    log_end(folder, run, failure)
    record = {
        "run": str(folder),
        **run,
        "raw": {"path": str(path), "frames": len(raw.numbers)},
        "gaps": len(gaps),
        "files": {**files, "raw": str(path), "report": str(folder / "report.json")},
        "model": meta["model"],
        "model_sha256": meta["model_sha256"],
        "camera": meta["camera"],
        "warnings": warnings,
        "failure": failure,
    }
    text = json.dumps(plain({**record, "gaps": gaps_listed(gaps)}), indent=1)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    for line in warnings:
        warn(line)
    if as_json:
        print_json(record)
    if failure is not None:
        raise BlinkloopError(failure)
    if not as_json:
        click.echo(
            f"{done.fitted} frames fitted; {len(table)} localizations of {localized} "
            f"of {account.seen} frames ({account.lost} lost, "
            f"{len(account.skipped)} not kept) -> {files['store']}"
        )
    open_next(files.get("picasso", files["store"]))
    return None


def gaps_listed(gaps: Any) -> list[dict[str, Any]]:
    """Gaps as JSON knows them."""
    return [{"first": g.first, "count": g.count, "reason": g.reason} for g in gaps]


def _account(raw: RawMovie, folder: Path) -> Account:
    """The books of a run that could not close them, from what it wrote."""
    from blinkloop.runtime import Gap

    results = frames_in(folder)
    known = np.union1d(raw.numbers, results)
    first, last = int(known[0]), int(known[-1])
    lost, skipped = [], []
    for gap in raw.store.gaps():
        start, stop = max(gap.first, first), min(gap.first + gap.count, last + 1)
        if stop <= start:
            continue
        if gap.reason.startswith("lost"):
            lost.append(Gap(start, stop - start, gap.reason))
        else:
            skipped.append(np.arange(start, stop))
    delivered = np.concatenate([np.empty(0, np.int64), raw.numbers, *skipped])
    return Account(
        seen=last - first + 1,
        lost=sum(gap.count for gap in lost),
        skipped=np.setdiff1d(delivered, results),
        lost_gaps=tuple(lost),
    )


def _model(meta: dict[str, Any]) -> Path:
    """The model of the run: where it was, or the bundled one of that name."""
    from blinkloop.cli._bundled import resolve_model

    path = Path(meta["model_file"])
    if path.is_file():
        return path
    try:
        return resolve_model(str(meta["model"]))
    except InputError as error:
        raise InputError(
            f"the model of this run is not in {path} any more; say where it is with -m"
        ) from error


def _grows(raw: RawMovie) -> bool:
    """Whether somebody is still writing: rows come within a second and a half."""
    from blinkloop.runtime.raw import RawStoreReader

    note(f"{raw.store.path} was not finished; looking whether it still grows")
    time.sleep(_LOOK_S)
    return len(RawStoreReader(raw.store.path).frames()) > len(raw.numbers)
