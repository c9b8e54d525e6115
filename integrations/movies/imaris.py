"""Movies in Imaris 5.5 files (.ims), as Andor's Fusion writes them.

HDF5: `DataSet/ResolutionLevel 0/TimePoint t/Channel c/Data` is (z, rows, columns),
padded with zeros to whole chunks; the attributes ImageSizeX, Y and Z of its group say
what of it is image. `DataSetInfo/Image` has the extent in micrometres (ExtMin0 and
ExtMax0 of x), `DataSetInfo/TimeInfo` a time for each point. All attributes are arrays
of letters. The package `imaris-ims-file-reader` is not used: it brings scikit-image
along and reads a volume at a time.

No file of a microscope was found to try it with: tests lay files out as said here, and
that package reads the same from them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.movies.movie import MovieBase

__all__ = ["ImarisMovie", "is_imaris"]

_MARK = b"\x89HDF\r\n\x1a\n"
_FINEST = "DataSet/ResolutionLevel 0"
_MICROMETRES = ("um", "µm", "μm")
_ADVICE = "export it as TIFF (16 bit, not scaled)"


def is_imaris(path: Path, head: bytes) -> bool:
    """Whether a file is HDF5 and ends as Imaris files do."""
    return path.suffix.lower() == ".ims" and head.startswith(_MARK)


class ImarisMovie(MovieBase):
    """One channel in time, or along z.

    Parameters
    ----------
    path
        The `.ims` file.

    Raises
    ------
    InputError
        The file cannot be read, or has several channels, or both z and time.
    """

    def __init__(self, path: Path) -> None:
        h5py = require("h5py", "Reading Imaris files", "io")
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise _damaged(path, error) from error
        try:
            times, self._channel = self._find(path)
            depth, height, width = self._size(path, times)
            self._info = self._file.get("DataSetInfo", {})
            stored = self._image(0).dtype
            count = depth if self._along_z else times
            super().__init__(path.name, (count, height, width), stored)
            self._extent_um = self._extents()
        except InputError:
            self._file.close()
            raise
        except (OSError, RuntimeError, LookupError, ValueError) as error:
            # h5py says of a damaged group one or the other.
            self._file.close()
            raise _damaged(path, error) from error
        step = self._step_nm(2, depth)
        self.z_step_nm = step if self._along_z else None

    def _find(self, path: Path) -> tuple[int, str]:
        """Number of times, and the name of the channel."""
        finest = self._file[_FINEST]
        times = len(finest)
        if not times:
            raise InputError(f"{path.name} holds no image; was the recording stopped?")
        channels = list(finest["TimePoint 0"])
        if len(channels) != 1:
            raise InputError(
                f"{path.name} has {len(channels)} channels; {_ADVICE}, one channel"
            )
        return times, channels[0]

    def _image(self, time: int) -> Any:
        """The finest image of a time; opened when it is read, as there are many."""
        return self._file[f"{_FINEST}/TimePoint {time}/{self._channel}/Data"]

    def _size(self, path: Path, times: int) -> tuple[int, int, int]:
        first = self._image(0)
        about = first.parent.attrs
        sizes = [int(_text(about[f"ImageSize{axis}"])) for axis in "ZYX"]
        if any(n > m for n, m in zip(sizes, first.shape, strict=True)):
            raise ValueError("images are smaller than their description says")
        self._along_z = sizes[0] > 1
        if self._along_z and times > 1:
            raise InputError(
                f"{path.name} has {sizes[0]} planes at each of {times} times; "
                f"{_ADVICE}, one plane"
            )
        return sizes[0], sizes[1], sizes[2]

    def _extents(self) -> list[float]:
        """Width, height and depth of the field, um; NaN where it is not said."""
        about = getattr(self._info.get("Image"), "attrs", {})
        if _text(about.get("Unit", "um")).lower() not in _MICROMETRES:
            return [math.nan] * 3
        found = []
        for axis in range(3):
            ends = [about.get(f"Ext{end}{axis}") for end in ("Min", "Max")]
            low, high = (math.nan if v is None else float(_text(v)) for v in ends)
            found.append(high - low)
        return found

    def _step_nm(self, axis: int, count: int) -> float | None:
        step = 1e3 * self._extent_um[axis] / count
        return step if math.isfinite(step) and step > 0 else None

    @property
    def time_s(self) -> Callable[[int], float] | None:
        """When a frame came, s since the first one; None when the file has no times."""
        about = getattr(self._info.get("TimeInfo"), "attrs", {})
        if self._along_z:
            return None
        try:
            times = [
                datetime.fromisoformat(_text(about[f"TimePoint{number + 1}"]))
                for number in range(self.n_frames)
            ]
        except (KeyError, ValueError):
            return None
        if len(times) > 1 and times[-1] <= times[0]:
            return None
        return lambda index: (times[index] - times[0]).total_seconds()

    def facts(self) -> Mapping[str, Any]:
        """Pixel size; the file knows nothing of the camera's gain and baseline."""
        size = self._step_nm(0, self.width)
        # Imaris gives an image without a scale pixels of 1 um: no microscope has them.
        if size is None or math.isclose(size, 1000.0):
            return {}
        return {"pixel_size_nm": size}

    def notes(self) -> tuple[str, ...]:
        """What the file does not say; planes along z."""
        planes = ("its planes along z are read as frames",) if self._along_z else ()
        camera = (
            "e-/ADU, baseline and EM gain are in the camera's data sheet "
            "(--e-per-adu, --baseline, --em-gain)"
        )
        return tuple(f"{self._name}: {said}" for said in (*planes, camera))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _load(self, start: int, stop: int) -> npt.NDArray[Any]:
        return self._load_rows(start, stop, 0, self.height)

    def _load_rows(
        self, start: int, stop: int, top: int, bottom: int
    ) -> npt.NDArray[Any]:
        rows, columns = slice(top, bottom), slice(0, self.width)
        try:
            if self._along_z:
                return np.asarray(self._image(0)[start:stop, rows, columns])
            return np.stack(
                [self._image(time)[0, rows, columns] for time in range(start, stop)]
            )
        except (OSError, RuntimeError, LookupError) as error:
            raise InputError(
                f"{self._name}: frames {start} to {stop - 1} cannot be read "
                f"({_short(error)}); is the file complete, and is its compression "
                f"known here (pip install hdf5plugin)?"
            ) from error


def _text(value: object) -> str:
    """An attribute: letters one by one, or a text."""
    if isinstance(value, np.ndarray):
        return b"".join(np.asarray(value, "S1").ravel().tolist()).decode().strip()
    return value.decode() if isinstance(value, bytes) else str(value)


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path.name} cannot be read as an Imaris file ({_short(error)}); is it "
        f"complete, or still being written? Copy it again, or {_ADVICE}"
    )


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
