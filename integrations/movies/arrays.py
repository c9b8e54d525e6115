"""Movies kept as plain arrays: NumPy files and Zarr folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.movies.blocks import BlockMovie
from blinkloop.integrations.movies.movie import MovieBase

__all__ = [
    "NpyMovie",
    "ZarrMovie",
    "axis_notes",
    "frames_shape",
    "is_npy",
    "is_zarr",
    "open_npy",
    "open_zarr",
]

_COLOURS, _SMALLEST_PX = 4, 16
"""Frames are wider than colours are many, when they are as high as this."""
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
_TO_NM = {
    "angstrom": 0.1,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "um": 1e3,
    "µm": 1e3,
    "millimeter": 1e6,
    "meter": 1e9,
}


def is_npy(path: Path, head: bytes) -> bool:
    """Whether a file starts as `numpy.save` writes it."""
    return head.startswith(b"\x93NUMPY")


def open_npy(path: Path) -> BlockMovie:
    """Open an array (frames, rows, columns), or one frame (rows, columns).

    Raises
    ------
    InputError
        When it is no such array, holds objects or lies in Fortran order.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(file)
        except ValueError as error:
            raise InputError(
                f"{path.name}: the NumPy header cannot be read ({error}); "
                f"save the array again with numpy.save"
            ) from error
        offset = file.tell()
    if fortran and len(shape) > 1:
        raise InputError(
            f"{path.name}: the array lies in Fortran order, in which single frames "
            f"cannot be read; save numpy.ascontiguousarray(movie)"
        )
    return NpyMovie(path, frames_shape(shape, path.name), dtype, offset=offset)


class NpyMovie(BlockMovie):
    """Frames of a NumPy file."""

    def notes(self) -> tuple[str, ...]:
        """Says when the frames seem to lie along another axis."""
        return axis_notes(self._name, (self.n_frames, self.height, self.width))


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((path / name).is_file() for name in _ZARR_FILES)


def open_zarr(path: Path) -> ZarrMovie:
    """Open a Zarr array (frames, rows, columns) or an OME-Zarr image of one channel.

    Raises
    ------
    InputError
        When the folder holds no such array.
    """
    zarr = require("zarr", "Reading Zarr movies", "io")
    facts: dict[str, Any] = {}
    try:
        node = zarr.open(str(path), mode="r")
    except Exception as error:  # zarr raises many kinds for a damaged folder
        raise InputError(
            f"{path.name}: the Zarr folder cannot be opened "
            f"({type(error).__name__}: {error}); is it complete?"
        ) from error
    if isinstance(node, zarr.Group):
        node, facts = _image_of(node, path.name)
    _refuse_order(getattr(node.metadata, "dimension_names", None), path.name)
    return ZarrMovie(path.name, node, facts)


class ZarrMovie(MovieBase):
    """Frames of a Zarr array, read chunk by chunk.

    Parameters
    ----------
    name
        Folder, for messages.
    array
        Opened array; axes before the last two are walked in their order.
    facts
        What the image's metadata say of the camera.
    """

    def __init__(self, name: str, array: Any, facts: dict[str, Any]) -> None:
        super().__init__(name, frames_shape(array.shape, name), array.dtype)
        self._array = array
        self._lead = tuple(array.shape[:-2]) or (1,)
        self._facts = facts

    def notes(self) -> tuple[str, ...]:
        """Doubts: frames along another axis, and chunks that are not there."""
        shape = (self.n_frames, self.height, self.width)
        missing = self._array.nchunks - self._array.nchunks_initialized
        if missing < 1:
            return axis_notes(self._name, shape)
        return (
            *axis_notes(self._name, shape),
            f"{self._name}: {missing} of {self._array.nchunks} chunks are not there, "
            f"their pixels are read as {self._array.fill_value}; was the recording "
            f"stopped, or a copy of it?",
        )

    def facts(self) -> dict[str, Any]:
        """Pixel size of an OME-Zarr image."""
        return dict(self._facts)

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._load_rows(start, stop, 0, self.height)

    def _whole(self, start: int, stop: int, rows: slice) -> npt.NDArray[Any]:
        """What `_chunks` gives; the first frame that cannot be read is named."""
        try:
            return self._chunks(start, stop, rows)
        except Exception as error:  # codecs differ in what they raise
            if stop - start > 1:
                return np.concatenate(
                    [self._whole(i, i + 1, rows) for i in range(start, stop)]
                )
            raise self._broken(start, f"{type(error).__name__}: {error}") from error

    def _chunks(self, start: int, stop: int, rows: slice) -> npt.NDArray[Any]:
        if len(self._lead) == 1 and self._array.ndim == 3:
            return np.asarray(self._array[start:stop, rows])
        frames = [
            np.asarray(self._array[np.unravel_index(i, self._lead)])[rows]
            if self._array.ndim > 2
            else np.asarray(self._array[rows])
            for i in range(start, stop)
        ]
        return np.stack(frames)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        return self._whole(start, stop, slice(top, bottom))


