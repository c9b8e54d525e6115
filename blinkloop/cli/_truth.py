"""True emitters from a table file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from blinkloop.runtime import Roi

__all__ = ["from_corner", "read_truth", "true_density", "within"]


def read_truth(path: Path, pixel_size_nm: float) -> npt.NDArray[np.void]:
    """True emitters (`EMITTER_DTYPE`) from any table `convert` reads, or a .npz.

    Parameters
    ----------
    path
        A localization table; or what `VirtualMicroscope.save_truth` wrote (`emitters`
        in a .npz).
    pixel_size_nm
        For tables in nm.
    """
    import numpy as np

    from blinkloop.errors import InputError
    from blinkloop.integrations.formats import read_table
    from blinkloop.schema import EMITTER_DTYPE

    if path.suffix.lower() == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                rows = file["emitters"]
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                f"{path}: no true emitters in it ({type(error).__name__}); give the "
                f"truth.npz of a demo, or a table"
            ) from error
        emitters: npt.NDArray[np.void] = rows.astype(EMITTER_DTYPE)
        return emitters
    table = read_table(path, pixel_size_nm=pixel_size_nm).data
    emitters = np.zeros(len(table), EMITTER_DTYPE)
    for name in ("frame", "x_px", "y_px", "z_nm", "photons", "background_photons"):
        emitters[name] = table[name]
    # A truth table without photons holds every emitter that counts.
    emitters["photons"] = np.nan_to_num(emitters["photons"], nan=np.inf)
    return emitters


def from_corner(
    table: npt.NDArray[np.void], origin: tuple[int, int]
) -> npt.NDArray[np.void]:
    """A copy with positions from the corner of a region, not of the chip.

    Parameters
    ----------
    table
        Emitters or localizations.
    origin
        Column and row on the chip of the region's first pixel.
    """
    moved = table.copy()
    moved["x_px"] -= origin[0]
    moved["y_px"] -= origin[1]
    return moved


def within(table: npt.NDArray[np.void], field: Roi) -> npt.NDArray[np.bool_]:
    """Which rows lie in a part of the chip, up to the outer edge of its pixels."""
    x, y = table["x_px"] - field.x + 0.5, table["y_px"] - field.y + 0.5
    inside: npt.NDArray[np.bool_] = (x >= 0) & (x <= field.width)
    inside &= (y >= 0) & (y <= field.height)
    return inside


def true_density(
    emitters: npt.NDArray[np.void],
    frames: npt.NDArray[np.void],
    field: Roi,
    pixel_size_nm: float,
) -> npt.NDArray[np.float64]:
    """Emitters per um^2 that gave light from within a part of the chip.

    Parameters
    ----------
    emitters, frames
        Truth of a virtual microscope: both tables, frame numbers rising.
    field
        The part.
    pixel_size_nm
        In the sample.

    Returns
    -------
    numpy.ndarray
        (n,) for each row of `frames`.
    """
    import numpy as np

    rows = np.searchsorted(frames["frame"], emitters["frame"][within(emitters, field)])
    number = np.bincount(rows, minlength=len(frames))
    um2 = field.width * field.height * (pixel_size_nm / 1000) ** 2
    density: npt.NDArray[np.float64] = number / um2
    return density
