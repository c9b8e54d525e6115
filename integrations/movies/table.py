"""Which reader opens what: probed by content, the ending decides only for raw pixels.

Design notes
------------
A reader is a row: name, probe, opener. The first row whose probe holds opens the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blinkloop.errors import InputError
from blinkloop.integrations.movies.arrays import is_npy, is_zarr, open_npy, open_zarr
from blinkloop.integrations.movies.folder import FolderMovie, tiff_files
from blinkloop.integrations.movies.movie import Movie
from blinkloop.integrations.movies.picasso_raw import PicassoRawMovie, is_picasso_raw
from blinkloop.integrations.movies.raw import RawMovie
from blinkloop.integrations.movies.tiff import open_tiff
from blinkloop.integrations.movies.tiff_directory import is_tiff
from blinkloop.runtime.raw import is_raw_store

__all__ = ["MOVIE_READERS", "MovieReader", "find_movies", "open_movie"]

_KNOWN = (
    "a TIFF file (also BigTIFF, OME, ImageJ), a folder of single-page TIFF files, "
    "a Picasso .raw with its .yaml, a NumPy .npy or a Zarr folder"
)


@dataclass(frozen=True, slots=True)
class MovieReader:
    """One row of the table of file readers.

    Parameters
    ----------
    name
        For messages and tables.
    probe
        Whether it reads a file, by path and the file's first 16 bytes.
    open
        Opens the file.
    """

    name: str
    probe: Callable[[Path, bytes], bool]
    open: Callable[[Path], Movie]


MOVIE_READERS = (
    MovieReader("TIFF", is_tiff, open_tiff),
    MovieReader("NumPy", is_npy, open_npy),
    MovieReader("Picasso raw", is_picasso_raw, PicassoRawMovie),
)


def open_movie(path: str | Path) -> Movie:
    """Open a movie for reading on demand.

    Parameters
    ----------
    path
        A file or a folder; see `docs` of the readers for what is understood.

    Returns
    -------
    Movie
        To be closed, or used in a `with` statement.

    Raises
    ------
    InputError
        When there is no such file, it is empty, of no known kind, or not a movie.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder; check the path of the movie")
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if not head:
            raise InputError(f"{path} is empty (0 bytes); was the recording stopped?")
        for reader in MOVIE_READERS:
            if reader.probe(path, head):
                return reader.open(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    raise InputError(f"{path} is not a movie blinkloop can read; give {_KNOWN}")


def find_movies(path: str | Path) -> list[Path]:
    """Movies at a path: itself, or each movie of a folder of movies.

    A folder of single-page TIFF files, and a Zarr folder, are one movie.

    Raises
    ------
    InputError
        When there is nothing to read.
    """
    path = Path(path)
    if not path.is_dir() or is_zarr(path):
        return [path]
    files = tiff_files(path)
    if files and not _multi_page(files[0]):
        return [path]
    others = [
        item
        for item in path.iterdir()
        if (item.is_file() and item.suffix.lower() in (".raw", ".npy"))
        or (item.is_dir() and is_zarr(item))
    ]
    found = files + sorted(others)
    if not found:
        raise InputError(f"{path} holds no movie; give {_KNOWN}")
    return found


def _open_folder(path: Path) -> Movie:
    if is_zarr(path):
        return RawMovie(path) if is_raw_store(path) else open_zarr(path)
    files = tiff_files(path)
    if not files:
        what = "is empty" if not any(path.iterdir()) else "holds no TIFF file"
        raise InputError(f"{path} {what}; give {_KNOWN}")
    if len(files) > 1 and _multi_page(files[0]):
        raise InputError(
            f"{path} holds {len(files)} movies of several pages each; "
            f"give one of them, e.g. {files[0].name}"
        )
    if len(files) == 1:
        return open_movie(files[0])
    return FolderMovie(path, files)


def _multi_page(path: Path) -> bool:
    with open_movie(path) as movie:
        return movie.n_frames > 1
