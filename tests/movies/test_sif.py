"""Andor .sif: files laid out as Solis writes them (doubles), by the real reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import find_movies, open_movie

Frames = npt.NDArray[np.float32]


def write_sif(path: Path, frames: Frames, *, binning: int = 1) -> None:
    """The header of an iXon's file (version 65564), times of the frames, counts."""
    count, height, width = frames.shape
    name = b"movie.sif"
    line = (
        "65564 0 0 1 1701175930 -999 \0 \0 \0 \1 \0 0 0.01457 0.02963 0.02963 1 \0 "
        "0.02963 1e-07 0 1 56 0 0 1e-08 0 0 \4 \0 256 0 4 0 0 0 0 0 0 0 0 4 3e-07 0 5 "
        "7717 0 1 -80.545 1 0 1 0 0 -1 4 18 30004 0 0 1 100 1 0 13.27 550 0 0 0 8\n"
    )
    area = f"1 {binning * height} {binning * width} 1"
    pixels = height * width
    axes = "".join(f"{len(text)}\n{text}" for text in ("Pixel number", "Counts"))
    header = (
        b"Andor Technology Multi-Channel File\n65538 1\n"
        + line.encode()
        + b"DU897_BV \n"
        + f" 512 512 {len(name)}\n".encode()
        + name
        + b" \n65538 2048\n"
        + bytes(2048)
        + b"\n65538 \1 \2 \3 \0 0 0\n65540 0 0 500 0 0 1200 1200\n0 10\n"
        b"0 0 0 0 0  0 0 0 0 0 0 10\n0 SR303i\n0 10\n0 10\n0 0 \n65536 1 500 200\n"
        b"17 Spectrograph_None\n65539 \1 \0 \1 \0 \1 \0\n0 1 0 0\n0 1 0 0\n0 1 0 0\n"
        b"422\n16\n16\n"
        + f"{axes}12\nPixel number65541 {area} {count} 1 ".encode()
        + f"{count * pixels} {pixels}\n65538 {area} {binning} {binning} 0\n".encode()
        + b"".join(f"{29630 * k:10d}\n".encode() for k in range(count))
        + b"0\n"
    )
    path.write_bytes(header + frames.astype("<f4").tobytes())


def counts(shape: tuple[int, int, int]) -> Frames:
    return np.random.default_rng(0).integers(90, 60_000, shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 5, 9), (7, 21, 34)], ids=["one", "odd"])
def test_frames_are_those_written(shape: tuple[int, int, int], tmp_path: Path) -> None:
    frames = counts(shape)
    write_sif(tmp_path / "m.sif", frames)
    with open_movie(tmp_path / "m.sif") as movie:
        assert (movie.n_frames, movie.height, movie.width) == shape
        np.testing.assert_array_equal(movie.read(0, shape[0]), frames)
        last = movie.read(shape[0] - 1, shape[0])
        np.testing.assert_array_equal(last, frames[-1:])
        assert movie.damage is None
        assert movie.facts() == {"exposure_ms": pytest.approx(14.57)}
        assert "DU897_BV, gain set to 56;" in movie.notes()[0]
        assert "binned" not in movie.notes()[0]
    assert find_movies(tmp_path) == [tmp_path / "m.sif"]


def test_binning_is_told(tmp_path: Path) -> None:
    frames = counts((2, 16, 24))
    write_sif(tmp_path / "m.sif", frames, binning=2)
    with open_movie(tmp_path / "m.sif") as movie:
        np.testing.assert_array_equal(movie.read(0, 2), frames)
        assert "binned 2 x 2" in movie.notes()[0]


@pytest.mark.parametrize(
    ("kept", "says"),
    [(16, "cannot be read"), (600, "cannot be read"), (-40, "is it complete")],
)
def test_a_file_that_was_cut_is_one_line(kept: int, says: str, tmp_path: Path) -> None:
    path = tmp_path / "m.sif"
    write_sif(path, counts((3, 8, 8)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=says) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_spectra_are_no_movie(tmp_path: Path) -> None:
    write_sif(tmp_path / "m.sif", counts((4, 1, 64)))
    with pytest.raises(InputError, match=r"spectra.*image mode"):
        open_movie(tmp_path / "m.sif")
