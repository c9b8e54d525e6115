"""Per-pixel facts of an sCMOS: maps of offset, gain and noise, in a file.

Every pixel of an sCMOS has an amplifier of its own (Huang et al. 2013,
doi:10.1038/nmeth.2488). Makers and calibration scripts give offset and variance in ADU
and the gain in ADU per electron, or electrons per ADU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from blinkloop.errors import InputError
from blinkloop.extras import require

__all__ = ["SensorMaps", "read_sensor_maps", "write_sensor_maps"]

Map = npt.NDArray[np.float32]

_NAMES = (
    "offset_adu",
    "e_per_adu",
    "gain_adu_per_e",
    "read_noise_e",
    "variance_adu2",
)
_TIFF_PAGES = ("offset_adu", "variance_adu2", "gain_adu_per_e")


@dataclass(frozen=True, slots=True, eq=False)
class SensorMaps:
    """Maps of a chip, or part of one, all (H, W) float32.

    Parameters
    ----------
    offset_adu
        Mean of dark frames.
    e_per_adu
        Electrons per ADU.
    read_noise_e
        SD of dark frames, electrons.
    """

    offset_adu: Map
    e_per_adu: Map
    read_noise_e: Map

    def crops(
        self, rng: np.random.Generator, count: int, height_px: int, width_px: int
    ) -> SensorMaps:
        """Random places of the chip: maps (count, height, width).

        Raises
        ------
        InputError
            When the maps are smaller than that.
        """
        rows, columns = self.offset_adu.shape
        if rows < height_px or columns < width_px:
            raise InputError(
                f"camera maps: they cover {columns} x {rows} px (width x height), "
                f"patches are {width_px} x {height_px} px; give maps of a larger part "
                f"of the chip, or set a smaller schedule.patch_px"
            )
        top = rng.integers(0, rows - height_px + 1, count)
        left = rng.integers(0, columns - width_px + 1, count)
        y = (top[:, None] + np.arange(height_px))[:, :, None]
        x = (left[:, None] + np.arange(width_px))[:, None, :]
        return SensorMaps(
            self.offset_adu[y, x], self.e_per_adu[y, x], self.read_noise_e[y, x]
        )


def read_sensor_maps(path: Path) -> SensorMaps:
    """Read maps from a `.npz`, HDF5 or TIFF file.

    `.npz` and HDF5: 2D arrays `offset_adu`; `e_per_adu` or `gain_adu_per_e`; and
    `read_noise_e` or `variance_adu2`. TIFF: three pages, in this order: offset in ADU,
    variance in ADU^2, gain in ADU per electron.

    Raises
    ------
    InputError
        The file cannot be read, lacks a map, or holds values no camera has.
    """
    found = _read(path)
    missing = []
    if "offset_adu" not in found:
        missing.append("offset_adu")
    if "e_per_adu" not in found and "gain_adu_per_e" not in found:
        missing.append("e_per_adu (or gain_adu_per_e)")
    if "read_noise_e" not in found and "variance_adu2" not in found:
        missing.append("read_noise_e (or variance_adu2)")
    if missing:
        raise InputError(
            f"camera maps {path}: no {', '.join(missing)} in it; it holds "
            f"{', '.join(sorted(found)) or 'no map known here'}"
        )
    shapes = {name: value.shape for name, value in found.items()}
    if len(set(shapes.values())) > 1 or len(found["offset_adu"].shape) != 2:
        raise InputError(
            f"camera maps {path}: all must be 2D and of one size, got {shapes}"
        )
    for name, value in found.items():
        positive = name in ("e_per_adu", "gain_adu_per_e")
        bad = ~np.isfinite(value) | (value <= 0 if positive else value < 0)
        if name == "offset_adu":
            bad = ~np.isfinite(value)
        if bad.any():
            row, column = (int(index) for index in np.argwhere(bad)[0])
            raise InputError(
                f"camera maps {path}: {name} is {value[row, column]} at column "
                f"{column}, row {row} ({int(bad.sum())} such pixels); replace bad "
                f"pixels by the median of their neighbours"
            )
    if "e_per_adu" in found:
        per_adu = found["e_per_adu"]
    else:
        per_adu = 1.0 / found["gain_adu_per_e"]
    if "read_noise_e" in found:
        read = found["read_noise_e"]
    else:
        read = np.sqrt(found["variance_adu2"]) * per_adu
    return SensorMaps(
        found["offset_adu"].astype(np.float32),
        per_adu.astype(np.float32),
        read.astype(np.float32),
    )


def write_sensor_maps(maps: SensorMaps, path: str | Path) -> Path:
    """Write maps as `read_sensor_maps` reads them (.npz).

    Raises
    ------
    InputError
        For another ending.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(
            f"camera maps are written as .npz, got {path.name!r}; change the ending"
        )
    np.savez_compressed(
        path,
        offset_adu=maps.offset_adu,
        e_per_adu=maps.e_per_adu,
        read_noise_e=maps.read_noise_e,
    )
    return path


def _read(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """All maps of a known name, float64."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"camera maps {path}: no such file; give an npz, h5 or TIFF")
    if suffix == ".npz":
        return _collect(path, np.load)
    if suffix in (".h5", ".hdf5"):
        h5py = require("h5py", "Reading camera maps from HDF5", "train")
        return _collect(path, h5py.File)
    if suffix in (".tif", ".tiff"):
        tifffile = require("tifffile", "Reading camera maps from TIFF", "io")
        try:
            pages = np.asarray(tifffile.imread(path), np.float64)
        except (OSError, ValueError) as error:
            raise InputError(f"camera maps {path}: not a TIFF ({error})") from error
        if pages.ndim != 3 or len(pages) != len(_TIFF_PAGES):
            raise InputError(
                f"camera maps {path}: a TIFF must hold three pages (offset ADU, "
                f"variance ADU^2, gain ADU/e), got the shape {pages.shape}"
            )
        return dict(zip(_TIFF_PAGES, pages, strict=True))
    raise InputError(
        f"camera maps {path}: unknown kind of file {suffix!r}; give .npz, .h5 or .tif"
    )


def _collect(path: Path, opened: Any) -> dict[str, npt.NDArray[np.float64]]:
    try:
        with opened(path) as file:
            return {
                name: np.asarray(file[name], np.float64)
                for name in _NAMES
                if name in file
            }
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"camera maps {path}: cannot be read ({reason})") from error
