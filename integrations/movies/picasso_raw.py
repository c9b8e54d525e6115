"""Picasso's raw movies: pixels in `name.raw`, their description in `name.yaml`.

The description's keys are those of Picasso (doi:10.1038/nprot.2017.024): `Byte Order`
("<" or ">"), `Data Type`, `Frames`, `Height`, `Width`, and possibly `Pixelsize` (nm),
`Baseline` (ADU), `Sensitivity` (electrons per ADU), `Gain` and `Qe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blinkloop.errors import InputError
from blinkloop.extras import require
from blinkloop.integrations.movies.blocks import BlockMovie

__all__ = ["PicassoRawMovie", "is_picasso_raw"]

_FACTS = {
    "Pixelsize": "pixel_size_nm",
    "Baseline": "baseline_adu",
    "Sensitivity": "e_per_adu",
    "Gain": "em_gain",
    "Qe": "quantum_efficiency",
}


def is_picasso_raw(path: Path, head: bytes) -> bool:
    """Whether the ending says so: raw pixels have no mark of their own."""
    return path.suffix.lower() == ".raw"


class PicassoRawMovie(BlockMovie):
    """A `.raw` file described by the `.yaml` file of the same name.

    Parameters
    ----------
    path
        The `.raw` file.

    Raises
    ------
    InputError
        When the description is missing, cannot be read, or does not fit the pixels.
    """

    def __init__(self, path: Path) -> None:
        described = _describe(path)
        shape = tuple(_whole(described, key, path) for key in _SHAPE)
        dtype = _pixel_type(described, path)
        expected = int(np.prod(shape)) * dtype.itemsize
        size = path.stat().st_size
        if size > expected:
            raise InputError(
                f"{path.name} holds {size} bytes, but {path.stem}.yaml describes "
                f"{expected} ({shape[0]} frames of {shape[2]} x {shape[1]} px, "
                f"{dtype}); correct the description"
            )
        super().__init__(path, (shape[0], shape[1], shape[2]), dtype)
        self._described = described

    def facts(self) -> Mapping[str, Any]:
        """Camera facts under Picasso's own keys."""
        found = {}
        for key, field in _FACTS.items():
            value = self._described.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                found[field] = float(value)
        if found.get("em_gain", 1.0) < 1:
            del found["em_gain"]
        return found

    def notes(self) -> tuple[str, ...]:
        """Says when only the settings of a simulation name a pixel size."""
        key = "Camera.Pixelsize"
        if key in self._described and "Pixelsize" not in self._described:
            # Picasso's own Localize ignores this key: in its example data the movie
            # says 160 here and its localizations 130.
            remark = (
                f"{self._name}: {key} = {self._described[key]} nm is a setting of the "
                f"program that simulated the movie and is not used; if it is the true "
                f"pixel size, say --pixel-size-nm {self._described[key]}"
            )
            return (remark,)
        return ()


_SHAPE = ("Frames", "Height", "Width")


def _describe(path: Path) -> Mapping[str, Any]:
    """First document of the description."""
    yaml = require("yaml", "Reading Picasso raw movies", "io")
    beside = path.with_suffix(".yaml")
    if not beside.is_file():
        raise InputError(
            f"{path.name}: its description {beside.name} is missing, so size and type "
            f"of the frames are not known; copy both files"
        )
    try:
        first = next(iter(yaml.safe_load_all(beside.read_text(encoding="utf-8"))), None)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{beside.name} cannot be read as YAML ({_one_line(error)}); "
            f"copy it again or correct it"
        ) from error
    if not isinstance(first, dict):
        raise InputError(
            f"{beside.name} does not describe a movie (it holds "
            f"{type(first).__name__}); it must name Frames, Height, Width, Data Type"
        )
    return first


def _whole(described: Mapping[str, Any], key: str, path: Path) -> int:
    value = described.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"{path.stem}.yaml: {key} must be a whole number above 0, got {value!r}"
        )
    return value


def _pixel_type(described: Mapping[str, Any], path: Path) -> np.dtype[Any]:
    name, order = described.get("Data Type"), described.get("Byte Order", "<")
    try:
        dtype = np.dtype(str(name))
        return dtype.newbyteorder(order)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path.stem}.yaml: Data Type {name!r} with Byte Order {order!r} is not "
            f"known; write for example uint16 and '<'"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
