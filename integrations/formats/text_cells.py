"""Rows of numbers in text files, in the spellings that programs and Excel use.

Between the cells is a comma, a semicolon or a tab. A German or French Excel, and
programs on such a machine, write decimal commas; they are read where they cannot be
mistaken: where something else is between the cells, or a comma's cell is quoted. What
Excel calls CSV is in the code page of the machine, of which the Western European one is
read, and may begin with a line `sep=;`.
"""

from __future__ import annotations

import codecs
import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError

__all__ = [
    "TextHead",
    "find",
    "is_text_table",
    "number",
    "numbers",
    "open_text",
    "split_header",
    "text_head",
]

_ENDINGS = (".csv", ".txt", ".tsv", ".xls", ".ascii")
"""Several programs give their tab-separated text the ending of Excel."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = (",", "\t", ";")
_LOOK = 1000
_SAMPLE = 1 << 16
"""Bytes in which a letter like the micro sign tells the code page."""
_WESTERN = "cp1252"
_SEPARATOR = re.compile(r'"?sep=([,;\t|:])"?\s*', re.IGNORECASE)
_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class TextHead:
    """What comes before the rows.

    Parameters
    ----------
    names
        Of the columns.
    delimiter
        Between the cells.
    lines
        How many lines come before the rows.
    comments
        Those of them that begin with `#`, without it.
    """

    names: list[str]
    delimiter: str
    lines: int
    comments: tuple[str, ...]


def is_text_table(path: Path, head: bytes) -> bool:
    """Whether it is text whose ending is that of a table."""
    # In UTF-16 every other byte of plain text is 0.
    wide = head.startswith(_UTF16) and 3 * head.count(0) > len(head)
    return path.suffix.lower() in _ENDINGS and (wide or b"\0" not in head)


def open_text(path: Path, errors: str = "strict") -> TextIO:
    """Open a text file, in UTF-8 or, as Excel writes them, UTF-16 or Windows-1252."""
    with path.open("rb") as file:
        head = file.read(_SAMPLE)
    return path.open(encoding=_encoding(head), errors=errors, newline="")


def _encoding(head: bytes) -> str:
    if head.startswith(_UTF16):
        return "utf-16"
    try:
        # The last letter of the sample may be cut.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        with suppress(UnicodeDecodeError):
            if all(
                letter.isprintable() or letter in "\t\r\n"
                for letter in head.decode(_WESTERN)
            ):
                return _WESTERN
    return "utf-8-sig"


def text_head(path: Path, errors: str = "strict") -> TextHead:
    """The names of the columns, and what is between the cells.

    Parameters
    ----------
    path
        A text file.
    errors
        What is done about bytes that are no text, as for `open`.

    Raises
    ------
    InputError
        When it is not text.
    """
    comments: list[str] = []
    try:
        with open_text(path, errors) as file:
            for line in file:
                if not line.startswith("#"):
                    break
                comments.append(line[1:].strip())
            else:
                line = ""
            said = _SEPARATOR.fullmatch(line)
            if said is not None:
                line = file.readline()
    except UnicodeError as error:
        raise InputError(f"{path.name} is not a text file; is it a table?") from error
    # The delimiter is what makes the most cells: names may hold a comma, but not many.
    delimiters = _DELIMITERS if said is None else (said[1],)
    found = [(split_header(line, between), between) for between in delimiters]
    names, delimiter = max(found, key=lambda one: len(one[0]))
    lines = len(comments) + 1 + (said is not None)
    return TextHead(names, delimiter, lines, tuple(comments))


def split_header(line: str, delimiter: str) -> list[str]:
    """Names of a header line; some programs quote the whole line once more."""
    cells = next(csv.reader([line.strip("\r\n ")], delimiter=delimiter), [])
    if len(cells) == 1 and delimiter in cells[0]:
        cells = next(csv.reader([cells[0]], delimiter=delimiter))
    return [re.sub(r"\s+", " ", cell.strip().strip('"')) for cell in cells]


def number(cell: str) -> float:
    """The number in a cell, with a decimal point or comma; NaN when there is none."""
    cell = cell.strip()
    if _COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return float("nan")


def numbers(path: Path, head: TextHead) -> npt.NDArray[np.float64]:
    """(rows, columns) of the file; an empty cell, or one without a number, is NaN.

    Raises
    ------
    InputError
        When a row has not as many cells as the header.
    """
    columns = len(head.names)
    options: dict[str, Any] = {"delimiter": head.delimiter, "ndmin": 2}
    with warnings.catch_warnings():
        # An empty table is a table, not a reason to warn.
        warnings.simplefilter("ignore", UserWarning)
        try:
            with open_text(path) as file:
                values = np.loadtxt(_lines(file, head), quotechar='"', **options)
        except UnicodeError as error:
            raise InputError(
                f"{path.name} is not a text file; is it a table?"
            ) from error
        except ValueError:
            values = _slowly(path, head)
    if values.size == 0:
        return np.empty((0, columns))
    if values.shape[1] != columns:
        raise _uneven(path, columns, 1, values.shape[1])
    return np.asarray(values, np.float64)


def _lines(file: TextIO, head: TextHead) -> Iterator[str]:
    """Lines of the rows, with decimal points."""
    rest = islice(file, head.lines, None)
    start = list(islice(rest, _LOOK))
    commas = head.delimiter != "," and any("," in line for line in start)
    if commas and any("." in line for line in start):
        # Both: "1,320.5" is no number here, cell by cell says where.
        raise ValueError("decimal points and commas")
    for lines in (start, rest):
        for line in lines:
            yield line.replace(",", ".") if commas else line


def _slowly(path: Path, head: TextHead) -> npt.NDArray[np.float64]:
    """Cell by cell, which knows of empty cells and quoted decimal commas."""
    rows: list[list[float]] = []
    columns = len(head.names)
    with open_text(path) as file:
        for _ in range(head.lines):
            file.readline()
        for row in csv.reader(file, delimiter=head.delimiter):
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != columns:
                raise _uneven(path, columns, len(rows) + 1, len(row))
            rows.append([number(cell) for cell in row])
    return np.array(rows, np.float64).reshape(len(rows), columns)


def _uneven(path: Path, columns: int, row: int, cells: int) -> InputError:
    return InputError(
        f"{path.name}: the header names {columns} columns, row {row} has {cells}; the "
        f"file is damaged, or has decimal commas between commas: export it with "
        f"decimal points"
    )


def find(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Place of the first of the wanted names, in whatever case; None without any."""
    lower = [name.lower() for name in names]
    return next((lower.index(name) for name in wanted if name in lower), None)
