"""Nikon .nd2: files laid out as NIS-Elements does (doubles), by the real reader."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.errors import InputError
from blinkloop.integrations.movies import MovieDamagedError, find_movies, open_movie

Frames = npt.NDArray[np.uint16]
TIME, POSITIONS, PLANES, PHASES = 1, 2, 4, 8
CAPTURING = "Andor DU-897\r\nSample 1:\r\n  Exposure: {} ms\r\n  Multiplier: 300"


def _chunk(name: bytes, data: bytes) -> bytes:
    """Mark, lengths, the name in a field that fills the block of 4096 bytes, data."""
    field = name.ljust((-16 - 8 - len(name)) % 4096 + len(name), b"\0")
    body = struct.pack("<IIQ", 0x0ABECEDA, len(field), len(data)) + field + data
    return body.ljust(-(-len(body) // 4096) * 4096, b"\0")


def _tree(name: str, value: Any) -> bytes:
    """A value of the metadata: type, name in UTF-16, little endian content."""
    head = (name + "\0").encode("utf-16-le")
    kind, content = 3, b""
    if isinstance(value, bool):
        kind, content = 1, struct.pack("<B", value)
    elif isinstance(value, int):
        content = struct.pack("<I", value)
    elif isinstance(value, float):
        kind, content = 6, struct.pack("<d", value)
    elif isinstance(value, str):
        kind, content = 8, (value + "\0").encode("utf-16-le")
    head = struct.pack("<BB", kind, len(name) + 1) + head
    if not isinstance(value, dict):
        return head + content
    content = b"".join(_tree(key, one) for key, one in value.items())
    head = bytes([11]) + head[1:]
    length = len(head) + 12 + len(content)
    places = bytes(8 * len(value))
    return head + struct.pack("<IQ", len(value), length) + content + places


def _loops(loops: list[tuple[int, int]]) -> dict[str, Any]:
    """Loops within one another, the outermost first."""
    (kind, count), *inner = loops
    settings: dict[str, Any] = {
        "uiCount": count,
        "dStart": 0.0,
        "dPeriod": 30.0,
        "dDuration": 30.0 * count,
    }
    if kind == POSITIONS:
        settings["Points"] = {f"i{k:010}": {"dPosX": 1.0 * k} for k in range(count)}
    if kind == PLANES:
        settings |= {"dZStep": 0.05, "dZLow": 0.0, "dZHigh": 0.05 * (count - 1)}
    if kind == PHASES:
        settings["pPeriodValid"] = {"i0000000000": True}
        settings["pPeriod"] = {"i0000000000": dict(settings)}
    said: dict[str, Any] = {"eType": kind, "uLoopPars": settings}
    if inner:
        said["ppNextLevelEx"] = {"i0000000000": _loops(inner)}
    return said


def write_nd2(
    path: Path,
    frames: Frames,
    loops: list[tuple[int, int]],
    *,
    channels: int = 1,
    padding: int = 0,
    exposure: str = "30",
    described: bool = True,
    missing: tuple[int, ...] = (),
) -> None:
    """Pictures (k, rows, columns * channels) of version 3.0, not compressed."""
    count, height, width = frames.shape
    attributes = {
        "uiWidth": width // channels,
        "uiWidthBytes": 2 * (width + padding),
        "uiHeight": height,
        "uiComp": channels,
        "uiBpcInMemory": 16,
        "uiBpcSignificant": 14,
        "uiSequenceCount": count,
        "eCompression": 2,
    }
    planes = {
        f"a{k}": {
            "uiCompCount": 1,
            "sDescription": f"c{k}",
            "pFilterPath": {"m_sDescr": ""},
            "pFluorescentProbe": {"m_sName": "", "m_uiColor": 255},
        }
        for k in range(channels if described else 0)
    }
    picture = {
        "bCalibrated": True,
        "dCalibration": 0.107,
        "sPicturePlanes": {"uiCount": channels, "sPlaneNew": planes},
    }
    text = {"TextInfoItem_6": CAPTURING.format(exposure)}
    rows = np.pad(frames, ((0, 0), (0, 0), (0, padding)))
    chunks = {
        b"ImageAttributesLV!": _tree("SLxImageAttributes", attributes),
        b"ImageMetadataSeqLV|0!": _tree("SLxPictureMetadata", picture),
        b"ImageTextInfoLV!": _tree("SLxImageTextInfo", text),
    }
    if loops:
        chunks[b"ImageMetadataLV!"] = _tree("SLxExperiment", _loops(loops))
    for k in set(range(count)) - set(missing):
        chunks[b"ImageDataSeq|%d!" % k] = (
            struct.pack("<d", 30.0 * k) + rows[k].tobytes()
        )
    start = b"ND2 FILE SIGNATURE CHUNK NAME01!"
    version = b"Ver3.0".ljust(64, b"\0")
    file = struct.pack("<IIQ", 0x0ABECEDA, len(start), len(version)) + start + version
    file = file.ljust(4096, b"\0")
    places = b""
    for name, data in chunks.items():
        places += name + struct.pack("<QQ", len(file), len(data))
        file += _chunk(name, data)
    last = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    places += last + struct.pack("<Q", len(file))
    name = b"ND2 FILEMAP SIGNATURE NAME 0001!"
    file += struct.pack("<IIQ", 0x0ABECEDA, len(name), len(places)) + name + places
    path.write_bytes(file)


def counts(shape: tuple[int, int, int]) -> Frames:
    return np.random.default_rng(0).integers(90, 16_000, shape).astype(np.uint16)


@pytest.mark.parametrize(
    ("shape", "loops", "padding"),
    [
        ((7, 21, 34), [(TIME, 7)], 0),
        ((5, 7, 9), [(TIME, 5)], 1),
        ((4, 8, 6), [(PHASES, 4)], 0),
        ((6, 8, 5), [(POSITIONS, 1), (TIME, 6)], 0),
        ((1, 7, 9), [], 0),
        ((3, 1, 9), [(TIME, 3)], 0),
        # Stopped, or asked for without an end: the count of the loop is a wish.
        ((4, 8, 6), [(TIME, 9)], 0),
    ],
    ids=["odd", "padded", "phases", "position", "one", "row", "stopped"],
)
def test_frames_are_those_written(
    shape: tuple[int, int, int],
    loops: list[tuple[int, int]],
    padding: int,
    tmp_path: Path,
) -> None:
    frames = counts(shape)
    write_nd2(tmp_path / "m.nd2", frames, loops, padding=padding)
    with open_movie(tmp_path / "m.nd2") as movie:
        assert (movie.n_frames, movie.height, movie.width) == shape
        assert movie.dtype == np.uint16
        np.testing.assert_array_equal(movie.read(0, shape[0]), frames)
        last = movie.read(shape[0] - 1, shape[0])
        np.testing.assert_array_equal(last, frames[-1:])
        assert movie.facts() == {
            "pixel_size_nm": pytest.approx(107),
            "exposure_ms": pytest.approx(30),
            "bit_depth": 14,
        }
        (note,) = movie.notes()
        assert "Andor DU-897; Sample 1:; Exposure: 30 ms; Multiplier: 300;" in note
    assert find_movies(tmp_path) == [tmp_path / "m.nd2"]


@pytest.mark.parametrize(
    ("loops", "channels", "says"),
    [
        ([(TIME, 3), (POSITIONS, 2)], 1, "2 positions.*Split ND"),
        ([(TIME, 3), (PLANES, 2)], 1, "2 planes along z"),
        ([(TIME, 6)], 2, "2 channels.*Split Channels"),
        ([(TIME, 3), (PHASES, 2)], 1, "does not say.*export it as TIFF"),
        ([], 1, "6 pictures and does not say"),
    ],
    ids=["positions", "z", "channels", "times", "nothing"],
)
def test_other_axes_are_not_read_as_frames(
    loops: list[tuple[int, int]], channels: int, says: str, tmp_path: Path
) -> None:
    write_nd2(tmp_path / "m.nd2", counts((6, 8, 12)), loops, channels=channels)
    with pytest.raises(InputError, match=says) as caught:
        open_movie(tmp_path / "m.nd2")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("exposure", ["30", "none"])
def test_a_stack_of_beads(exposure: str, tmp_path: Path) -> None:
    """Planes at one time: what `calibrate` needs; for a movie it is said."""
    frames = counts((5, 8, 12))
    write_nd2(tmp_path / "m.nd2", frames, [(PLANES, 5)], exposure=exposure)
    with open_movie(tmp_path / "m.nd2") as movie:
        np.testing.assert_array_equal(movie.read(0, 5), frames)
        assert movie.z_step_nm == pytest.approx(50)  # type: ignore[attr-defined]
        assert "planes along z are read as frames" in movie.notes()[0]
    write_nd2(tmp_path / "m.nd2", frames, [(TIME, 5)])
    with open_movie(tmp_path / "m.nd2") as movie:
        assert movie.z_step_nm is None  # type: ignore[attr-defined]
        assert "planes" not in "".join(movie.notes())


def test_a_frame_that_is_not_there_is_not_read_as_dark(tmp_path: Path) -> None:
    frames = counts((5, 8, 12))
    frames[1] = 0  # dark, and there
    write_nd2(tmp_path / "m.nd2", frames, [(TIME, 5)], missing=(3, 4))
    with open_movie(tmp_path / "m.nd2") as movie:
        with pytest.raises(MovieDamagedError, match="frame 3 of 5") as caught:
            movie.read(0, 5)
        assert caught.value.readable == 3
        np.testing.assert_array_equal(movie.read(0, 3), frames[:3])


def test_channels_without_a_description_are_read(tmp_path: Path) -> None:
    frames = counts((3, 8, 12))
    write_nd2(tmp_path / "m.nd2", frames, [(TIME, 3)], described=False)
    with open_movie(tmp_path / "m.nd2") as movie:
        np.testing.assert_array_equal(movie.read(0, 3), frames)
        assert movie.facts() == {"exposure_ms": 30.0, "bit_depth": 14}


def test_two_exposure_times_are_none(tmp_path: Path) -> None:
    twice = "30 ms\r\nExposure: 5"
    write_nd2(tmp_path / "m.nd2", counts((2, 8, 9)), [(TIME, 2)], exposure=twice)
    with open_movie(tmp_path / "m.nd2") as movie:
        assert "exposure_ms" not in movie.facts()


@pytest.mark.parametrize("kept", [20, 3000, 30_000, -30])
def test_a_file_that_was_cut_is_one_line(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "m.nd2"
    write_nd2(path, counts((3, 8, 8)), [(TIME, 3)])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="is it complete") as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_files_of_old_versions_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "m.nd2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n".ljust(400, b"\0"))
    with pytest.raises(InputError, match=r"old version of Nikon.*NIS-Elements"):
        open_movie(tmp_path / "m.nd2")
