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
from blinkloop.integrations.movies.andor_spool import (
    SpoolMovie,
    is_spool_folder,
    is_spooled,
    open_spooled,
)
from blinkloop.integrations.movies.arrays import is_npy, is_zarr, open_npy, open_zarr
from blinkloop.integrations.movies.czi import CziMovie, is_czi
from blinkloop.integrations.movies.dax import DaxMovie, is_dax
from blinkloop.integrations.movies.dcimg import DcimgMovie, is_dcimg
from blinkloop.integrations.movies.fits import FitsMovie, is_fits
from blinkloop.integrations.movies.folder import FolderMovie, tiff_files
from blinkloop.integrations.movies.folder_names import name_pattern
from blinkloop.integrations.movies.foreign import foreign_kind
from blinkloop.integrations.movies.hdf5 import inside_hdf5, is_hdf5, open_hdf5
from blinkloop.integrations.movies.imaris import ImarisMovie, is_imaris
from blinkloop.integrations.movies.lif import LifMovie, is_lif
from blinkloop.integrations.movies.movie import Movie
from blinkloop.integrations.movies.ndtiff import (
    NdTiffMovie,
    StacksError,
    ndtiff_folder,
    ndtiff_of,
)
from blinkloop.integrations.movies.nikon import Nd2Movie, is_nd2
from blinkloop.integrations.movies.picasso_raw import PicassoRawMovie, is_picasso_raw
from blinkloop.integrations.movies.raw import RawMovie
from blinkloop.integrations.movies.sif import SifMovie, is_sif
from blinkloop.integrations.movies.spe import SpeMovie, is_spe
from blinkloop.integrations.movies.tiff import companions, open_tiff
from blinkloop.integrations.movies.tiff_directory import is_tiff
from blinkloop.runtime.raw import is_raw_store

__all__ = ["MOVIE_READERS", "MovieReader", "find_movies", "open_movie"]

_KNOWN = (
    "a TIFF file (also BigTIFF, OME, ImageJ), a folder of single-page TIFF files, "
    "an NDTiff folder, HDF5, a Picasso .raw with its .yaml, a .dax with its .inf, an "
    "Andor .sif or spooled folder, a Hamamatsu .dcimg, a Leica .lif, an Imaris .ims, a "
    "Nikon .nd2, a Zeiss .czi, a Princeton .spe, FITS, a NumPy .npy or a Zarr folder"
)


_ENDINGS = (
    *(".raw", ".npy", ".dax", ".h5", ".hdf5", ".stk", ".lsm", ".btf"),
    *(".sif", ".nd2", ".czi", ".spe", ".fits", ".dcimg", ".lif", ".ims"),
)
"""Of files that are movies and do not end as TIFF files do, though some are."""


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


def _open_tiff(path: Path) -> Movie:
    """A TIFF file; or, when it is a part of an NDTiff data set, all of that.

    Alone it would be read in the order of its pages: channels, positions and images
    that were written again as if they were frames, and not the other files.
    """
    folder = ndtiff_of(path)
    if folder is None:
        return open_tiff(path)
    try:
        return NdTiffMovie(folder)
    except StacksError as error:
        # `calibrate` makes bead stacks of them.
        return open_tiff(path, (f"{error}; the pages are read in their order",))


