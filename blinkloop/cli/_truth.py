"""True emitters from a table file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["from_corner", "read_truth"]


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
