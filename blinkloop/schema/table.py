"""Localizations and true emitters as structured arrays with stated units.

Coordinates: x = column, y = row, in camera pixels, origin at the centre of pixel (0, 0)
of the chip; z in nm. Frames count from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "DETECTION_COLUMNS",
    "EMITTER_DTYPE",
    "LOCALIZATION_DTYPE",
    "LocalizationTable",
    "empty_emitters",
]

DETECTION_COLUMNS = (
    "prob",
    "x_px",
    "y_px",
    "z_nm",
    "photons",
    "background_photons",
    "x_sigma_px",
    "y_sigma_px",
    "z_sigma_nm",
    "photons_sigma",
    "p_pixel",
)
"""Columns of the streaming graph's detection table, in order."""

LOCALIZATION_DTYPE = np.dtype(
    [
        ("frame", "<i8"),
        ("x_px", "<f8"),
        ("y_px", "<f8"),
        ("z_nm", "<f4"),
        ("photons", "<f4"),
        ("background_photons", "<f4"),
        ("x_sigma_px", "<f4"),
        ("y_sigma_px", "<f4"),
        ("z_sigma_nm", "<f4"),
        ("photons_sigma", "<f4"),
        ("prob", "<f4"),
    ]
)
"""One localization. `background_photons` is per pixel; NaN = not known."""

EMITTER_DTYPE = np.dtype(
    [
        ("frame", "<i8"),
        ("id", "<i8"),
        ("x_px", "<f8"),
        ("y_px", "<f8"),
        ("z_nm", "<f4"),
        ("photons", "<f4"),
        ("background_photons", "<f4"),
    ]
)
"""One true emitter in one frame; `photons` are those emitted within that frame."""


def empty_emitters() -> npt.NDArray[np.void]:
    """Ground truth without any emitter."""
    return np.zeros(0, EMITTER_DTYPE)


@dataclass(frozen=True, slots=True)
class LocalizationTable:
    """Localizations and the settings that made them.

    Parameters
    ----------
    data
        Structured array (N,) of `LOCALIZATION_DTYPE`.
    meta
        JSON-serializable facts: `pixel_size_nm`, `width_px`, `height_px`, `frames`,
        `model`, `camera`, `three_dimensional`, program version ...
    """

    data: npt.NDArray[np.void]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data.dtype != LOCALIZATION_DTYPE or self.data.ndim != 1:
            raise TypeError(
                f"a localization table is a 1D array of LOCALIZATION_DTYPE, got "
                f"{self.data.ndim}D {self.data.dtype}"
            )

    def __len__(self) -> int:
        return int(self.data.shape[0])

    @classmethod
    def empty(cls, meta: Mapping[str, Any] | None = None) -> LocalizationTable:
        """A table with no rows."""
        return cls(np.zeros(0, LOCALIZATION_DTYPE), dict(meta or {}))
