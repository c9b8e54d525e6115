"""What the peers write, in our table and units.

Both peers put the origin at the centre of the first pixel, x along the columns, as we
do; measured on single bright emitters (stage `check` of run.py), not taken from their
papers. What that stage finds is a constant shift of a peer's calibration (where the
middle of an averaged bead lies is a convention): it is taken off before scoring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from blinkloop.schema import LOCALIZATION_DTYPE

__all__ = [
    "PeerTable",
    "from_picasso",
    "from_smappy",
    "is_misread",
    "median_shift",
    "shifted",
]

LARGEST_SHIFT_PX = 0.3

Columns = Mapping[str, npt.NDArray[np.generic]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PeerTable:
    """Localizations of a peer and what its user can filter by.

    Parameters
    ----------
    rows
        `LOCALIZATION_DTYPE`.
    scores
        (N,) per way of setting the peer's detection threshold; a candidate is fitted
        when its score is above it.
    limits
        (N,) per post-filter; a localization is kept when its value is below the limit.
    """

    rows: npt.NDArray[np.void]
    scores: dict[str, Floats]
    limits: dict[str, Floats]


def from_smappy(columns: Columns, pixel_size_nm: float) -> PeerTable:
    """SMAPpy's table: nm, photons of the EM gain's input, excess noise undone."""
    if "frame" not in columns:
        return _empty(("peak_value", "peak_factor"), ("xy_err_nm", "misfit", "abs_z"))
    rows = np.zeros(len(columns["frame"]), LOCALIZATION_DTYPE)
    rows["frame"] = columns["frame"]
    rows["x_px"] = columns["x_nm"] / np.float64(pixel_size_nm)
    rows["y_px"] = columns["y_nm"] / np.float64(pixel_size_nm)
    rows["photons"] = columns["photons"]
    rows["background_photons"] = columns["background"]
    rows["x_sigma_px"] = columns["x_err_nm"] / np.float64(pixel_size_nm)
    rows["y_sigma_px"] = columns["y_err_nm"] / np.float64(pixel_size_nm)
    rows["prob"] = np.nan
    limits = {
        "xy_err_nm": _floats(columns["xy_err_nm"]),
        "misfit": -_floats(columns["logl_rel"]),
    }
    if "z_nm" in columns:
        rows["z_nm"] = columns["z_nm"]
        rows["z_sigma_nm"] = columns["z_err_nm"]
        limits["abs_z"] = np.abs(_floats(columns["z_nm"]))
    elif "sigma_nm" in columns:
        limits["width_nm"] = _floats(columns["sigma_nm"])
    scores = {name: _floats(columns[name]) for name in ("peak_value", "peak_factor")}
    return PeerTable(rows, scores, limits)


def from_picasso(columns: Columns, pixel_size_nm: float) -> PeerTable:
    """Picasso's table: x and y in px, z in nm."""
    if "frame" not in columns:
        return _empty(("net_gradient",), ("xy_err_nm", "misfit", "abs_z"))
    rows = np.zeros(len(columns["frame"]), LOCALIZATION_DTYPE)
    rows["frame"] = columns["frame"]
    rows["x_px"], rows["y_px"] = columns["x"], columns["y"]
    rows["photons"], rows["background_photons"] = columns["photons"], columns["bg"]
    rows["x_sigma_px"], rows["y_sigma_px"] = columns["lpx"], columns["lpy"]
    rows["prob"] = np.nan
    precision = np.hypot(_floats(columns["lpx"]), _floats(columns["lpy"])) / np.sqrt(2)
    limits = {"xy_err_nm": precision * pixel_size_nm}
    if "log_likelihood" in columns:
        limits["misfit"] = -_floats(columns["log_likelihood"])
    elif "chi_square" in columns:
        limits["misfit"] = _floats(columns["chi_square"])
    if "z" in columns:
        rows["z_nm"] = columns["z"]
        rows["z_sigma_nm"] = columns["lpz"]
        limits["abs_z"] = np.abs(_floats(columns["z"]))
    if "d_zcalib" in columns:
        limits["d_zcalib"] = _floats(columns["d_zcalib"])
    if "z" not in columns and "sx" in columns:
        width = np.maximum(_floats(columns["sx"]), _floats(columns["sy"]))
        limits["width_nm"] = width * pixel_size_nm
    return PeerTable(rows, {"net_gradient": _floats(columns["net_gradient"])}, limits)


def median_shift(
    truth: npt.NDArray[np.void], rows: npt.NDArray[np.void]
) -> tuple[float, float, float]:
    """Median error of x (px), y (px), z (nm) where frame f holds emitter f alone."""
    true = truth[rows["frame"]]
    return (
        float(np.nanmedian(rows["x_px"] - true["x_px"])),
        float(np.nanmedian(rows["y_px"] - true["y_px"])),
        float(np.nanmedian(rows["z_nm"] - true["z_nm"])),
    )


def is_misread(shift: tuple[float, float, float]) -> bool:
    """True for half a pixel or more of an axis mixed up: no matter of calibration."""
    return not max(abs(shift[0]), abs(shift[1])) <= LARGEST_SHIFT_PX


def shifted(
    rows: npt.NDArray[np.void], shift: tuple[float, float, float]
) -> npt.NDArray[np.void]:
    """A copy with a shift (px, px, nm) taken off."""
    moved = rows.copy()
    for name, value in zip(("x_px", "y_px", "z_nm"), shift, strict=True):
        moved[name] -= value
    return moved


def _empty(scores: tuple[str, ...], limits: tuple[str, ...]) -> PeerTable:
    none = np.zeros(0)
    return PeerTable(
        np.zeros(0, LOCALIZATION_DTYPE),
        dict.fromkeys(scores, none),
        dict.fromkeys(limits, none),
    )


def _floats(column: npt.NDArray[np.generic]) -> Floats:
    return np.asarray(column, np.float64)
