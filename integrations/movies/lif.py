"""Movies of Leica LAS X and LAS AF (.lif): series of one channel.

A file is a project of many series. The one that runs in time is taken; when several do,
`project.lif/Series 1` names one, with the folders it lies in.

Little endian: 0x70, a length (uint32 each), "*", the number of letters (uint32) of an
XML text in UTF-16, which describes the series; then blocks of memory: 0x70, a length,
"*", bytes of the pixels (uint64, in version 1 uint32), "*", letters of a name, the
name, the pixels. A series names its block, and says for every axis its kind, size and
the bytes from one step to the next.

Tried with files of LAS X that are no movies (sweeps of wavelengths, channels in xz:
refused), one of them also after its wavelengths were called times; otherwise with files
laid out as these are. The package `liffile` reads the same from all of them. It is not
used: it reads frames whose rows touch, and nothing of a block whose end is missing.
"""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.integrations.movies.blocks import BlockMovie
from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["LifMovie", "is_lif"]

_HEAD = struct.Struct("<IIBI")
_BLOCKS = {1: struct.Struct("<IIBIBI"), 2: struct.Struct("<IIBQBI")}
_MARK, _STAR = 0x70, ord("*")
_AXIS = "./ImageDescription/Dimensions/DimensionDescription"
_CHANNEL = "./ImageDescription/Channels/ChannelDescription"
_X, _Y, _Z, _T = 1, 2, 3, 4
_WORDS = {
    5: "emission wavelengths",
    6: "angles",
    9: "excitation wavelengths",
    10: "positions",
    11: "loops",
}
_ADVICE = "export it from LAS X as TIFF (16 bit, not scaled)"
_SHOWN = 6


def is_lif(path: Path, head: bytes) -> bool:
    """Whether a file starts as LAS X writes it."""
    return head.startswith(b"p\0\0\0") and head[8:9] == b"*"


