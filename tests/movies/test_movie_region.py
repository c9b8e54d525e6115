"""A region of a movie, read alone; what tells one movie from another; reading ahead."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import (
    MovieSource,
    RegionMovie,
    frame_roi,
    movie_identity,
    open_movie,
)
from blinkloop.runtime import (
    Frame,
    FrameResult,
    MemorySink,
    Pipeline,
    PipelineSettings,
    Roi,
)
from blinkloop.schema import LOCALIZATION_DTYPE

Stack = npt.NDArray[np.uint16]


def save(kind: str, folder: Path, stack: Stack) -> Path:
    path = folder / f"movie.{kind}"
    if kind == "npy":
        np.save(path, stack)
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        array = zarr.create_array(
            str(path), shape=stack.shape, dtype=stack.dtype, chunks=(2, 3, 9)
        )
        array[:] = stack
    else:
        tifffile = pytest.importorskip("tifffile")
        compression = "zlib" if kind == "zlib.tif" else None
        tifffile.imwrite(path, stack, compression=compression)
    return path


@pytest.mark.parametrize("kind", ["npy", "zarr", "tif", "zlib.tif", "single"])
def test_region_of_every_kind(kind: str, stack: Stack, tmp_path: Path) -> None:
    if kind == "single":
        path = tmp_path / "files"
        path.mkdir()
        for number, frame in enumerate(stack):
            save(f"{number}.tif", path, frame)
    else:
        path = save(kind, tmp_path, stack)
    with RegionMovie(open_movie(path), Roi(3, 1, 5, 3)) as movie:
        assert (movie.n_frames, movie.height, movie.width) == (7, 3, 5)
        assert frame_roi(movie) == Roi(3, 1, 5, 3)
        block = movie.read(2, 6)
        np.testing.assert_array_equal(block, stack[2:6, 1:4, 3:8])
        assert block.dtype == stack.dtype
        assert block.flags.c_contiguous
        frames = list(MovieSource(movie, start=5).frames())
    assert [frame.index for frame in frames] == [5, 6]
    assert frames[0].roi == Roi(3, 1, 5, 3)
    np.testing.assert_array_equal(frames[1].pixels, stack[6, 1:4, 3:8])


def test_only_the_rows_of_the_region_are_read(stack: Stack, tmp_path: Path) -> None:
    movie = open_movie(save("npy", tmp_path, stack))
    size = (tmp_path / "movie.npy").stat().st_size
    # The last row of the last frame is gone, and nobody asks for it.
    os.truncate(tmp_path / "movie.npy", size - 9 * 2)
    with RegionMovie(movie, Roi(0, 0, 9, 4)) as region:
        np.testing.assert_array_equal(region.read(0, 7), stack[:, :4])
        with pytest.raises(InputError, match="frame 6 of 7 cannot be read"):
            movie.read(0, 7)


@pytest.mark.parametrize(
    "region", [Roi(0, 0, 10, 1), Roi(-1, 0, 3, 3), Roi(0, 3, 3, 3), Roi(0, 0, 0, 1)]
)
def test_region_outside_is_refused(region: Roi, stack: Stack, tmp_path: Path) -> None:
    with (
        open_movie(save("npy", tmp_path, stack)) as movie,
        pytest.raises(InputError, match="not inside the frames"),
    ):
        RegionMovie(movie, region)


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_identity_changes_with_the_movie(
    kind: str, stack: Stack, tmp_path: Path
) -> None:
    path = save(kind, tmp_path, stack)
    with open_movie(path) as movie:
        first = movie_identity(path, movie)
        assert movie_identity(path, movie) == first
        assert (first["frames"], first["height"], first["width"]) == (7, 5, 9)
        file = next(p for p in (path, *path.rglob("*")) if p.is_file())
        os.utime(file, ns=(2**62, 2**62))
        changed = movie_identity(path, movie)
    assert {key for key in first if first[key] != changed[key]} == {"changed_ns"}


class WaitingLocalizer:
    """Its first call lasts until the frames after those it has were read."""

    def __init__(self) -> None:
        self.read = threading.Event()
        self.ahead: bool | None = None

    def push(self, frames: Sequence[Frame]) -> list[FrameResult]:
        if self.ahead is None:
            self.ahead = self.read.wait(120)
        none = np.zeros(0, LOCALIZATION_DTYPE)
        blocks = np.zeros((1, 2), np.float32)
        return [
            FrameResult(f.index, 0.0, f.roi, 0, none, False, 0.0, 0.0, blocks)
            for f in frames
        ]

    def flush(self) -> list[FrameResult]:
        return []

    def close(self) -> None:
        pass


def test_the_next_batch_is_read_while_one_is_analysed(stack: Stack) -> None:
    localizer = WaitingLocalizer()

    class Watched(MovieSource):
        def frames(self) -> Any:
            for frame in super().frames():
                yield frame
                # The hand-over has taken it.
                if frame.index == 3:
                    localizer.read.set()

    class Movie:
        n_frames, height, width = stack.shape
        dtype, origin, damage = stack.dtype, (0, 0), None

        def read(self, start: int, stop: int) -> Stack:
            return stack[start:stop]

        def facts(self) -> dict[str, Any]:
            return {}

    sink = MemorySink()
    settings = PipelineSettings(ring_frames=4, max_batch=2, wait=True)
    report = Pipeline(
        Watched(Movie()),  # type: ignore[arg-type]
        localizer,
        [sink],
        settings=settings,
    ).run()
    assert report.failure is None
    assert localizer.ahead
    assert len(sink.frames()) == 7
