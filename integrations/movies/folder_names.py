"""What the names of a folder's pictures say of their being one movie.

A name without its numbers is a pattern: `img_000000007_Cy5_000.tif` is
`img_#_Cy5_#.tif`. The pictures of one movie share a pattern, and of their numbers one
counts the frames. Micro-Manager writes channels as text (1.4) or as a number behind
the word `channel` (2.0).

Design notes
------------
Knows names, opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from blinkloop.errors import InputError

__all__ = ["name_pattern", "name_remarks", "refuse_several_series"]

_FIELD = re.compile(r"(?<![a-z])(channel|position|ch|pos|c|xy)[_=]?#", re.IGNORECASE)
_SEVERAL = 8
"""More patterns than this are no series: names that are random, or times of day."""


def name_pattern(name: str) -> str:
    """A name with # in place of each of its numbers."""
    return re.sub(r"\d+", "#", name)


def refuse_several_series(folder: str, names: Sequence[str]) -> None:
    """Refuse pictures of several channels or positions, or of several series.

    Raises
    ------
    InputError
        In one line, with the names of what is there.
    """
    patterns = _patterns(names)
    counts = [len(members) for members in patterns.values()]
    if 1 < len(counts) <= _SEVERAL and min(counts) > 1:
        several = ", ".join(f"{p} ({len(m)})" for p, m in list(patterns.items())[:3])
        raise InputError(
            f"{folder} holds {len(counts)} series of pictures ({several}), and a movie "
            f"is one; put each into a folder of its own"
        )
    for pattern, members in patterns.items():
        varying = _varying(members)
        for field in _FIELD.finditer(pattern):
            at = pattern[: field.end()].count("#") - 1
            # A lone letter and number may be the camera's own count of frames.
            word = field[1].lower() in ("channel", "position")
            if at in varying and (word or len(varying) > 1):
                numbers = sorted({_numbers(name)[at] for name in members}, key=int)
                raise InputError(
                    f"{folder} holds pictures of {len(numbers)} channels or positions "
                    f"({pattern}: {field[1]} {', '.join(numbers[:3])}), and a movie is "
                    f"one; put those of one into a folder of their own"
                )


def name_remarks(folder: str, names: Sequence[str]) -> tuple[str, ...]:
    """Remarks on names that fit no series, and on numbers that are left out."""
    patterns = _patterns(names)
    remarks = []
    members = max(patterns.values(), key=len)
    alike = set(members)
    others = [name for name in names if name not in alike]
    if len(members) > 2 * len(others) and others:
        which = ", ".join(f"{name} = frame {names.index(name)}" for name in others[:3])
        remarks.append(
            f"{folder}: names unlike the others ({which}); take these files out of "
            f"the folder if they are no frames of the movie"
        )
    varying = _varying(members)
    if len(varying) == 1:
        (at,) = varying
        numbers = sorted({int(_numbers(name)[at]) for name in members})
        steps = [b - a for a, b in pairwise(numbers)]
        step = min(steps)
        # Times in a name are no count of frames.
        counts = all(n % step == 0 for n in steps) and 2 * steps.count(step) > len(
            steps
        )
        missing = (numbers[-1] - numbers[0]) // step + 1 - len(numbers)
        if counts and missing:
            first = next(n for n, s in zip(numbers, steps, strict=False) if s > step)
            remarks.append(
                f"{folder}: {missing} numbers are missing in its names, the first "
                f"after {first}; the other frames are numbered without gaps"
            )
    return tuple(remarks)


def _patterns(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name_pattern(name), []).append(name)
    return found


def _numbers(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def _varying(names: Sequence[str]) -> set[int]:
    """Which numbers of names of one pattern are not the same in all."""
    columns = zip(*map(_numbers, names), strict=True)
    return {at for at, column in enumerate(columns) if len(set(column)) > 1}
