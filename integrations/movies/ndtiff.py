"""A finished NDTiff data set (Micro-Manager, pycromanager) as a movie.

Its files hold at most 4 GB each; `NDTiff.index` says where every image lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.growing.ndtiff import INDEX_NAME, GrowingNdTiff
from blinkloop.integrations.growing.reader import NotYetError
from blinkloop.integrations.movies.movie import MovieBase
from blinkloop.integrations.movies.tiff_directory import first_directory_tags
from blinkloop.integrations.movies.tiff_facts import camera_facts, chip_origin

__all__ = ["NdTiffMovie", "StacksError", "ndtiff_folder", "ndtiff_of"]

_NOT_TIME = frozenset(("channel", "position", "row", "column"))
"""Axes along which no movie runs, however many images there are."""


def ndtiff_folder(path: Path) -> Path | None:
    """The folder with the index: this one, or its `Full resolution`; else None."""
    for folder in (path, path / "Full resolution"):
        if (folder / INDEX_NAME).is_file():
            return folder
    return None


def ndtiff_of(path: Path) -> Path | None:
    """The folder of the data set that a TIFF file is a part of; else None."""
    index = path.parent / INDEX_NAME
    if not index.is_file() or path.name.encode() not in index.read_bytes():
        return None
    return path.parent


class StacksError(InputError):
    """A data set holds z-stacks at several times, all of them in one file."""


class NdTiffMovie(MovieBase):
    """Images along the one axis that varies: time, or z of a stack.

    Parameters
    ----------
    path
        Folder with `NDTiff.index`.

    Raises
    ------
    InputError
        When several axes vary, channels or positions do, or no image is there.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._index = _AllAxes(path)
        except NotYetError:
            raise InputError(
                f"{path.name}: {INDEX_NAME} names no image; was the recording stopped?"
            ) from None
        axes = self._index.axes
        # An image that is written again takes the place of the one before.
        latest = {tuple(sorted(one.items())): k for k, one in enumerate(axes)}
        order = sorted(latest.values())
        values = {name: {one.get(name) for one in axes} for one in axes for name in one}
        varying = {name: len(seen) for name, seen in values.items() if len(seen) > 1}
        if len(varying) > 1 or not varying.keys().isdisjoint(_NOT_TIME):
            sizes = ", ".join(f"{n} {name}s" for name, n in varying.items())
            stacks = varying.keys() == {"z", "time"} and len(self._index.names) == 1
            kind = StacksError if stacks else InputError
            raise kind(
                f"{path.name} holds {sizes}, and a movie is one; export one channel "
                f"and position as TIFF"
            )
        self._gaps = 0
        for name in varying:
            steps = [one.get(name) for one in axes]
            if all(isinstance(step, int) for step in steps):
                order.sort(key=lambda k: int(steps[k] or 0))
                first, last = (int(steps[order[i]] or 0) for i in (0, -1))
                self._gaps = last - first + 1 - len(order)
        self._order = order
        index = self._index
        super().__init__(
            path.name, (len(order), index.height, index.width), index.dtype
        )
        file = index.file_of(order[0])
        self._tags = first_directory_tags(file) if file.is_file() else {}

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip, when Micro-Manager recorded them."""
        return chip_origin(self._tags)

    def facts(self) -> Mapping[str, Any]:
        """Bit depth, pixel size, exposure, as far as they are recorded."""
        return {**self._index.facts(), **camera_facts(self._tags)}

    def notes(self) -> tuple[str, ...]:
        """Says when images are missing."""
        if not self._gaps:
            return ()
        return (
            f"{self._name}: {self._gaps} images along its axis are missing; the others "
            f"are numbered without gaps",
        )

    def close(self) -> None:
        """Close all files."""
        self._index.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        block = np.empty((stop - start, self.height, self.width), self.dtype)
        for i in range(start, stop):
            try:
                block[i - start] = self._index.read(self._order[i])
            except (OSError, ValueError) as error:
                raise self._broken(i, f"{type(error).__name__}: {error}") from error
        return block


class _AllAxes(GrowingNdTiff):
    """An index whose images may vary along any axis."""

    def __init__(self, path: Path) -> None:
        self.axes: list[dict[str, Any]] = []
        super().__init__(path)

    @property
    def names(self) -> set[str]:
        """Files of the data set."""
        return {record[0] for record in self._records}

    def file_of(self, k: int) -> Path:
        """File that holds image k."""
        return self._path / Path(self._records[k][0]).name

    def _take(self, axes: dict[str, Any], name: str, fields: tuple[int, ...]) -> None:
        self.axes.append(dict(axes))
        super()._take({}, name, fields)