class LifMovie(MovieBase):
    """One series: a channel in time, or along z.

    Parameters
    ----------
    path
        The `.lif` file.
    series
        Name of the series with its folders; None: the only one that can be a movie.

    Raises
    ------
    InputError
        The file cannot be read, or no series of it, or more than one, is a movie.
    """

    def __init__(self, path: Path, series: str | None = None) -> None:
        try:
            with path.open("rb") as file:
                root, blocks = _read(file)
            name, image = _choose(dict(_series(root)), path, series)
            self._rows = self._open(path, name, image, blocks)
        except InputError:
            raise
        except (struct.error, ET.ParseError, LookupError, ValueError) as error:
            raise InputError(
                f"{path.name}: the Leica file cannot be read ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:120]}); is it complete? Copy it "
                f"again, or {_ADVICE}"
            ) from error
        shape = (self._rows.n_frames, self._rows.height, self._columns)
        super().__init__(
            f"{path.name}/{name}", shape, self._stored, damage=self._rows.damage
        )

    def _open(
        self, path: Path, series: str, image: ET.Element, blocks: Mapping[str, int]
    ) -> BlockMovie:
        """The rows of the frames, with what may lie behind each row."""
        name = f"{path.name}/{series}"
        about, memory = image.find("./Data/Image"), image.find("./Memory")
        if about is None or memory is None:
            raise ValueError("a series without description")
        axes = _axes(about, name)
        stored = _pixels(about, name)
        height, width = axes[_Y]["NumberOfElements"], axes[_X]["NumberOfElements"]
        row_bytes = axes[_Y]["BytesInc"]
        if (
            axes[_X]["BytesInc"] != stored.itemsize
            or row_bytes < width * stored.itemsize
            or row_bytes % stored.itemsize
        ):
            raise InputError(
                f"{name}: its pixels do not lie in rows (xz, or several colours); "
                f"{_ADVICE}"
            )
        long = next((axes[k] for k in (_T, _Z) if _long(axes, k)), None)
        count = 1 if long is None else long["NumberOfElements"]
        self._along_z = _long(axes, _Z)
        self._found = _facts(about)
        self.z_step_nm = _step_nm(about, _Z) if self._along_z else None
        self._times_s = [] if self._along_z else _times_s(about)
        if len(self._times_s) != count:
            self._times_s = []
        self._stored, self._columns = stored, width
        return BlockMovie(
            path,
            (count, height, row_bytes // stored.itemsize),
            stored,
            offset=blocks[memory.attrib["MemoryBlockID"]],
            stride=None if long is None else long["BytesInc"],
        )

    @property
    def time_s(self) -> Callable[[int], float] | None:
        """When a frame came, s since the first one; None when the file has no times."""
        times = self._times_s
        if not times or (len(times) > 1 and times[-1] <= times[0]):
            return None
        return lambda index: times[index] - times[0]

    def facts(self) -> Mapping[str, Any]:
        """Pixel size, exposure time and bits; gains are settings, no numbers."""
        return dict(self._found)

    def notes(self) -> tuple[str, ...]:
        """What the file does not say; planes along z."""
        planes = ("its planes along z are read as frames",) if self._along_z else ()
        camera = (
            "e-/ADU, baseline and real EM gain are in the camera's data sheet "
            "(--e-per-adu, --baseline, --em-gain)"
        )
        return tuple(f"{self._name}: {said}" for said in (*planes, camera))

    def close(self) -> None:
        """Close the file."""
        self._rows.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._load_rows(start, stop, 0, self.height)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        block = self._rows.read_rows(start, stop, top, bottom)
        return block[:, :, : self._columns].astype(self._stored, copy=False)


def _read(file: BinaryIO) -> tuple[ET.Element, dict[str, int]]:
    """The description, and where the pixels of each block of memory start."""
    *_, letters = _HEAD.unpack(file.read(_HEAD.size))
    text = file.read(2 * letters)
    if len(text) < 2 * letters:
        raise ValueError("the file ends within its description")
    root = ET.fromstring(text.decode("utf-16-le"))
    form = _BLOCKS[int(root.attrib["Version"])]
    blocks: dict[str, int] = {}
    while len(head := file.read(form.size)) == form.size:
        mark, _, star, size, _, letters = form.unpack(head)
        if (mark, star) != (_MARK, _STAR):
            break
        name = file.read(2 * letters).decode("utf-16-le", "replace")
        blocks[name] = file.tell()
        file.seek(size, 1)
    return root, blocks


def _series(root: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    """Names, with those of the folders, and descriptions of all series."""

    def within(parent: ET.Element, folder: str) -> Iterator[tuple[str, ET.Element]]:
        for element in parent.iterfind("./Children/Element"):
            name = folder + element.get("Name", "")
            if element.find("./Data/Image") is not None:
                yield name, element
            yield from within(element, f"{name}/")

    for project in root.iterfind("./Element"):
        yield from within(project, "")


def _choose(
    images: Mapping[str, ET.Element], path: Path, series: str | None
) -> tuple[str, ET.Element]:
    """The series of that name, or the only one that runs in time or along z."""
    if series is not None:
        if series in images:
            return series, images[series]
        raise InputError(
            f"{path.name} has no series {series!r}; it holds {_names(images)}"
        )
    for kind in (_T, _Z):
        movies = [name for name, image in images.items() if _steps(image, kind) > 1]
        if len(movies) > 1:
            raise InputError(
                f"{path.name} holds {len(movies)} series that can be movies: "
                f"{_names(movies)}; name one, e.g. {path.name}/{movies[0]}"
            )
        if movies:
            return movies[0], images[movies[0]]
    if len(images) == 1:
        return next(iter(images.items()))
    raise InputError(
        f"{path.name} holds no movie (its series: {_names(images)}); give another file"
    )


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(listed[:_SHOWN]) or "none"
    return shown + (", ..." if len(listed) > _SHOWN else "")


def _steps(image: ET.Element, kind: int) -> int:
    axis = image.find(f"./Data/Image/{_AXIS}[@DimID='{kind}']")
    return 1 if axis is None else int(axis.attrib["NumberOfElements"])


def _axes(about: ET.Element, name: str) -> dict[int, dict[str, int]]:
    """Numbers of the axes by their kind, or what there is besides a movie."""
    channels = len(about.findall(_CHANNEL))
    if channels != 1:
        raise InputError(
            f"{name} has {channels} channels, and a movie is one; save the channel of "
            f"the molecules alone, or {_ADVICE}"
        )
    axes: dict[int, dict[str, int]] = {}
    for axis in about.iterfind(_AXIS):
        kind, *values = (
            int(axis.attrib[key]) for key in ("DimID", "NumberOfElements", "BytesInc")
        )
        numbers = dict(zip(("NumberOfElements", "BytesInc"), values, strict=True))
        if kind not in (_X, _Y, _Z, _T) and numbers["NumberOfElements"] > 1:
            raise InputError(
                f"{name} has {numbers['NumberOfElements']} "
                f"{_WORDS.get(kind, f'steps of axis {kind}')}, and a movie has one; "
                f"save the one to be analysed alone, or {_ADVICE}"
            )
        axes[kind] = numbers
    if _X not in axes or _Y not in axes:
        raise InputError(f"{name}: holds no images of rows and columns; {_ADVICE}")
    if _long(axes, _T) and _long(axes, _Z):
        raise InputError(
            f"{name} has {axes[_Z]['NumberOfElements']} planes along z at every time, "
            f"and a movie has one; save the one to be analysed alone, or {_ADVICE}"
        )
    return axes


def _long(axes: dict[int, dict[str, int]], kind: int) -> bool:
    return kind in axes and axes[kind]["NumberOfElements"] > 1


def _pixels(about: ET.Element, name: str) -> np.dtype[Any]:
    """Type of the pixels, from their bits."""
    channel = about.find(_CHANNEL)
    bits = _number(channel, "Resolution")
    real = _number(channel, "DataType") == 1
    for most, stored in ((8, "u1"), (16, "<u2")):
        if not real and 1 <= bits <= most:
            return np.dtype(stored)
    if real and bits == 32:
        return np.dtype("<f4")
    raise InputError(f"{name}: pixels of {bits:g} bits are not known; {_ADVICE}")


def _times_s(about: ET.Element) -> list[float]:
    """When the frames came: 100 ns, two halves in old files and hexadecimal in new."""
    stamps = about.find("./TimeStampList")
    if stamps is None:
        return []
    old = [
        (int(s.attrib["HighInteger"]) << 32) + int(s.attrib["LowInteger"])
        for s in stamps.iterfind("./TimeStamp")
    ]
    ticks = old or [int(text, 16) for text in (stamps.text or "").split()]
    # Differences first: as float64 s since 1601 are good to some us only.
    return [1e-7 * (tick - ticks[0]) for tick in ticks]


def _step_nm(about: ET.Element, kind: int) -> float | None:
    """From one pixel or plane to the next; the length ends at the last one's centre."""
    axis = about.find(f"{_AXIS}[@DimID='{kind}']")
    if axis is None or axis.get("Unit") != "m":
        return None
    steps = max(int(axis.attrib["NumberOfElements"]) - 1, 1)
    step_nm = 1e9 * abs(_number(axis, "Length")) / steps
    return step_nm if 0 < step_nm < float("inf") else None


def _facts(about: ET.Element) -> dict[str, Any]:
    """Pixel size, exposure time and bits, where they are told without doubt."""
    found: dict[str, Any] = {}
    size_nm = _step_nm(about, _X)
    if size_nm is not None:
        found["pixel_size_nm"] = size_nm
    exposures_ms = {_exposure_ms(c) for c in about.iter("WideFieldChannelInfo")}
    if len(exposures_ms) == 1 and 0 < (exposure_ms := exposures_ms.pop()) < 1e9:
        found["exposure_ms"] = exposure_ms
    bits = _number(about.find(_CHANNEL), "Resolution")
    if 1 <= bits <= 16:
        found["bit_depth"] = int(bits)
    return found


def _exposure_ms(camera: ET.Element) -> float:
    """In seconds, unless it says so; 0 when it is not a number."""
    text = camera.get("ExposureTime", "").strip()
    factor = 1.0 if text.endswith("ms") else 1e3
    try:
        return factor * float(text.removesuffix("ms"))
    except ValueError:
        return 0.0


def _number(element: ET.Element | None, key: str) -> float:
    """An attribute; 0 when it is missing or no number."""
    try:
        return 0.0 if element is None else float(element.get(key, 0))
    except ValueError:
        return 0.0