def axis_notes(name: str, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """A remark when square frames seem to lie along the last axis, as in MATLAB."""
    n_frames, height, width = shape
    if n_frames != height or height == width or n_frames < 16:
        return ()
    return (
        f"{name}: read as {n_frames} frames of {width} x {height} px; if these are "
        f"{width} frames of {height} x {n_frames} px, save the array with the frames "
        f"along its first axis",
    )


def frames_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """(frames, rows, columns) of an array's shape; at most one long leading axis."""
    *lead, height, width = (1, 1, *shape)[-max(2, len(shape)) :]
    if len(shape) > 2 and width <= _COLOURS and min(shape[-3:-1]) >= _SMALLEST_PX:
        raise InputError(
            f"{name}: in an array of shape {shape} the last axis is of colours, or of "
            f"frames; give (frames, rows, columns), e.g. with numpy.moveaxis(movie, "
            f"-1, 0)"
        )
    if len(shape) < 2 or sum(n > 1 for n in lead) > 1:
        raise InputError(
            f"{name}: an array of shape {shape} is not one movie; give "
            f"(frames, rows, columns), one channel and one plane"
        )
    return int(np.prod([1, *lead])), int(height), int(width)


def _image_of(group: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """The one image of a group: of OME-Zarr, of bioformats2raw, or a single array."""
    attributes = dict(group.attrs)
    own = attributes.get("ome", attributes)
    if "multiscales" in own:
        return _largest_level(group, own["multiscales"], name)
    members = dict(group.members())
    if "bioformats2raw.layout" in own:
        # Images are groups "0", "1", ...; "OME" holds their description.
        images = [key for key in members if key.isdecimal()]
        if len(images) == 1:
            return _image_of(members[images[0]], name)
    elif len(members) == 1 and not hasattr(next(iter(members.values())), "members"):
        return next(iter(members.values())), {}
    inside = ", ".join(sorted(members)[:6]) or "nothing"
    first = next(iter(sorted(members)), "0")
    raise InputError(
        f"{name}: this Zarr group is not an OME-Zarr image (it holds {inside}); "
        f"give the folder of the array itself, e.g. {name}/{first}"
    )


def _largest_level(group: Any, described: Any, name: str) -> tuple[Any, dict[str, Any]]:
    """First array of an OME-Zarr image, and its pixel size when it is given."""
    try:
        image = described[0]
        level = image["datasets"][0]
        array = group[level["path"]]
    except (TypeError, KeyError, IndexError) as error:
        inside = ", ".join(sorted(group.keys())) or "nothing"
        raise InputError(
            f"{name}: this Zarr group is not an OME-Zarr image (it holds {inside}); "
            f"give the folder of the array itself"
        ) from error
    facts: dict[str, Any] = {}
    # First those of the level, then those of all levels: they multiply.
    scales = [
        float(t["scale"][-1])
        for one in (level, image)
        for t in one.get("coordinateTransformations", ())
        if t.get("type") == "scale" and "scale" in t
    ]
    axes = image.get("axes", ())
    _refuse_channels(axes, array.shape, name)
    _refuse_order([a.get("name") if isinstance(a, dict) else a for a in axes], name)
    if scales and axes and isinstance(axes[-1], dict):
        unit = _TO_NM.get(str(axes[-1].get("unit", "")))
        if unit is not None:
            facts["pixel_size_nm"] = math.prod(scales) * unit
    return array, facts


def _refuse_order(axes: Any, name: str) -> None:
    """Refuse axes whose names say that the last two are not rows and columns."""
    names = [str(axis).lower() for axis in axes or ()]
    if {"x", "y"} <= set(names) and names[-2:] != ["y", "x"]:
        raise InputError(
            f"{name}: its axes are {', '.join(names)}, and those of a movie end in y, "
            f"x; save the array with its axes in the order (frames, rows, columns)"
        )


def _refuse_channels(axes: Any, shape: tuple[int, ...], name: str) -> None:
    """Refuse a channel axis: its images would be taken for frames."""
    for axis, count in zip(axes, shape, strict=False):
        # Before version 0.4 an axis was its name alone.
        kind = axis.get("type") if isinstance(axis, dict) else axis
        if kind in ("channel", "c") and count > 1:
            raise InputError(
                f"{name} has {count} channels, and a movie is one; save the channel of "
                f"the localizations as an image of its own"
            )
