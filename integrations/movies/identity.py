"""Whether a movie is the same as before, told without reading its pixels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from blinkloop.integrations.movies.arrays import is_zarr
from blinkloop.integrations.movies.movie import Movie

__all__ = ["movie_identity"]


def movie_identity(path: Path, movie: Movie) -> dict[str, Any]:
    """Facts that change when a movie does: place, size, time of change, frames.

    Parameters
    ----------
    path
        File or folder the movie was opened from.
    movie
        The opened movie.

    Returns
    -------
    dict
        `path`, `files`, `bytes`, `changed_ns` (the newest file's), `frames`, `height`,
        `width`, `pixels` (type); values as JSON keeps them.
    """
    files = _files(path)
    stats = [file.stat() for file in files]
    return {
        "path": str(path.resolve()),
        "files": len(files),
        "bytes": sum(stat.st_size for stat in stats),
        "changed_ns": max((stat.st_mtime_ns for stat in stats), default=0),
        "frames": movie.n_frames,
        "height": movie.height,
        "width": movie.width,
        "pixels": str(movie.dtype),
    }


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        # movie.h5/group/frames: a dataset within a file.
        return [p for p in (path, *path.parents) if p.is_file()][:1]
    found = (
        Path(folder) / name for folder, _, names in os.walk(path) for name in names
    )
    if is_zarr(path):
        return list(found)
    # Results that are written among the pictures do not change the movie.
    endings = (".tif", ".tiff", ".index", ".dat", ".sifx")
    return [file for file in found if file.suffix.lower() in endings]
