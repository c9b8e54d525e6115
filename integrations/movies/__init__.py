"""Movies read lazily: TIFF in its kinds, folders, Picasso raw, NumPy, Zarr."""

from __future__ import annotations

from blinkloop.integrations.movies.identity import movie_identity
from blinkloop.integrations.movies.movie import Movie, MovieDamagedError, frame_holes
from blinkloop.integrations.movies.raw import RawMovie
from blinkloop.integrations.movies.region import RegionMovie, frame_roi
from blinkloop.integrations.movies.source import MovieSource, frame_blocks, frame_runs
from blinkloop.integrations.movies.table import (
    MOVIE_READERS,
    MovieReader,
    find_movies,
    open_movie,
)

__all__ = [
    "MOVIE_READERS",
    "Movie",
    "MovieDamagedError",
    "MovieReader",
    "MovieSource",
    "RawMovie",
    "RegionMovie",
    "find_movies",
    "frame_blocks",
    "frame_holes",
    "frame_roi",
    "frame_runs",
    "movie_identity",
    "open_movie",
]