MOVIE_READERS = (
    MovieReader("TIFF", is_tiff, _open_tiff),
    MovieReader("NumPy", is_npy, open_npy),
    MovieReader("Picasso raw", is_picasso_raw, PicassoRawMovie),
    MovieReader("DAX", is_dax, DaxMovie),
    # Before HDF5, which it is, with a dataset for each frame.
    MovieReader("Imaris", is_imaris, ImarisMovie),
    MovieReader("HDF5", is_hdf5, open_hdf5),
    MovieReader("Andor Solis", is_sif, SifMovie),
    MovieReader("Andor Solis, spooled", is_spooled, open_spooled),
    MovieReader("Nikon NIS-Elements", is_nd2, Nd2Movie),
    MovieReader("Leica LAS X", is_lif, LifMovie),
    MovieReader("Zeiss ZEN", is_czi, CziMovie),
    MovieReader("Princeton Instruments", is_spe, SpeMovie),
    MovieReader("Hamamatsu DCIMG", is_dcimg, DcimgMovie),
    MovieReader("FITS", is_fits, FitsMovie),
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
        within = inside_hdf5(path)
        if within is not None:
            return _open_within(path, *within)
        raise InputError(f"{path}: no such file or folder; check the path of the movie")
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if not head:
            raise InputError(f"{path} is empty (0 bytes); was the recording stopped?")
        foreign = foreign_kind(path, head)
        for reader in MOVIE_READERS:
            if reader.probe(path, head):
                return reader.open(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    if foreign is not None:
        raise InputError(f"{path} {foreign}")
    raise InputError(f"{path} is not a movie blinkloop can read; give {_KNOWN}")


def _open_within(path: Path, file: Path, dataset: str) -> Movie:
    with file.open("rb") as opened:
        head = opened.read(16)
    if is_lif(file, head):
        return LifMovie(file, dataset)
    if not is_hdf5(file, head):
        raise InputError(
            f"{path}: no such file or folder ({file.name} is a file, and neither HDF5 "
            f"nor .lif); check the path of the movie"
        )
    return open_hdf5(file, dataset)


def find_movies(path: str | Path) -> list[Path]:
    """Movies at a path: itself, or each movie of a folder of movies.

    A folder of single-page TIFF files, and a Zarr folder, are one movie.

    Raises
    ------
    InputError
        When there is nothing to read.
    """
    path = Path(path)
    if not path.is_dir() or _is_movie_folder(path):
        return [path]
    files = tiff_files(path)
    if files and not _are_movies(files):
        return [path]
    others = [
        item
        for item in path.iterdir()
        if (item.is_file() and item.suffix.lower() in _ENDINGS)
        or (item.is_dir() and _is_movie_folder(item))
    ]
    found = _firsts(files) + sorted(others)
    if not found:
        raise InputError(f"{path} holds no movie; give {_KNOWN}")
    return found


def _is_movie_folder(path: Path) -> bool:
    """Whether a folder is a movie by what lies in it, folders of TIFF files aside."""
    return bool(is_zarr(path) or ndtiff_folder(path) or is_spool_folder(path))


def _open_folder(path: Path) -> Movie:
    if is_zarr(path):
        return RawMovie(path) if is_raw_store(path) else open_zarr(path)
    if (folder := ndtiff_folder(path)) is not None:
        return NdTiffMovie(folder)
    if is_spool_folder(path):
        return SpoolMovie(path)
    files = tiff_files(path)
    if not files:
        what = "is empty" if not any(path.iterdir()) else "holds no TIFF file"
        raise InputError(f"{path} {what}; give {_KNOWN}")
    if len(files) > 1 and _are_movies(files):
        firsts = _firsts(files)
        if len(firsts) == 1:
            return open_movie(firsts[0])
        raise InputError(
            f"{path} holds {len(firsts)} movies of several pages each; "
            f"give one of them, e.g. {firsts[0].name}"
        )
    if len(files) == 1:
        return open_movie(files[0])
    return FolderMovie(path, files)


def _firsts(files: list[Path]) -> list[Path]:
    """Files without those that only go on with an OME-TIFF image of another one."""
    taken: set[str] = set()
    firsts = []
    for file in files:
        if file.name in taken:
            continue
        firsts.append(file)
        taken |= companions(file)
    return firsts


def _are_movies(files: list[Path]) -> bool:
    """Whether TIFF files are movies, not the frames of one.

    The first that can be read tells, because one that cannot must not stop the others.
    A snapshot may come first, before the movies it was taken for: then the largest
    file has another name and several pages.
    """
    first = next((several for file in files if (several := _pages(file))), 0)
    if first != 1:
        return first > 1
    largest = max(files, key=_size)
    alike = name_pattern(largest.name) == name_pattern(files[0].name)
    return not alike and _pages(largest) > 1


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _pages(path: Path) -> int:
    """Frames of a file; 0 when it is none that can be read."""
    try:
        with open_movie(path) as movie:
            return movie.n_frames
    except InputError:
        return 0
