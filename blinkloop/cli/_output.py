"""What the command line writes: results to stdout, everything else to stderr.

With `--json` stdout holds exactly one JSON value. Without it, tables are drawn with
rich on a terminal and are plain aligned lines in a pipe or a file.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any

import click

__all__ = [
    "command_line",
    "logs_to_stderr",
    "next_step",
    "note",
    "plain",
    "print_json",
    "print_table",
    "thread_errors_to_stderr",
    "warn",
]


def plain(value: Any) -> Any:
    """Turn a value into what JSON knows.

    NaN and infinities become None, arrays lists, NumPy numbers Python's, paths text.

    Raises
    ------
    TypeError
        For anything else: a result that cannot be written is a mistake of ours.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy arrays and scalars, without importing numpy
        return plain(value.tolist())
    if hasattr(value, "model_dump"):  # pydantic models
        return plain(value.model_dump())
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def print_json(value: Any) -> None:
    """Print one JSON value on stdout; see `plain` for what becomes of NaN."""
    click.echo(json.dumps(plain(value), allow_nan=False))


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Print a table: rich on a terminal, aligned plain lines otherwise.

    Parameters
    ----------
    title
        Shown above the table.
    columns
        Headings, with units.
    rows
        As many values per row as headings; None and NaN are shown as "-".
    """
    cells = [[_text(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        # Imported here: rich takes longer to import than `doctor --json` to answer.
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(title), title_justify="left")
        for column in columns:
            table.add_column(escape(column), overflow="fold")
        for row in cells:
            table.add_row(*(escape(cell) for cell in row))
        Console().print(table)
        return
    lines = [list(columns), *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    click.echo(f"{title}:")
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(("  " + "  ".join(padded)).rstrip())


def note(text: str) -> None:
    """One line for the person, on stderr: progress, what was assumed and from where."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """One warning line on stderr."""
    click.echo(f"warning: {text}", err=True)


def next_step(*words: object) -> None:
    """Last line of a command: what to type next. On stderr, so pipes stay clean.

    Parameters
    ----------
    *words
        Those of a command, to be quoted as the shell needs; or one text.
    """
    note(f"next: {words[0] if len(words) == 1 else command_line(*words)}")


def command_line(*words: object) -> str:
    """A command to paste: its words quoted as the shell needs."""
    said = [str(word) for word in words]
    # Imported here: they are a good part of the time of `blinkloop --help`.
    import shlex
    import subprocess

    return subprocess.list2cmdline(said) if os.name == "nt" else shlex.join(said)


@contextmanager
def logs_to_stderr(debug: Callable[[], bool]) -> Iterator[None]:
    """Send blinkloop's logs of level WARNING and above to stderr while it is open.

    Parameters
    ----------
    debug
        Asked for every record, because `--debug` is seen while a verb is parsed; True
        lets all levels through.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LowerCaseLevel("%(levelname)s: %(message)s"))
    handler.addFilter(lambda record: debug() or _for_people(record))
    logger = logging.getLogger("blinkloop")
    level = logger.level
    # The core logs in colour what it raises as well, and the verbs report.
    core = logging.getLogger("pymmcore-plus")

    def severe(record: logging.LogRecord) -> bool:
        return debug() or record.levelno >= logging.ERROR

    core.addFilter(severe)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        core.removeFilter(severe)


@contextmanager
def thread_errors_to_stderr(debug: Callable[[], bool]) -> Iterator[None]:
    """Make what ends a thread of somebody else, a camera driver's say, one line.

    Parameters
    ----------
    debug
        True lets the traceback through.
    """
    before = threading.excepthook

    def say(error: threading.ExceptHookArgs) -> None:
        if debug():
            before(error)
            return
        kind = error.exc_type.__name__
        warn(" ".join(f"in a thread: {kind}: {error.exc_value or ''}".split()))

    threading.excepthook = say
    try:
        yield
    finally:
        threading.excepthook = before


def _for_people(record: logging.LogRecord) -> bool:
    # What a run logs is in its report and in its status, which the verbs show.
    of_a_run = record.name == "blinkloop.runtime.run_control"
    return record.levelno >= logging.WARNING and not of_a_run


class _LowerCaseLevel(logging.Formatter):
    """`warning: text`, the same look as `warn`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with a traceback."""
        record.levelname = record.levelname.lower()
        return super().format(record)


def _text(value: Any) -> str:
    value = plain(value)
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # No 1.006e+04 where 10060 is as short.
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e8 else f"{value:.4g}"
    if isinstance(value, list):
        return " to ".join(_text(item) for item in value)
    return str(value)
