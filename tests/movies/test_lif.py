"""Leica .lif: files laid out as LAS X does (doubles); `liffile` reads the same."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import liffile
import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.cli._bead_stacks import read_stacks
from blinkloop.cli._options import CameraFlags
from blinkloop.errors import InputError
from blinkloop.integrations.movies import (
    MovieDamagedError,
    MovieSource,
    find_movies,
    movie_identity,
    open_movie,
)

Frames = npt.NDArray[Any]
FILETIME = 133_000_000_000_000_000
AXES = {"X": 1, "Y": 2, "Z": 3, "T": 4, "M": 10}


def _tags(name: str, **values: object) -> str:
    said = " ".join(f"{key}={quoteattr(str(value))}" for key, value in values.items())
    return f"<{name} {said}/>"


def series(
    name: str,
    frames: Frames,
    axes: str = "TYX",
    *,
    padding: int = 0,
    channels: int = 1,
    exposure: tuple[str, ...] = ("0.03",),
    times: bool = True,
    unit: str = "m",
) -> tuple[str, str, bytes]:
    """Name, XML and pixels of one series; 100 nm pixels, a frame every 50 ms."""
    depth = frames.dtype.itemsize
    data = np.pad(frames, [(0, 0)] * (frames.ndim - 1) + [(0, padding)])
    description = "".join(
        _tags(
            "ChannelDescription",
            DataType=0,
            ChannelTag=0,
            Resolution=8 * depth,
            NameOfMeasuredQuantity="",
        )[:-2]
        + ' Min="0" Max="1" Unit="" LUTName="Gray" IsLUTInverted="0" '
        + f'BytesInc="{k}" BitInc="0"/>'
        for k in range(channels)
    )
    dimensions = "".join(
        _tags(
            "DimensionDescription",
            DimID=AXES[axis],
            NumberOfElements=frames.shape[k],
            Origin="0",
            Length=f"{1e-7 * (frames.shape[k] - 1):e}",
            Unit=unit,
            BytesInc=data.strides[k],
            BitInc=0,
        )
        for k, axis in reversed(list(enumerate(axes)))
    )
    stamps = " ".join(f"{FILETIME + 500_000 * k:x}" for k in range(len(frames)))
    stamps = f"<TimeStampList>{stamps}</TimeStampList>" if times else ""
    camera = "".join(_tags("WideFieldChannelInfo", ExposureTime=e) for e in exposure)
    xml = (
        f"<Element Name={quoteattr(name)} UniqueID='{name}'><Data><Image>"
        f"<ImageDescription><Channels>{description}</Channels><Dimensions>{dimensions}"
        f"</Dimensions></ImageDescription>{stamps}<Attachment Name='HardwareSetting'>"
        f"<ATLCameraSettingDefinition><WideFieldChannelConfigurator>{camera}"
        f"</WideFieldChannelConfigurator></ATLCameraSettingDefinition></Attachment>"
        f"</Image></Data><Memory Size='{data.nbytes}' MemoryBlockID='Mem_{name}'/>"
        f"</Element>"
    )
    return name, xml, data.tobytes()


def write_lif(path: Path, *parts: tuple[str, str, bytes], version: int = 2) -> None:
    """The description, then a block of memory for each series."""
    inside = "".join(part[1] for part in parts)
    xml = (
        f'<LMSDataContainerHeader Version="{version}"><Element Name="project.lif">'
        f"<Data/><Children>{inside}</Children></Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    body = struct.pack("<IIBI", 0x70, 5 + len(text), 0x2A, len(xml)) + text
    for name, _, pixels in parts:
        ident = f"Mem_{name}"
        body += struct.pack(
            "<IIBQBI" if version == 2 else "<IIBIBI",
            0x70,
            0,
            0x2A,
            len(pixels),
            0x2A,
            len(ident),
        ) + ident.encode("utf-16-le")
        body += pixels
    path.write_bytes(body)


def counts(*shape: int, kind: str = "<u2") -> Frames:
    top = 255 if kind == "u1" else 60_000
    return np.random.default_rng(0).integers(90, top, shape).astype(kind)


@pytest.mark.parametrize("kind", ["u1", "<u2"])
@pytest.mark.parametrize("padding", [0, 3])
def test_frames_are_those_of_the_series(
    kind: str, padding: int, tmp_path: Path
) -> None:
    frames = counts(6, 7, 13, kind=kind)
    path = tmp_path / "m.lif"
    write_lif(path, series("GSD 1", frames, padding=padding))
    with open_movie(path) as movie:
        assert (movie.n_frames, movie.height, movie.width) == frames.shape
        np.testing.assert_array_equal(movie.read(0, 6), frames)
        np.testing.assert_array_equal(movie.read(4, 5), frames[4:5])
        some = movie.read_rows(1, 4, 2, 5)  # type: ignore[attr-defined]
        np.testing.assert_array_equal(some, frames[1:4, 2:5])
        assert movie.facts() == {
            "pixel_size_nm": pytest.approx(100),
            "exposure_ms": pytest.approx(30),
            "bit_depth": 8 if kind == "u1" else 16,
        }
        times = [frame.timestamp_s for frame in MovieSource(movie).frames()]
        np.testing.assert_allclose(times, np.arange(6) * 0.05, atol=1e-6)
        (note,) = movie.notes()
        assert "m.lif/GSD 1: e-/ADU" in note
    assert find_movies(tmp_path) == [path]


def test_the_series_in_time_is_taken(tmp_path: Path) -> None:
    frames = counts(6, 7, 13)
    path = tmp_path / "m.lif"
    parts = [
        series("snapshot", counts(7, 13), "YX"),
        series("GSD", frames),
        series("beads", counts(5, 7, 13), "ZYX"),
    ]
    write_lif(path, *parts)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 6), frames)
    with open_movie(path / "beads") as movie:
        np.testing.assert_array_equal(movie.read(0, 5), counts(5, 7, 13))
        assert "planes along z are read as frames" in movie.notes()[0]
        assert movie.z_step_nm == pytest.approx(100)  # type: ignore[attr-defined]
    with open_movie(path / "snapshot") as movie:
        assert movie.n_frames == 1
        # It is known again by the file, whichever series of it is read.
        assert movie_identity(path / "snapshot", movie)["files"] == 1


def test_calibrate_knows_the_step(tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    frames = counts(6, 17, 23)
    write_lif(path, series("beads", frames, "ZYX"), series("GSD", frames))
    read = read_stacks([path / "beads"], dz_nm=None, flags=CameraFlags(None, {}))
    assert read.dz_nm == pytest.approx(100)
    assert read.pixel_size_nm == pytest.approx(100)
    (stack,) = read.stacks
    np.testing.assert_array_equal(stack.pixels, frames)
    with pytest.raises(InputError, match="z step is not known"):
        read_stacks([path], dz_nm=None, flags=CameraFlags(None, {}))  # the movie


def test_several_series_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    first, second = counts(6, 7, 13), counts(4, 7, 13)
    write_lif(path, series("A", first), series("B", second))
    with pytest.raises(InputError, match=r"2 series that can be movies: A, B;.*lif/A"):
        open_movie(path)
    with open_movie(path / "B") as movie:
        np.testing.assert_array_equal(movie.read(0, 4), second)
    with pytest.raises(InputError, match=r"no series 'C'; it holds A, B"):
        open_movie(path / "C")


@pytest.mark.parametrize(
    ("exposure", "expected_ms"),
    [
        (("0.03", "0.03"), 30),
        (("25.5 ms",), 25.5),
        (("0.03", "0.05"), None),
        (("",), None),
        ((), None),
    ],
)
def test_exposure_times(
    exposure: tuple[str, ...], expected_ms: float | None, tmp_path: Path
) -> None:
    path = tmp_path / "m.lif"
    write_lif(path, series("A", counts(2, 5, 9), exposure=exposure))
    with open_movie(path) as movie:
        found = movie.facts().get("exposure_ms")
    assert found == (None if expected_ms is None else pytest.approx(expected_ms))


def test_what_the_file_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    write_lif(path, series("A", counts(3, 5, 9), times=False, unit=""))
    with open_movie(path) as movie:
        assert "pixel_size_nm" not in movie.facts()
        times = [frame.timestamp_s for frame in MovieSource(movie, fps=10).frames()]
    np.testing.assert_allclose(times, [0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("axes", "shape", "how", "says"),
    [
        ("TZYX", (3, 4, 5, 9), {}, "4 planes along z at every time"),
        ("TMYX", (3, 4, 5, 9), {}, "4 positions.*has one"),
        ("TYX", (3, 5, 9), {"channels": 2}, "2 channels.*LAS X"),
        ("TZX", (3, 5, 9), {}, "no images of rows and columns"),
    ],
)
def test_what_is_no_movie(
    axes: str, shape: tuple[int, ...], how: dict[str, Any], says: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.lif"
    write_lif(path, series("A", counts(*shape), axes, **how))
    with pytest.raises(InputError, match=says) as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_a_project_without_movie(tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    parts = [series(name, counts(5, 9), "YX") for name in "AB"]
    write_lif(path, *parts)
    with pytest.raises(InputError, match=r"holds no movie.*A, B"):
        open_movie(path)


def test_another_reader_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    frames = counts(6, 7, 13)
    write_lif(path, series("snapshot", counts(7, 13), "YX"), series("A", frames))
    with liffile.LifFile(path) as file:
        (image,) = (image for image in file.images if image.path == "A")
        np.testing.assert_array_equal(image.asarray(), frames)
        x_m = image.coords["X"]
        clock_ms = (image.timestamps - image.timestamps[0]).astype(int)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 6), frames)
        size_nm = movie.facts()["pixel_size_nm"]
        times = [frame.timestamp_s for frame in MovieSource(movie).frames()]
    assert size_nm == pytest.approx(1e9 * (x_m[1] - x_m[0]))
    np.testing.assert_allclose(times, 1e-3 * clock_ms, atol=1e-6)


def test_old_projects(tmp_path: Path) -> None:
    """Version 1: lengths of 32 bits, times as two halves."""
    path = tmp_path / "m.lif"
    frames = counts(3, 5, 9)
    halves = [divmod(31_000_000 * 2**32 - 1 + 500_000 * k, 2**32) for k in range(3)]
    stamps = "".join(
        _tags("TimeStamp", HighInteger=high, LowInteger=low) for high, low in halves
    )
    name, xml, pixels = series("A", frames)
    start, end = xml.index("<TimeStampList>") + 15, xml.index("</TimeStampList>")
    write_lif(path, (name, xml[:start] + stamps + xml[end:], pixels), version=1)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 3), frames)
        times = [frame.timestamp_s for frame in MovieSource(movie).frames()]
    np.testing.assert_allclose(times, [0, 0.05, 0.1], atol=1e-6)


def test_series_in_folders(tmp_path: Path) -> None:
    frames, other = counts(3, 5, 9), counts(4, 5, 9)
    _, xml, pixels = series("A", frames)
    folder = f"<Element Name='Day 1'><Children>{xml}</Children></Element>"
    write_lif(tmp_path / "m.lif", ("A", folder, pixels), series("B", other))
    with open_movie(tmp_path / "m.lif" / "Day 1" / "A") as movie:
        np.testing.assert_array_equal(movie.read(0, 3), frames)


def test_frames_that_do_not_touch(tmp_path: Path) -> None:
    frames = counts(4, 5, 9)
    name, xml, _ = series("A", frames)
    size = frames[0].nbytes
    apart = b"".join(frame.tobytes() + bytes(range(6)) for frame in frames)
    xml = xml.replace(f'BytesInc="{size}"', f'BytesInc="{size + 6}"')
    write_lif(tmp_path / "m.lif", (name, xml, apart))
    with open_movie(tmp_path / "m.lif") as movie:
        np.testing.assert_array_equal(movie.read(0, 4), frames)


def test_real_numbers(tmp_path: Path) -> None:
    frames = counts(3, 5, 9).astype("<f4") / 8
    name, xml, pixels = series("A", frames)
    write_lif(tmp_path / "m.lif", (name, xml, pixels))
    with pytest.raises(InputError, match="pixels of 32 bits"):
        open_movie(tmp_path / "m.lif")
    real = xml.replace('DataType="0"', 'DataType="1"')
    write_lif(tmp_path / "m.lif", (name, real, pixels))
    with open_movie(tmp_path / "m.lif") as movie:
        np.testing.assert_array_equal(movie.read(0, 3), frames)
        assert "bit_depth" not in movie.facts()


def test_a_copy_that_was_cut_gives_the_frames_before(tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    frames = counts(6, 7, 13)
    write_lif(path, series("A", frames))
    path.write_bytes(path.read_bytes()[:-400])
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, movie.n_frames), frames[:3])
        assert "after 3 of 6 frames" in str(movie.damage)


@pytest.mark.parametrize("kept", [9, 12, 600])
def test_a_file_that_was_cut_is_one_line(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    write_lif(path, series("A", counts(6, 7, 13)))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="is it complete") as caught:
        open_movie(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "m.lif"
    write_lif(path, series("A", counts(6, 7, 13)))
    with open_movie(path) as movie:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 3 * 7 * 13 * 2 + 10)
        with pytest.raises(MovieDamagedError) as caught:
            movie.read(0, 6)
    assert caught.value.readable == 3
