"""Facts of a table that files need beside its columns: pixel size, extent, PSF width.

Design notes
------------
Knows the keys of `LocalizationTable.meta`; knows no file format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from blinkloop.errors import InputError
from blinkloop.optics import GaussianPsf
from blinkloop.precision import precision_px
from blinkloop.runtime.report import jsonable
from blinkloop.schema import (
    LOCALIZATION_DTYPE,
    GaussianPsfSettings,
    LocalizationTable,
)

__all__ = [
    "blank_rows",
    "extent_px",
    "frames_from_zero",
    "is_3d",
    "kept_meta",
    "pixel_meta",
    "pixel_sizes_nm",
    "plain_meta",
    "psf_sigmas_px",
    "refuse_blank",
    "text_of",
    "with_bound",
]

Floats = npt.NDArray[np.float64]
_LAST_FRAME = 2**53
"""Beyond it a 64-bit floating point number skips integers."""


def text_of(value: object) -> str:
    """Text of an attribute, which some writers of HDF5 keep as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


def blank_rows(count: int) -> npt.NDArray[np.void]:
    """(count,) of `LOCALIZATION_DTYPE`: every value unknown (NaN), frame 0."""
    rows = np.zeros(count, LOCALIZATION_DTYPE)
    for name in LOCALIZATION_DTYPE.names or ():
        if name != "frame":
            rows[name] = np.nan
    return rows


def frames_from_zero(numbers: Floats, first: int, what: str) -> npt.NDArray[np.int64]:
    """Frames counted from 0.

    A table that has a frame 0 counts from 0, whatever its format does: Picasso exports
    ThunderSTORM tables so.

    Parameters
    ----------
    numbers
        As they are in the table, finite.
    first
        Number of the first frame in this format.
    what
        Names the file in the message.

    Raises
    ------
    InputError
        A frame is below 0, or too large to be counted.
    """
    large = numbers[numbers > _LAST_FRAME]
    if large.size:
        raise InputError(
            f"{what}: {large[0]:g} is no number of a frame; is the column of frames "
            f"damaged, or another one?"
        )
    frames = numbers.astype(np.int64)
    lowest = int(frames.min()) if frames.size else first
    if lowest < 0:
        raise InputError(
            f"{what}: frame {lowest} is below 0; number the frames from {first}"
        )
    return frames - min(first, lowest)


def refuse_blank(values: Floats, column: str, what: str) -> None:
    """Refuse a column that has cells without a (finite) number.

    Raises
    ------
    InputError
        With the first row in which that is so.
    """
    blank = ~np.isfinite(values)
    if blank.any():
        raise InputError(
            f"{what}: the column {column} has cells without a number (the first of "
            f"{np.count_nonzero(blank)} in row {int(np.argmax(blank)) + 1}); take "
            f"these rows out"
        )


def is_3d(table: LocalizationTable) -> bool:
    """As `meta["three_dimensional"]` says, else whether any z is known and not 0."""
    said = table.meta.get("three_dimensional")
    if isinstance(said, bool):
        return said
    z = table.data["z_nm"]
    return bool(np.any(np.isfinite(z) & (z != 0)))


def pixel_sizes_nm(
    meta: Mapping[str, Any], given: float | None, what: str
) -> tuple[float, float]:
    """Size of a pixel along x and y, nm.

    Parameters
    ----------
    meta
        Of the table: `pixel_size_nm`, or `pixel_size_xy_nm` when not square.
    given
        What a person said; it comes first.
    what
        Names the file in the message.

    Raises
    ------
    InputError
        When nobody says it, or it is not above 0.
    """
    value = given if given is not None else meta.get("pixel_size_xy_nm")
    if value is None:
        value = meta.get("pixel_size_nm")
    if value is None:
        raise InputError(
            f"{what}: the pixel size is not known, so px and nm cannot be converted; "
            f"say it with --pixel-size-nm"
        )
    x, y = value if isinstance(value, list | tuple) else (value, value)
    if not (0 < x < float("inf") and 0 < y < float("inf")):
        raise InputError(f"{what}: a pixel size is above 0 nm, got {value}")
    return float(x), float(y)


def pixel_meta(x_nm: float, y_nm: float) -> dict[str, Any]:
    """What `LocalizationTable.meta` says of the size of a pixel along x and y, nm."""
    meta: dict[str, Any] = {"pixel_size_nm": x_nm}
    return meta if x_nm == y_nm else meta | {"pixel_size_xy_nm": [x_nm, y_nm]}


def extent_px(table: LocalizationTable) -> tuple[int, int]:
    """Width and height of the smallest image from the chip's corner that holds it."""
    meta = table.meta
    roi = meta.get("roi_px")
    x, y = (int(roi[0]), int(roi[1])) if roi else (0, 0)
    size = []
    for start, key, column in ((x, "width_px", "x_px"), (y, "height_px", "y_px")):
        known = meta.get(key)
        values = table.data[column]
        values = values[np.isfinite(values)]
        seen = int(np.floor(values.max() + 0.5)) + 1 if values.size else 1
        size.append(start + int(known) if known else max(1, seen))
    return size[0], size[1]


def psf_sigmas_px(table: LocalizationTable) -> tuple[Floats, Floats] | None:
    """Widths of the PSF along x and y at each z, px; None when it is not a Gaussian.

    `meta["psf"]` is `PsfSettings` as a mapping.
    """
    try:
        settings = GaussianPsfSettings.model_validate(table.meta.get("psf"))
    except ValidationError:
        return None
    z = np.nan_to_num(table.data["z_nm"].astype(np.float64))
    x, y = GaussianPsf(settings).sigmas_px(z)
    return np.asarray(x), np.asarray(y)


def with_bound(
    sigma_px: npt.NDArray[Any], width_px: Floats, photons: Floats, background: Floats
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Precision in px, the theoretical one where it is not known; and where that is."""
    values = sigma_px.astype(np.float64)
    unknown = ~np.isfinite(values)
    values[unknown] = precision_px(width_px, photons, background)[unknown]
    return values, unknown


def kept_meta(
    table: LocalizationTable, text: str | bytes, pixel_size_nm: float | None = None
) -> LocalizationTable:
    """A table read from a file in which this program kept its own facts, as JSON.

    They come before what the file says otherwise, and after what a person said of the
    pixel size.
    """
    try:
        own = json.loads(text)
    except ValueError:
        return table
    if not isinstance(own, dict):
        return table
    meta = {**table.meta, **own}
    if "generated_by" not in own:
        meta.pop("generated_by", None)
    if pixel_size_nm is not None:
        meta.pop("pixel_size_xy_nm", None)
        meta["pixel_size_nm"] = pixel_size_nm
    return LocalizationTable(table.data, meta)


def plain_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as JSON knows them; what it does not know becomes text."""
    return {
        str(key): jsonable(
            value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        )
        for key, value in meta.items()
    }
