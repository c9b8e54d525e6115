"""`fit` of a folder of movies: one after the other, and going on after a kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blinkloop.cli._output import note, plain, print_json, warn
from blinkloop.cli._session import Output, raise_failure
from blinkloop.cli._show import open_next
from blinkloop.errors import BlinkloopError, InputError

if TYPE_CHECKING:
    from blinkloop.cli.fit import Fit

__all__ = ["fit_folder"]

_LEDGER = "fit-in-progress.json"


def fit_folder(
    movies: list[Path],
    folder: Path,
    out: Path,
    *,
    fit: Callable[[Path, Path], Fit],
    settings: Mapping[str, Any],
    show: Callable[[dict[str, Any]], None],
    as_json: bool,
    overwrite: bool,
    restart: bool,
) -> int | None:
    """Fit movie by movie; one that is damaged does not keep the others from it.

    While it is not done, `fit-in-progress.json` beside the tables says which movies
    are; the same command then goes on with the others.

    Parameters
    ----------
    movies, folder
        Movies and the folder they are in.
    out
        Folder for the tables.
    fit
        Fits one movie into a table.
    settings
        Of all fits; others than those in the ledger begin anew.
    show
        Says what a movie gave.
    as_json, overwrite, restart
        As on the command line.

    Returns
    -------
    int or None
        The exit code when a signal ended it.
    """
    from blinkloop.integrations.formats import has_table_ending

    targets = [out / f"{movie.name}.hdf5" for movie in movies]
    if len({movie.stem for movie in movies}) == len(movies):
        targets = [out / f"{movie.stem}.hdf5" for movie in movies]
    if out.suffix == ".zarr" or has_table_ending(out) or out.is_file():
        raise InputError(
            f"{folder} is a folder of {len(movies)} movies; give -o a folder for their "
            f"tables, not {out.name}"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror})") from error
    ledger = _Ledger(out / _LEDGER, settings, anew=restart)
    done = {
        movie: ledger.record(movie, target)
        for movie, target in zip(movies, targets, strict=True)
    }
    for movie, target in zip(movies, targets, strict=True):
        if done[movie] is None:
            Output.choose(target, overwrite=overwrite or ledger.is_partial(movie))
    records: list[dict[str, Any]] = []
    failures: list[str] = []
    code: int | None = None
    for number, (movie, target) in enumerate(zip(movies, targets, strict=True), 1):
        before = done[movie]
        if before is not None:
            note(f"{movie.name}: done before ({number} of {len(movies)})")
            records.append(before)
            continue
        note(f"{movie.name}: ({number} of {len(movies)})")
        try:
            result = fit(movie, target)
            records.append(result.record)
            whole = result.signal is None and result.record["failure"] is None
            ledger.add(movie, target, result.record, whole=whole)
            raise_failure(result.report, result.record["out"])
        except BlinkloopError as error:
            failures.append(f"{movie.name}: {error}")
            warn(failures[-1])
            continue
        if result.signal is not None:
            code = result.stopped()
            break
    if code is None and not failures:
        ledger.remove()
    if as_json:
        print_json(records)
    else:
        for record in records:
            show(record)
    if code is not None:
        return code
    if failures:
        raise BlinkloopError(
            f"{len(failures)} of {len(movies)} movies could not be fitted whole, the "
            f"first: {failures[0]}"
        )
    open_next(records[-1]["out"])
    return None


class _Ledger:
    """Which movies of a folder are done, and with which settings."""

    def __init__(self, path: Path, settings: Mapping[str, Any], *, anew: bool) -> None:
        self._path = path
        self._settings = plain(settings)
        self._movies: dict[str, dict[str, Any]] = {}
        if anew or not path.is_file():
            return
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["settings"] == self._settings:
                self._movies = dict(kept["movies"])
        except (OSError, ValueError, KeyError, TypeError):
            # A ledger that cannot be read costs time, never results.
            self._movies = {}

    def record(self, movie: Path, table: Path) -> dict[str, Any] | None:
        """What a movie gave when it is done and neither it nor its table changed."""
        kept = self._movies.get(movie.name)
        if kept is None or not kept["whole"]:
            return None
        same = kept["movie"] == _stamp(movie) and kept["table"] == _stamp(table)
        record: dict[str, Any] | None = kept["record"] if same else None
        return record

    def is_partial(self, movie: Path) -> bool:
        """Whether an interrupted fit left a part of a movie's table."""
        kept = self._movies.get(movie.name)
        return kept is not None and not kept["whole"]

    def add(
        self, movie: Path, table: Path, record: dict[str, Any], *, whole: bool
    ) -> None:
        """Book a movie; on disk before the next one begins."""
        self._movies[movie.name] = {
            "whole": whole,
            "movie": _stamp(movie),
            "table": _stamp(table),
            "record": plain(record),
        }
        text = json.dumps({"settings": self._settings, "movies": self._movies})
        beside = self._path.with_suffix(".new")
        beside.write_text(text, encoding="utf-8")
        beside.replace(self._path)

    def remove(self) -> None:
        """All movies are done: the tables speak for themselves."""
        self._path.unlink(missing_ok=True)


def _stamp(path: Path) -> list[int]:
    """Size and time of change; of a folder that of the folder itself."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]
