"""Movies in HDF5 files: one dataset of frames, whatever it is called.

`movie.h5/group/frames` names a dataset within a file, as h5py and ilastik users write
it. Arrays that MATLAB saved (-v7.3) come with their axes in reverse order and an
attribute `MATLAB_class`: (rows, columns, frames) there is (frames, columns, rows) here.

Design notes
------------
Knows no program's layout. Of several datasets the one that could be a movie is taken;
when more than one could, the person says which.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.movies.arrays import axis_notes, frames_shape
from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["Hdf5Movie", "inside_hdf5", "is_hdf5", "open_hdf5"]

_MARKS = (b"\x89HDF\r\n\x1a\n", b"MATLAB 7.3 MAT-f")
_SMALLEST_SIDE_PX = 8


def is_hdf5(path: Path, head: bytes) -> bool:
    """Whether a file starts as HDF5, or as a MATLAB 7.3 file, which is HDF5."""
    return head.startswith(_MARKS)


def inside_hdf5(path: Path) -> tuple[Path, str] | None:
    """File and dataset of `file.h5/group/frames`; None when no file is on the way."""
    for parent in path.parents:
        if parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


def open_hdf5(path: Path, dataset: str | None = None) -> Hdf5Movie:
    """Open the movie of an HDF5 file.

    Parameters
    ----------
    path
        The file.
    dataset
        Name of the dataset within it; None: the only one that can be a movie.

    Raises
    ------
    InputError
        When no dataset, or more than one, can be a movie.
    """
    h5py = require("h5py", "Reading HDF5 movies", "io")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path.name} cannot be opened as HDF5 "
            f"({' '.join(str(error).split())[:120]}); is it complete, or still being "
            f"written?"
        ) from error
    try:
        chosen = _dataset(file, path, dataset, h5py)
        return Hdf5Movie(f"{path.name}/{chosen.name.strip('/')}", file, chosen)
    except InputError:
        file.close()
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        # h5py says of a damaged group one or the other.
        file.close()
        raise InputError(
            f"{path.name} is damaged ({' '.join(str(error).split())[:120]}); copy it "
            f"again"
        ) from error


class Hdf5Movie(MovieBase):
    """Frames of one dataset, read on demand.

    Parameters
    ----------
    name
        File and dataset, for messages.
    file
        Opened file; closed with the movie.
    dataset
        (frames, rows, columns), further axes of length 1 or MATLAB's order.
    """

    def __init__(self, name: str, file: Any, dataset: Any) -> None:
        super().__init__(name, _shape(dataset, name), dataset.dtype)
        self._file = file
        self._dataset = dataset
        self._turned = "MATLAB_class" in dataset.attrs
        lead = dataset.shape[:-2]
        self._axis = next((i for i, n in enumerate(lead) if n > 1), 0)

    def notes(self) -> tuple[str, ...]:
        """Which dataset was read, and a doubt about its axes."""
        shape = (self.n_frames, self.height, self.width)
        return (f"{self._name}: {shape[0]} frames", *axis_notes(self._name, shape))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._load_rows(start, stop, 0, self.height)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        rows = slice(top, bottom)
        last = (slice(None), rows) if self._turned else (rows, slice(None))
        lead = [slice(None)] * (self._dataset.ndim - 2)
        if lead:
            lead[self._axis] = slice(start, stop)
        try:
            block = np.asarray(self._dataset[(*lead, *last)])
        except (OSError, RuntimeError) as error:
            why = " ".join(str(error).split())[:120]
            raise InputError(
                f"{self._name}: frames {start} to {stop - 1} cannot be read ({why}); "
                f"is the file complete, and is its compression known here "
                f"(pip install hdf5plugin)?"
            ) from error
        block = block.reshape(stop - start, *block.shape[-2:])
        return block.swapaxes(1, 2) if self._turned else block


def _shape(dataset: Any, name: str) -> tuple[int, int, int]:
    n_frames, height, width = frames_shape(tuple(dataset.shape), name)
    turned = "MATLAB_class" in dataset.attrs
    return (n_frames, width, height) if turned else (n_frames, height, width)


def _dataset(file: Any, path: Path, name: str | None, h5py: Any) -> Any:
    found: list[Any] = []

    def look(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            found.append(node)

    file.visititems(look)
    if name is not None:
        node = file.get(name)  # through links, too, which a walk leaves out
        if isinstance(node, h5py.Dataset):
            return node
        raise InputError(
            f"{path.name} holds no dataset {name} (it holds {_list(found)}); give one "
            f"of these behind the file's name"
        )
    movies = [node for node in found if _is_movie(node)]
    if len(movies) == 1:
        return movies[0]
    if not movies:
        tables = any(node.dtype.names for node in found)
        what = "a table of localizations" if tables else f"{_list(found)}"
        raise InputError(
            f"{path.name} holds no movie but {what}; a movie is a dataset of (frames, "
            f"rows, columns)"
        )
    raise InputError(
        f"{path.name} holds {len(movies)} datasets that could be the movie "
        f"({_list(movies)}); name one, e.g. {path.name}/{movies[0].name.strip('/')}"
    )


def _is_movie(node: Any) -> bool:
    if node.dtype.kind not in "iuf" or len(node.shape or ()) < 3:
        return False
    lead, last = node.shape[:-2], node.shape[-2:]
    one_axis = sum(n > 1 for n in lead) <= 1 and math.prod(lead) >= 1
    return one_axis and bool(min(last) >= _SMALLEST_SIDE_PX)


def _list(nodes: list[Any]) -> str:
    if not nodes:
        return "nothing"
    some = [f"{node.name.strip('/')} {tuple(node.shape or ())}" for node in nodes[:4]]
    return ", ".join(some) + (", ..." if len(nodes) > 4 else "")
