"""Imaris .ims: files laid out as its description says (doubles), with h5py."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from blinkloop.cli._bead_stacks import read_stacks
from blinkloop.cli._options import CameraFlags
from blinkloop.errors import InputError
from blinkloop.integrations.movies import find_movies, open_movie

h5py = pytest.importorskip("h5py", reason="needs the extra `io`")

Frames = npt.NDArray[Any]


def letters(value: object) -> Frames:
    return np.array(list(str(value)), "S1")


def write(
    path: Path,
    frames: Frames,
    *,
    along_z: bool = False,
    channels: int = 1,
    unit: str = "um",
    pixel_um: float = 0.11,
    times: bool = True,
) -> Path:
    """(T or Z, rows, columns) as Imaris does: padded, a coarser copy beside it."""
    volumes = frames[None] if along_z else frames[:, None]
    depth, height, width = volumes.shape[1:]
    with h5py.File(path, "w") as file:
        for time, volume in enumerate(volumes):
            padded = np.pad(volume, [(0, 3), (0, 5), (0, 7)])
            half = (depth, height // 2, width // 2)
            for channel, level in itertools.product(range(channels), range(2)):
                where = f"ResolutionLevel {level}/TimePoint {time}/Channel {channel}"
                group = file.create_group(f"DataSet/{where}")
                for axis, size in zip("ZYX", (volume.shape, half)[level], strict=True):
                    group.attrs[f"ImageSize{axis}"] = letters(size)
                pixels = padded[:, ::2, ::2] if level else padded
                group.create_dataset("Data", data=pixels, chunks=True, compression=2)
        about = file.create_group("DataSetInfo/Image").attrs
        about["Unit"] = letters(unit)
        for axis, size in zip("ZYX", (depth, height, width), strict=True):
            about[axis] = letters(size)
        for axis, size in enumerate(
            (pixel_um * width, pixel_um * height, 0.05 * depth)
        ):
            about[f"ExtMin{axis}"] = letters(f"{2.5:.3f}")
            about[f"ExtMax{axis}"] = letters(f"{2.5 + size:.6f}")
        if times:
            info = file.create_group("DataSetInfo/TimeInfo").attrs
            for time in range(len(volumes)):
                said = f"2024-08-28 14:56:{33 + 0.05 * time:06.3f}"
                info[f"TimePoint{time + 1}"] = letters(said)
    return path


@pytest.fixture
def frames() -> Frames:
    return np.random.default_rng(3).integers(0, 60000, (13, 17, 24)).astype(np.uint16)


def test_a_movie_is_read_without_its_padding(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path / "m.ims", frames)
    with open_movie(path) as movie:
        assert (movie.n_frames, movie.height, movie.width) == frames.shape
        np.testing.assert_array_equal(movie.read(0, 13), frames)
        np.testing.assert_array_equal(movie.read(11, 13), frames[11:])
        assert movie.read(4, 5).dtype == np.uint16
        assert movie.facts()["pixel_size_nm"] == pytest.approx(110, rel=1e-4)
        assert movie.time_s is not None
        assert movie.time_s(12) == pytest.approx(0.6)
        assert any("--e-per-adu" in line for line in movie.notes())
    assert find_movies(tmp_path) == [path]


def test_rows_alone_are_those_of_the_frames(tmp_path: Path, frames: Frames) -> None:
    with open_movie(write(tmp_path / "m.ims", frames)) as movie:
        np.testing.assert_array_equal(movie.read_rows(2, 6, 3, 11), frames[2:6, 3:11])


def test_one_frame(tmp_path: Path, frames: Frames) -> None:
    with open_movie(write(tmp_path / "m.ims", frames[:1])) as movie:
        np.testing.assert_array_equal(movie.read(0, 1), frames[:1])


def test_what_the_file_does_not_say(tmp_path: Path, frames: Frames) -> None:
    # Pixels of 1 um are what a file without a scale has; other units are not guessed.
    cases: dict[str, dict[str, Any]] = {"a": {"pixel_um": 1.0}, "b": {"unit": "pixel"}}
    for name, said in cases.items():
        path = write(tmp_path / f"{name}.ims", frames, times=False, **said)
        with open_movie(path) as movie:
            assert "pixel_size_nm" not in movie.facts()
            assert movie.time_s is None


def test_times_that_stand_still_are_none(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path / "m.ims", frames)
    with h5py.File(path, "a") as file:
        times = file["DataSetInfo/TimeInfo"].attrs
        for time in range(len(frames)):
            times[f"TimePoint{time + 1}"] = letters("2024-08-28 14:56:33.000")
    with open_movie(path) as movie:
        assert movie.time_s is None


def test_a_stack_of_beads(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path / "beads.ims", frames, along_z=True)
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 13), frames)
        np.testing.assert_array_equal(movie.read_rows(2, 6, 3, 11), frames[2:6, 3:11])
        assert movie.time_s is None
        assert any("along z" in line for line in movie.notes())
    found = read_stacks([path], dz_nm=None, flags=CameraFlags())
    assert found.dz_nm == pytest.approx(50, rel=1e-4)


def test_what_is_no_movie_is_one_clear_line(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path / "two.ims", frames, channels=2)
    with pytest.raises(InputError, match=r"two\.ims has 2 channels; export it as TIFF"):
        open_movie(path)
    both = write(tmp_path / "both.ims", frames[:4], along_z=True)
    with h5py.File(both, "a") as file:
        level = file["DataSet/ResolutionLevel 0"]
        file.copy(level["TimePoint 0"], level, name="TimePoint 1")
    with pytest.raises(InputError, match=r"has 4 planes at each of 2 times"):
        open_movie(both)
    short = write(tmp_path / "short.ims", frames)
    with h5py.File(short, "a") as file:
        group = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
        group.attrs["ImageSizeX"] = letters(999)
    with pytest.raises(InputError, match=r"smaller than their description says"):
        open_movie(short)
    other = tmp_path / "other.ims"
    with h5py.File(other, "w") as file:
        file["frames"] = frames
    with pytest.raises(
        InputError, match=r"other\.ims cannot be read as an Imaris file"
    ):
        open_movie(other)
    cut = write(tmp_path / "cut.ims", frames)
    cut.write_bytes(cut.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"cut\.ims cannot be read as an Imaris file"):
        open_movie(cut)
    old = tmp_path / "old.ims"
    old.write_bytes(b"II*\0 but no TIFF" + b"\1" * 300)
    with pytest.raises(InputError):
        open_movie(old)


def test_a_time_that_is_missing_is_said(tmp_path: Path, frames: Frames) -> None:
    path = write(tmp_path / "m.ims", frames)
    with h5py.File(path, "a") as file:
        del file["DataSet/ResolutionLevel 0/TimePoint 12/Channel 0/Data"]
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(0, 12), frames[:12])
        with pytest.raises(InputError, match="frames 12 to 12 cannot be read"):
            movie.read(12, 13)
