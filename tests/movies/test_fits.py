"""FITS: files written card by card from the standard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import find_movies, open_movie

BITS = {"u1": 8, "i2": 16, "u2": 16, "i4": 32, "u4": 32, "f4": -32}


def write_fits(
    path: Path,
    frames: npt.NDArray[Any],
    *,
    axes: tuple[int, ...] | None = None,
    more: tuple[str, ...] = (),
    behind: bytes = b"",
) -> None:
    """The primary header and its pixels; unsigned ones with half their range taken."""
    kind = frames.dtype.str[1:]
    sizes = frames.shape[::-1] if axes is None else axes
    cards = ["SIMPLE  =                    T", f"BITPIX  = {BITS[kind]:20d} / bits"]
    cards.append(f"NAXIS   = {len(sizes):20d}")
    cards += [f"NAXIS{k + 1:<3d}= {size:20d}" for k, size in enumerate(sizes)]
    pixels = frames
    if kind in ("u2", "u4"):
        half = 2 ** (8 * frames.itemsize - 1)
        cards += [f"BZERO   = {half:20d}", "BSCALE  =                  1.0"]
        signed = frames.astype(np.int64) - half
        pixels = signed.astype(kind.replace("u", "i"))
    cards += [*more, "END"]
    header = "".join(card.ljust(80) for card in cards).encode()
    header = header.ljust(-(-len(header) // 2880) * 2880)
    data = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    data = data.ljust(-(-len(data) // 2880) * 2880, b"\0")
    path.write_bytes(header + data + behind)


def counts(shape: tuple[int, ...], kind: str = "u2") -> npt.NDArray[Any]:
    high = 250 if kind == "u1" else 30_000 if kind == "i2" else 65_000
    return np.random.default_rng(0).integers(0, high, shape).astype(kind)


@pytest.mark.parametrize("kind", BITS)
def test_frames_are_those_written(kind: str, tmp_path: Path) -> None:
    frames = counts((5, 21, 34), kind)
    write_fits(tmp_path / "m.fits", frames, more=("EXPOSURE= 0.03 / s",))
    with open_movie(tmp_path / "m.fits") as movie:
        assert (movie.n_frames, movie.height, movie.width) == (5, 21, 34)
        np.testing.assert_array_equal(movie.read(0, 5), frames)
        got = movie.read_rows(2, 4, 3, 8)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(got, frames[2:4, 3:8])
        assert movie.facts() == {"exposure_ms": pytest.approx(30)}
    assert find_movies(tmp_path) == [tmp_path / "m.fits"]


def test_one_picture_and_an_axis_of_one(tmp_path: Path) -> None:
    write_fits(tmp_path / "one.fits", counts((7, 9)))
    with open_movie(tmp_path / "one.fits") as movie:
        np.testing.assert_array_equal(movie.read(0, 1), counts((1, 7, 9)))
        assert movie.facts() == {}
    write_fits(tmp_path / "m.fits", counts((3, 7, 9)), axes=(9, 7, 1, 3))
    with open_movie(tmp_path / "m.fits") as movie:
        np.testing.assert_array_equal(movie.read(0, 3), counts((3, 7, 9)))


def test_a_movie_that_was_cut_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.fits"
    write_fits(path, counts((50, 8, 9)))
    path.write_bytes(path.read_bytes()[: 2880 + 8 * 9 * 2 * 20 + 5])
    with open_movie(path) as movie:
        assert movie.n_frames == 20
        assert "ends after 20 of 50 frames" in str(movie.damage)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"axes": (9, 7, 3, 2)}, "9 x 7 x 3 x 2, and a movie"),
        ({"axes": ()}, "holds no image"),
        ({"more": ("BSCALE  = 2.0", "BZERO   = 0")}, "no counts of a camera"),
        ({"more": ("BZERO   = 100",)}, "BZERO 100 shifts"),
        ({"behind": b"XTENSION= 'IMAGE   '".ljust(2880)}, "further images"),
    ],
    ids=["axes", "none", "scaled", "shifted", "several"],
)
def test_what_is_no_movie(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    write_fits(tmp_path / "m.fits", counts((6, 7, 9), "i2"), **settings)
    with pytest.raises(InputError, match=says) as caught:
        open_movie(tmp_path / "m.fits")
    assert "\n" not in str(caught.value)


def test_a_header_that_was_cut_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.fits").write_bytes(b"SIMPLE  =                    T")
    with pytest.raises(InputError, match="ends within its header"):
        open_movie(tmp_path / "m.fits")
