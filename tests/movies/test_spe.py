"""Princeton .spe: files written from the places of the header and the XML text."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import find_movies, open_movie

NAMESPACE = "http://www.princetoninstruments.com/spe/2009"
CODES = {"f4": 0, "i4": 1, "i2": 2, "u2": 3}


def write_2(
    path: Path,
    frames: npt.NDArray[Any],
    *,
    regions: int = 0,
    binning: int = 1,
    code: int | None = None,
    exposure_s: float = 0.03,
) -> None:
    """A file as WinView 2.5 writes it."""
    count, height, width = frames.shape
    header = bytearray(4100)
    kind = CODES.get(frames.dtype.str[1:], 99) if code is None else code
    struct.pack_into("<f", header, 10, exposure_s)
    struct.pack_into("<H", header, 42, width)
    struct.pack_into("<h", header, 108, kind)
    struct.pack_into("<H", header, 656, height)
    struct.pack_into("<i", header, 1446, count)
    struct.pack_into("<h", header, 1510, regions)
    place = (186, 185 + width, binning, 235, 234 + height, binning)
    struct.pack_into("<6H", header, 1512, *place)
    struct.pack_into("<f", header, 1992, 2.5)
    struct.pack_into("<I", header, 2996, 0x01234567)
    path.write_bytes(bytes(header) + frames.tobytes())


def write_3(
    path: Path,
    frames: npt.NDArray[np.uint16],
    *,
    between: int = 0,
    regions: int = 1,
    text: str | None = None,
) -> None:
    """A file as LightField writes it; `between` bytes of times behind every frame."""
    count, height, width = frames.shape
    size = frames[0].nbytes
    said = text or (
        f'<SpeFormat version="3.0" xmlns="{NAMESPACE}"><DataFormat>'
        f'<DataBlock type="Frame" count="{count}" pixelFormat="MonochromeUnsigned16" '
        f'size="{size}" stride="{size + between}">'
        + f'<DataBlock type="Region" count="1" size="{size}" stride="{size}" '
        f'width="{width}" height="{height}"/>'
        * regions
        + '</DataBlock></DataFormat><Calibrations><SensorMapping id="1" x="64" y="32" '
        f'width="{width}" height="{height}" xBinning="1" yBinning="1"/></Calibrations>'
        '<DataHistories><DataHistory><Origin><Experiment xmlns="http://www.'
        'princetoninstruments.com/experiment/2009"><Devices><Cameras><Camera>'
        '<ShutterTiming><ExposureTime type="Double">12.5</ExposureTime>'
        "</ShutterTiming></Camera></Cameras></Devices></Experiment></Origin>"
        "</DataHistory></DataHistories></SpeFormat>"
    )
    pixels = b"".join(frame.tobytes() + b"\x55" * between for frame in frames)
    header = bytearray(4100)
    struct.pack_into("<Q", header, 678, 4100 + len(pixels))
    struct.pack_into("<f", header, 1992, 3.0)
    path.write_bytes(bytes(header) + pixels + said.encode())


def counts(shape: tuple[int, int, int], kind: str = "u2") -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(90, 30_000, shape).astype(f"<{kind}")


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("shape", [(1, 7, 9), (5, 21, 34)], ids=["one", "odd"])
def test_frames_of_winview(
    shape: tuple[int, int, int], kind: str, tmp_path: Path
) -> None:
    frames = counts(shape, kind)
    write_2(tmp_path / "m.SPE", frames)
    with open_movie(tmp_path / "m.SPE") as movie:
        assert (movie.n_frames, movie.height, movie.width) == shape
        np.testing.assert_array_equal(movie.read(0, shape[0]), frames)
        assert movie.origin == (185, 234)
        assert movie.facts() == {"exposure_ms": pytest.approx(30)}
        assert movie.damage is None
    assert find_movies(tmp_path) == [tmp_path / "m.SPE"]


@pytest.mark.parametrize("between", [0, 16], ids=["plain", "times"])
def test_frames_of_lightfield(between: int, tmp_path: Path) -> None:
    frames = counts((5, 9, 14))
    write_3(tmp_path / "m.spe", frames, between=between)
    with open_movie(tmp_path / "m.spe") as movie:
        np.testing.assert_array_equal(movie.read(0, 5), frames)
        np.testing.assert_array_equal(movie.read(4, 5), frames[4:])
        got = movie.read_rows(2, 4, 3, 8)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(got, frames[2:4, 3:8])
        assert movie.origin == (64, 32)
        assert movie.facts() == {"exposure_ms": 12.5}


def test_a_binned_chip_has_no_origin(tmp_path: Path) -> None:
    write_2(tmp_path / "m.spe", counts((2, 8, 9)), binning=2, exposure_s=0)
    with open_movie(tmp_path / "m.spe") as movie:
        assert movie.origin == (0, 0)
        assert "binned 2 x 2" in movie.notes()[0]
        assert movie.facts() == {}


def test_a_file_that_became_shorter_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.spe"
    frames = counts((5, 8, 9))
    write_2(path, frames)
    path.write_bytes(path.read_bytes()[:-200])
    with open_movie(path) as movie:
        assert "ends after 3 of 5 frames" in str(movie.damage)
        np.testing.assert_array_equal(movie.read(0, 3), frames[:3])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"regions": 2}, "2 regions.*each region alone"),
        ({"code": 77}, r"no \.spe of Princeton.*type of pixels 77"),
    ],
)
def test_what_is_no_movie_of_winview(
    settings: dict[str, int], says: str, tmp_path: Path
) -> None:
    write_2(tmp_path / "m.spe", counts((2, 8, 9)), **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=says):
        open_movie(tmp_path / "m.spe")


def test_what_is_no_movie_of_lightfield(tmp_path: Path) -> None:
    path = tmp_path / "m.spe"
    write_3(path, counts((2, 8, 9)), regions=2)
    with pytest.raises(InputError, match=r"2 regions"):
        open_movie(path)
    write_3(path, counts((2, 8, 9)), text="<SpeFormat><Data")
    with pytest.raises(InputError, match=r"was the recording stopped") as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)
    write_3(path, counts((2, 1, 9)))
    with pytest.raises(InputError, match=r"spectra .*image mode"):
        open_movie(path)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(InputError, match=r"4000 of 4100 bytes"):
        open_movie(path)
