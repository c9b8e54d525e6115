"""Small tables for the tests of the metrics."""

from __future__ import annotations

import numpy as np

from blinkloop.schema import EMITTER_DTYPE, LOCALIZATION_DTYPE


def emitters(rows):
    """Rows of (frame, x_px, y_px, z_nm, photons)."""
    return _table(rows, EMITTER_DTYPE, ("frame", "x_px", "y_px", "z_nm", "photons"))


def localizations(rows):
    """Rows of (frame, x_px, y_px, z_nm)."""
    return _table(rows, LOCALIZATION_DTYPE, ("frame", "x_px", "y_px", "z_nm"))


def _table(rows, dtype, names):
    table = np.zeros(len(rows), dtype)
    columns = np.array(rows, float).reshape(-1, len(names)).T
    for name, column in zip(names, columns, strict=True):
        table[name] = column
    return table
