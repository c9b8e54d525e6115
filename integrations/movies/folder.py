"""A folder of single-page TIFF files as one movie.

Files are taken in natural order: 1, 2, 10, not 1, 10, 2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.folder_names import (
    name_remarks,
    refuse_several_series,
)
from blinkloop.integrations.movies.movie import MovieBase, MovieDamagedError
from blinkloop.integrations.movies.tiff import open_tiff

__all__ = ["FolderMovie", "natural_key", "tiff_files"]


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that reads runs of digits as numbers."""
    parts = re.split(r"(\d+)", name)
    return tuple(
        (1, int(part), part) if part.isdecimal() else (0, 0, part.lower())
        for part in parts
    )


def tiff_files(folder: Path) -> list[Path]:
    """TIFF files of a folder in natural order; hidden files are left out."""
    found = (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in (".tif", ".tiff") and not path.name.startswith(".")
    )
    return sorted(found, key=lambda path: natural_key(path.name))


class FolderMovie(MovieBase):
    """Frames kept as one TIFF file each.

    Parameters
    ----------
    folder
        The folder.
    files
        Its TIFF files in order.

    Raises
    ------
    InputError
        When the first file cannot be read, or there are several channels or series.
    """

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        names = [file.name for file in files]
        refuse_several_series(folder.name, names)
        with open_tiff(files[0]) as first:
            super().__init__(
                folder.name, (len(files), first.height, first.width), first.dtype
            )
            self._facts = dict(first.facts())
            self._origin = first.origin
        self._files = tuple(files)
        self._remarks = name_remarks(folder.name, names)

    @property
    def origin(self) -> tuple[int, int]:
        """Column and row on the chip of the first file's first pixel."""
        return self._origin

    def facts(self) -> Mapping[str, Any]:
        """What the first file says of the camera."""
        return dict(self._facts)

    def notes(self) -> tuple[str, ...]:
        """Files that may be no frames, and numbers that are missing."""
        return self._remarks

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        block = np.empty((stop - start, self.height, self.width), self.dtype)
        for i in range(start, stop):
            try:
                block[i - start] = self._one(self._files[i])
            except MovieDamagedError as error:
                raise self._broken(i, str(error)) from error
            except (InputError, OSError) as error:
                todo = "take it out of the folder, or save it again"
                raise self._broken(i, str(error), todo) from error
        return block

    def _one(self, path: Path) -> npt.NDArray[Any]:
        with path.open("rb") as file:
            if not file.read(1):
                raise InputError(f"{path.name} is empty")
        with open_tiff(path) as movie:
            if movie.n_frames != 1:
                raise InputError(f"{path.name} has {movie.n_frames} pages, not one")
            if (movie.height, movie.width) != (self.height, self.width):
                raise InputError(
                    f"{path.name} is {movie.width} x {movie.height} px, the first "
                    f"file {self.width} x {self.height}"
                )
            if movie.dtype != self.dtype:
                raise InputError(
                    f"{path.name} holds {movie.dtype}, the first file {self.dtype}"
                )
            frame: npt.NDArray[Any] = movie.read(0, 1)[0]
            return frame
